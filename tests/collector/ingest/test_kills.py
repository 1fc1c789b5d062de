"""Each call once and exact sums, whoever is killed when (F02, I1)."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.ports import free_port

from collector.domain.money import usd
from collector.ingest.books import Books
from collector.ingest.follower import Follower, FollowerConfig
from collector.store.duckdb import Database, DatabaseConfig
from collector.store.opening import LIVE, open_ledger

ROOT = Path(__file__).resolve().parents[3]


class Killed(BaseException):
    """The process ends here."""


class Mortal:
    """A connection that dies at its n-th statement."""

    def __init__(self, connection, statements: int) -> None:
        self._connection = connection
        self._left = statements

    def execute(self, *arguments):
        if self._left == 0:
            raise Killed
        self._left -= 1
        return self._connection.execute(*arguments)

    def __getattr__(self, name):
        return getattr(self._connection, name)


class MortalDatabase(Database):
    """A database whose transactions may be cut short."""

    dies_after: int | None = None

    @contextmanager
    def transaction(self):
        with super().transaction() as connection:
            yield connection if self.dies_after is None else Mortal(connection, self.dies_after)


steps = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 6)),
    st.tuples(st.just("open"), st.integers(1, 3)),
    st.tuples(st.just("read"), st.just(0)),
    st.tuples(st.just("killed while reading"), st.integers(0, 9)),
    st.tuples(st.just("restarted"), st.just(0)),
    st.tuples(st.just("sums"), st.just(0)),
    st.tuples(st.just("sidecar killed"), st.just(0)),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(steps, max_size=25))
def test_any_order_of_writing_reading_and_dying_gives_each_call_once(
    plan, tmp_path_factory, journal_at, call, intent, noon_us
):
    folder = tmp_path_factory.mktemp("site")
    open_ledger(folder, DatabaseConfig()).database.close()
    database = MortalDatabase(folder / LIVE)
    journal = journal_at(folder / "journal")
    now = noon_us / 1e6 + 1
    writers = [journal.writer("boot0", segment_bytes=9000)]
    expected: dict[str, int] = {}
    unfinished: list = []

    def start():
        books = Books(database, now_us=lambda: noon_us + 3 * 86_400_000_000)
        config = FollowerConfig(liveness_interval_s=0, step_bytes=1)
        return books, Follower(journal.directory, books, config, now=lambda: now)

    books, follower = start()
    for what, count in plan:
        match what:
            case "write":
                for _ in range(count):
                    record = unfinished.pop(0) if unfinished else call(started_at_us=noon_us)
                    if record.call_id not in expected:
                        writers[-1].intent(intent(record))
                    writers[-1].record(record)
                    expected[record.call_id] = record.effective_cost_pico
            case "open":
                for _ in range(count):
                    record = call(started_at_us=noon_us)
                    writers[-1].intent(intent(record, hold_pico=77))
                    expected[record.call_id] = 77
                    unfinished.append(record)
            case "read":
                follower.step()
            case "killed while reading":
                database.dies_after = count
                try:
                    follower.step()
                except Killed:
                    books, follower = start()
                finally:
                    database.dies_after = None
            case "restarted":
                books, follower = start()
            case "sums":
                books.advance_rollups()
            case "sidecar killed":
                journal.end(writers.pop())
                unfinished.clear()
                writers.append(journal.writer(f"boot{len(expected)}-{random.random()}", segment_bytes=9000))
    journal.close()
    books, follower = start()
    follower.catch_up()
    while books.advance_rollups():
        pass

    def ask(sql):
        return database.connection.execute(sql).fetchone()

    found = dict(database.connection.execute("SELECT call_id, effective_cost_usd FROM calls").fetchall())
    count = ask("SELECT count(*) FROM calls")
    money = ask("SELECT coalesce(sum(effective_cost_usd), 0)::DECIMAL(38,12) FROM attempts")
    summed = ask(
        "SELECT coalesce(sum(calls), 0), coalesce(sum(effective_cost_usd), 0)::DECIMAL(38,12) "
        "FROM calls_by_day"
    )
    open_calls = ask("SELECT count(*) FROM pending")
    database.close()
    assert found == {call_id: usd(cost) for call_id, cost in expected.items()}
    assert count == (len(expected),)
    assert money == (usd(sum(expected.values())),)
    assert summed == (len(expected), usd(sum(expected.values())))
    assert open_calls == (0,)


SIDECAR = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from conftest import intent_of, make_call
from collector.domain.record import Event, EventKind
from collector.journal import JournalConfig, JournalWriter
folder, source, first = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
writer = JournalWriter(folder / "journal", source, JournalConfig(segment_bytes=60_000, slow_write_s=60))
acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
number = first
while True:
    now = time.time_ns() // 1000
    record = make_call(call_id=f"call-{number}", cost=number, started_at_us=now)
    writer.intent(intent_of(record, hold_pico=number))
    writer.record(record)
    writer.event(Event(EventKind.BUDGET, now, "acme", record.call_id, {"budget": "b", "action": "flag"}))
    os.write(acknowledged, f"{number}\\n".encode())
    number += 1
    if number % 20 == 0:
        time.sleep(0.005)
"""

