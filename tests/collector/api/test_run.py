"""The collector as a process: it starts, keeps going, and ends cleanly."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.ports import free_port

from collector.domain.money import usd
from collector.ingest.keeper import Keeper, KeeperConfig
from collector.ingest.shipper import Shipper, poster
from collector.ingest.state import State
from collector.run import run
from collector.settings import Address, CollectorConfig
from collector.store.duckdb import Database, DatabaseDamaged, DatabaseUnavailable
from collector.store.opening import LIVE, open_ledger

ROOT = Path(__file__).resolve().parents[3]
KEEPER = KeeperConfig(data_dir=Path(), commit_interval_s=0.02, snapshot_interval_s=0.1)


def wait_until(true, what: str, seconds: float = 60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {seconds} s")


def get(port: int, path: str):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, None


@contextmanager
def collector(data_dir: Path, port: int):
    """A collector process; ends with SIGTERM, and must end well."""
    script = (
        "import sys; from pathlib import Path; from collector.run import run;"
        "from collector.settings import *;"
        "sys.exit(run(CollectorConfig(listen=Address('127.0.0.1', int(sys.argv[2])),"
        " otlp_http=None, otlp_grpc=None,"
        " commit_every=Duration(0.05), snapshot_every=Duration(0.2)),"
        " data_dir=Path(sys.argv[1]), environ={}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(data_dir), str(port)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=90)[1].decode()
        assert process.returncode == 0, errors


def test_a_journal_becomes_answers_and_the_end_is_clean(tmp_path, journal, call):
    port = free_port()
    now = time.time_ns() // 1000
    calls = [call(cost=n, started_at_us=now - n) for n in range(50)]
    with collector(tmp_path, port):
        wait_until(lambda: get(port, "/readyz")[0] == 200, "the collector")
        writer = journal.writer()
        for record in calls:
            writer.record(record)

        def total():
            return get(port, "/v1/questions/totals")[1]["rows"][0]["effective_cost_usd"]

        wait_until(lambda: total() == f"{usd(sum(range(50))):f}", "the sum")
        wait_until((tmp_path / "snapshot.duckdb").exists, "the snapshot")
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/sql", b"SELECT count(*) AS n FROM calls", method="POST"
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            assert json.load(reply)["rows"][0]["n"] in range(51)
        last = call(started_at_us=now)
        writer.record(last)

    database = Database(tmp_path / LIVE, read_only=True)
    found = database.connection.execute("SELECT count(*) FROM calls").fetchone()
    database.close()
    assert found == (51,)
    assert not (tmp_path / f"{LIVE}.wal").exists()


def test_the_collector_takes_little_priority(tmp_path):
    port = free_port()
    with collector(tmp_path, port) as process:
        wait_until(lambda: get(port, "/healthz")[0] == 200, "the collector")
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == 10


def test_a_second_collector_of_the_same_folder_ends_and_the_first_goes_on(tmp_path):
    port = free_port()
    with collector(tmp_path, port) as first:
        wait_until(lambda: get(port, "/readyz")[0] == 200, "the collector")
        second = subprocess.run(
            [sys.executable, "-c", SECOND, str(tmp_path), str(free_port())],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            timeout=90,
            check=False,
        )
        assert second.returncode == 1
        assert str(first.pid) in second.stderr.decode()
        assert get(port, "/readyz")[0] == 200


SECOND = """
import sys
from pathlib import Path
from collector import logs
from collector.run import run
from collector.settings import Address, CollectorConfig
logs.configure("collector")
config = CollectorConfig(
    listen=Address("127.0.0.1", int(sys.argv[2])), otlp_http=None, otlp_grpc=None
)
sys.exit(run(config, data_dir=Path(sys.argv[1]), environ={}))
"""

STRAY = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=True)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_database_held_by_a_notebook_is_waited_for_and_the_holder_is_named(tmp_path, journal, call):
    open_ledger(tmp_path, KEEPER.database).database.close()
    stray = subprocess.Popen(
        [sys.executable, "-c", STRAY, str(tmp_path / LIVE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert stray.stdout.readline() == b"held\n"
    journal.write(call(started_at_us=time.time_ns() // 1000, cost=5))
    port = free_port()
    with collector(tmp_path, port):
        reason = wait_until(
            lambda: (get(port, "/readyz")[1] or {}).get("reason", "").count(str(stray.pid)), "the pid"
        )
        assert reason
        assert get(port, "/v1/questions/totals")[0] == 503
        stray.communicate()

        wait_until(lambda: get(port, "/readyz")[0] == 200, "the ledger")
        wait_until(lambda: get(port, "/v1/questions/totals")[1]["rows"][0]["calls"] == 1, "the call")
    assert not (tmp_path / "quarantine").exists()


def test_a_shipper_sends_another_machines_journal_to_the_api(tmp_path, journal_at, call):
    port = free_port()
    far = journal_at(tmp_path / "far")
    far.write(*(call(cost=n) for n in range(30)), source="far-boot1", segment_bytes=6000)
    with collector(tmp_path / "books", port):
        wait_until(lambda: get(port, "/readyz")[0] == 200, "the collector")
        shipper = Shipper(tmp_path / "far", poster(f"http://127.0.0.1:{port}", None))
        assert sum(iter(shipper.step, 0)) == 30
        # A shipper that starts again begins at the beginning and changes nothing.
        again = Shipper(tmp_path / "far", poster(f"http://127.0.0.1:{port}", None))
        sum(iter(again.step, 0))
        (row,) = get(port, "/v1/questions/totals?since=2026-01-01&until=2027-01-01")[1]["rows"]

    assert (row["calls"], row["effective_cost_usd"]) == (30, f"{usd(sum(range(30))):f}")


def test_beyond_this_machine_nothing_is_served_without_a_control_key(tmp_path):
    config = CollectorConfig(listen=Address("0.0.0.0", 4010))
    assert run(config, data_dir=tmp_path / "never") == 2
    assert not (tmp_path / "never").exists()


# ---- the keeper, with trouble -------------------------------------------------------------


@pytest.fixture
def keep(tmp_path):
    """Starts a keeper in a thread; it is stopped at the end."""
    stop, state = threading.Event(), State(data_dir=tmp_path)
    config = KeeperConfig(data_dir=tmp_path, commit_interval_s=0.02, snapshot_interval_s=0.1)
    thread = threading.Thread(target=Keeper(config, state, stop).run)
    thread.start()
    wait_until(lambda: not state.trouble, "the ledger")
    yield state
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def booked(state: State):
    reader = state.ledger.books.database.reader()
    try:
        return reader.execute("SELECT count(*), sum(effective_cost_usd) FROM calls").fetchone()
    finally:
        reader.close()


def test_a_full_disk_is_waited_for_and_everything_arrives_when_there_is_room(
    keep, journal, call, monkeypatch
):
    books = keep.ledger.books
    full = threading.Event()
    full.set()
    enter = books.enter

    def enter_when_there_is_room(entry):
        if full.is_set():
            raise DatabaseUnavailable("No space left on device")
        enter(entry)

    monkeypatch.setattr(books, "enter", enter_when_there_is_room)
    journal.write(*(call(cost=n) for n in range(20)))
    wait_until(lambda: "No space" in keep.trouble, "the trouble")
    assert booked(keep) == (0, None)

    full.clear()
    wait_until(lambda: not keep.trouble, "the recovery")
    wait_until(lambda: booked(keep)[0] == 20, "the calls")
    assert booked(keep) == (20, usd(sum(range(20))))


def test_damage_met_at_work_reopens_the_ledger_and_loses_nothing(keep, journal, call, monkeypatch):
    journal.write(*(call(cost=n) for n in range(20)), source="a")
    wait_until(lambda: booked(keep)[0] == 20, "the calls")
    first = keep.ledger

    def damaged():
        raise DatabaseDamaged("INTERNAL Error: database has been invalidated")

    monkeypatch.setattr(first.follower, "step", damaged)
    wait_until(lambda: keep.ledger not in (None, first), "another ledger")
    journal.write(*(call(cost=n) for n in range(20, 30)), source="b")
    wait_until(lambda: keep.ledger is not None and booked(keep)[0] == 30, "the rest")

    assert booked(keep) == (30, usd(sum(range(30))))
    assert keep.rebuilds == 0  # it was read whole, and nothing was wrong with it


def test_a_damaged_file_met_at_work_is_rebuilt_and_counted(keep, tmp_path, journal, call, monkeypatch):
    journal.write(*(call(cost=n) for n in range(20)))
    wait_until(lambda: booked(keep)[0] == 20, "the calls")
    first = keep.ledger

    def damaged():
        first.books.database.close()
        path = tmp_path / LIVE
        path.write_bytes(b"\0" * path.stat().st_size)
        raise DatabaseDamaged("checksum")

    monkeypatch.setattr(first.follower, "step", damaged)
    wait_until(lambda: keep.rebuilds and keep.ledger is not None and not keep.trouble, "the rebuild")
    wait_until(lambda: booked(keep)[0] == 20, "the calls again")

    assert booked(keep) == (20, usd(sum(range(20))))
    reader = keep.ledger.books.database.reader()
    assert reader.execute("SELECT count(*) FROM quarantined WHERE reason = 'rebuilt'").fetchone()[0] >= 1
    reader.close()


def test_a_log_is_folded_into_the_file_when_nothing_happens(keep, journal, call, monkeypatch):
    monkeypatch.setattr("collector.ingest.keeper._IDLE_CHECKPOINT_S", 0.05)
    journal.write(call())
    wait_until(lambda: booked(keep)[0] == 1, "the call")
    wait_until(lambda: keep.ledger.books.database.wal_bytes == 0, "the checkpoint")


def test_the_prices_are_in_the_ledger_once_a_version(tmp_path):
    from collector.store import prices

    opened = open_ledger(tmp_path, KEEPER.database)
    written = prices.remember(opened.database, 1_790_000_000_000_000)
    again = prices.remember(opened.database, 1_790_000_000_000_000)
    found = opened.database.connection.execute(
        "SELECT count(*), min(input_usd) >= 0, max(input_usd) < 1 FROM prices"
    ).fetchone()
    opened.database.close()

    assert written > 100
    assert again == 0
    assert found == (written, True, True)


def test_spans_are_offered_for_young_records_only_once_they_are_booked(call):
    from collector.run import _young

    offered = []

    class Export:
        def offer(self, records):
            offered.extend(records)

    now = time.time_ns() // 1000
    young, old = call(started_at_us=now - 1_000_000), call(started_at_us=now - 86_400_000_000)
    booked = _young(Export())([young, old])
    assert offered == []

    booked()
    assert offered == [young]