COLLECTOR = """
import sys
from pathlib import Path
from collector.run import run
from collector.settings import Address, CollectorConfig, Duration
config = CollectorConfig(listen=Address("127.0.0.1", int(sys.argv[2])), commit_every=Duration(0.02),
                         snapshot_every=Duration(0.3), otlp_http=None, otlp_grpc=None)
sys.exit(run(config, data_dir=Path(sys.argv[1]), environ={}))
"""


def wait_for_more(path: Path, size: int) -> int:
    """Wait until ``path`` has more than ``size`` bytes; how many it has then."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if path.exists() and path.stat().st_size > size:
            return path.stat().st_size
        time.sleep(0.02)
    raise AssertionError(f"{path.name} does not grow")


def kill_in_turn(folder: Path, kills: int, noise: random.Random) -> dict[str, int]:
    """Kill a sidecar and a collector in turn while they work; the calls that were acknowledged."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    port = free_port()
    running: dict[str, subprocess.Popen[bytes]] = {}
    written = 0

    def start(what: str, boot: int) -> None:
        script = SIDECAR if what == "sidecar" else COLLECTOR
        helpers = str(ROOT / "tests" / "collector")
        arguments = [helpers, str(folder), f"boot{boot}", str(boot * 1_000_000)]
        arguments = arguments if what == "sidecar" else [str(folder), str(port)]
        running[what] = subprocess.Popen(
            [sys.executable, "-c", script, *arguments], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
        )

    try:
        start("collector", 0)
        start("sidecar", 1)
        for turn in range(kills):
            # However slow the machine is, the sidecar has written something before anybody dies.
            written = wait_for_more(folder / "acknowledged", written)
            time.sleep(noise.uniform(0.3, 1.5))
            victim = "sidecar" if turn % 2 else "collector"
            assert running[victim].poll() is None, f"the {victim} ended by itself"
            running[victim].send_signal(signal.SIGKILL)
            running[victim].wait()
            start(victim, turn + 2)
        time.sleep(0.5)
    finally:
        for process in running.values():
            process.send_signal(signal.SIGKILL)
            process.wait()
    text = (folder / "acknowledged").read_text()
    return {f"call-{line}": int(line) for line in text.splitlines() if text.endswith("\n") and line}


def check(folder: Path, acknowledged: dict[str, int]) -> None:
    opened = open_ledger(folder, DatabaseConfig())
    Follower(folder / "journal", Books(opened.database), FollowerConfig(liveness_interval_s=0)).catch_up()

    def ask(sql):
        return opened.database.connection.execute(sql).fetchall()

    found = dict(ask("SELECT call_id, effective_cost_usd FROM calls"))
    ((count, money, attempts_money),) = ask(
        "SELECT count(*), sum(effective_cost_usd), (SELECT sum(effective_cost_usd) FROM attempts) FROM calls"
    )
    gaps = ask("SELECT * FROM quarantined WHERE reason = 'gap'")
    told = [call_id for (call_id,) in ask("SELECT call_id FROM budget_events")]
    lost = [call_id for call_id in acknowledged if call_id not in found]
    opened.database.close()
    assert opened.set_aside == []
    assert lost == []
    assert count == len(found)
    # A call whose record was cut off by the kill is booked at its hold, which here is its cost.
    assert money == attempts_money == usd(sum(int(call_id.removeprefix("call-")) for call_id in found))
    assert gaps == []
    assert len(told) == len(set(told))
    assert set(acknowledged) <= set(told)


def test_kill_9_of_sidecar_and_collector_loses_and_doubles_nothing(tmp_path):
    acknowledged = kill_in_turn(tmp_path, 6, random.Random(7))
    assert len(acknowledged) > 200
    check(tmp_path, acknowledged)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_kills_lose_and_double_nothing(tmp_path):
    acknowledged = kill_in_turn(tmp_path, 100, random.Random(11))
    assert len(acknowledged) > 5000
    check(tmp_path, acknowledged)
