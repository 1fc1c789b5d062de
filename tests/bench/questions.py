"""How long every question of the read API takes on a large ledger, and that its sums are the ledger's.

    python tests/bench/questions.py [FOLDER] [--calls 10000000] [--days 90] [--keys 200] [--only NAME]

Makes the ledger where FOLDER has none (some minutes, 4 GB; a temporary one is deleted again), opens it as the
collector does, with its memory limit and its number of threads, and asks every question in several ways, each
three times; what is printed is the best, and beside it the first, which reads from disk. CPU is that of the
whole process, so it also holds on a machine that does other work. Fails where a sum differs from the sum over
the calls, or a question takes longer than ``--within`` milliseconds of CPU.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from collector.settings import CollectorConfig
from collector.store import rollups
from collector.store.answers import arrow_bytes
from collector.store.asking import parse
from collector.store.duckdb import Database, DatabaseConfig
from collector.store.levels import HOUR_US
from collector.store.migrate import migrate
from collector.store.opening import LIVE
from collector.store.questions import CATALOGUE
from collector.store.reader import LedgerReader
from tests.collector.store.generate import generate
from tests.collector.store.generate_findings import generate_findings

WITHIN_MS = 300
REPEATS = 3
_GENERATING = DatabaseConfig(memory_limit_bytes=1 << 30, threads=2)


class Way(NamedTuple):
    """A question, and with what."""

    name: str
    given: dict[str, str]

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.given.items())])


class Sample(NamedTuple):
    """What is asked about: names that occur in the ledger."""

    call_id: str
    conversation: str
    user: str
    trace: str
    tenant: str
    hour: str
    anomaly: str


class Took(NamedTuple):
    """Milliseconds of CPU and of the clock, and what came."""

    cpu_ms: float
    wall_ms: float
    first_ms: float
    rows: int
    size: int


def sampled(database: Database) -> Sample:
    """Something from the middle of the ledger."""
    query = database.connection.execute
    middle = query("SELECT min(started_at) + (max(started_at) - min(started_at)) / 2 FROM calls").fetchall()
    row = query(
        "SELECT call_id, conversation_id, user_id, trace_id, tenant, date_trunc('hour', started_at)"
        " FROM calls WHERE started_at >= $1 ORDER BY started_at LIMIT 1",
        list(middle[0]),
    ).fetchall()[0]
    anomaly = query("SELECT coalesce(max(anomaly_id), '-') FROM anomalies").fetchall()[0][0]
    call_id, conversation, user, trace, tenant, hour = row
    return Sample(call_id, conversation, user, trace, tenant, hour.isoformat(), anomaly)


def ways(sample: Sample) -> Iterator[Way]:
    """What dashboards, reports and people ask: 90 days, unless the question is of a shorter time."""
    whole = {"since": "90d"}
    one_call = {"call_id": sample.call_id}
    talk = {"conversation_id": sample.conversation}

    def way(name: str, **given: str) -> Way:
        return Way(name, given)

    for name in ("totals", "spend_over_time"):
        yield way(name, **whole)
        yield way(name, since="24h")
        yield way(name, **whole, team="team3")
        yield way(name, **whole, tag="env=dev")
        yield way(name, **whole, user_id=sample.user)
        yield way(name, **whole, user_id=sample.user, request_model="model-1")
        yield way(name, **whole, **talk)
        yield way(name, **whole, task_id="task-1")
        yield way(name, **whole, **talk, tag="env=dev")
        yield way(name, **whole, user_id=sample.user, tag="env=dev")
    for by in ("agent", "team,request_model", "tag:env"):
        yield way("spend_over_time", **whole, by=by)
    yield way("spend_over_time", since="30d", by="user_id")
    yield way("spend_over_time", **whole, by="request_model", tz="America/St_Johns")
    yield way("spend_over_time", **whole, by="conversation_id", **talk)
    yield way("ended_over_time", since="3h", by="agent")
    yield way("ended_over_time", since="24h")
    for by in (
        *("agent", "request_model", "key_id", "team,agent,request_model", "tag:env", "user_id"),
        *("user_id,request_model", "conversation_id", "task_id"),
    ):
        yield way("spend_by", **whole, by=by)
    yield way("spend_by", **whole, by="agent", **{"with": "conversations"})
    yield way("spend_by", since="24h", by="conversation_id")
    yield way("spend_by", **whole, by="request_model", user_id=sample.user)
    yield way("spend_by", **whole, by="request_model", **talk)
    for order in ("newest", "oldest", "dearest", "slowest"):
        yield way("calls", **whole, order=order)
        yield way("calls", **whole, order=order, agent="agent7")
        yield way("calls", **whole, order=order, user_id=sample.user, request_model="model-1")
        yield way("calls", **whole, order=order, **talk)
    yield way("calls", **whole, before=sample.call_id)
    yield way("calls", **whole, outcome="failed", team="team3")
    begun = (sample.trace[:8], sample.conversation[:7])
    for text in ("agent7", "model-1", sample.conversation, sample.trace, *begun, "found nowhere"):
        yield way("calls", **whole, search=text)
    yield from (way(name, **one_call) for name in ("call", "attempts", "gpu_charges"))
    for dimension in ("agent", "key_id", "user_id", "tag", "outcome", "conversation_id", "task_id"):
        yield way("values", **whole, dimension=dimension)
    yield way("waste", **whole)
    yield way("waste", **whole, by="agent")
    yield way("waste", **whole, by="user_id", team="team3")
    yield way("waste", **whole, by="request_model", **talk)
    for name in ("waste_calls", "cache_breaks", "cache_break_calls", "runs", "tools", "quality"):
        yield way(name, **whole)
        yield way(name, **whole, agent="agent7")
        yield way(name, **whole, **talk)
    yield way("runs_by", **whole)
    yield way("runs_by", **whole, by="agent")
    yield way("losses")
    for by in ("agent", "agent,request_model", "tag:env"):
        yield way("quality", **whole, by=by)
        yield way("tools", **whole, by=by)
    yield way("inferred_outcomes", **whole)
    yield way("turns", **whole, **talk)
    yield way("turns", since="24h", limit="1000")
    yield way("turns", **whole)
    yield way("run", **whole, **talk)
    yield way("run", **whole, trace_id=sample.trace)
    yield way("budget_events", **whole)
    yield way("budget_events", **whole, budget="team3")
    yield way("outcomes", **whole)
    yield way("outcomes", **whole, **talk)
    yield way("incidents", **whole)
    yield way("incident", anomaly_id=sample.anomaly)
    yield way("injections", **whole)
    yield way("health")
    for name in ("gpu_costs", "gpu_costs_over_time"):
        yield way(name, **whole)
    for name in ("gpus_over_time", "engines_over_time"):
        yield way(name, since="9d")
        yield way(name, since="24h")


def measure(reader: LedgerReader, way: Way, now_us: int) -> Took:
    """Ask three times."""
    cpus, walls, rows, size = [], [], 0, 0
    given = {key: [value] for key, value in way.given.items()}
    for _ in range(REPEATS):
        cpu, wall = time.process_time(), time.perf_counter()
        table = reader.answer(parse(CATALOGUE[way.name], given, now_us))
        size = len(arrow_bytes(table))
        cpus.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - wall)
        rows = table.num_rows
    return Took(min(cpus) * 1000, min(walls) * 1000, walls[0] * 1000, rows, size)


def check_sums(database: Database, reader: LedgerReader, now_us: int, sample: Sample) -> None:
    """Totals, those of a user, a conversation and a team, and of the dearest are the sums over the calls."""
    for given in (
        {},
        {"user_id": sample.user},
        {"user_id": sample.user, "request_model": "model-1"},
        {"conversation_id": sample.conversation},
        {"team": "team3", "outcome": "failed"},
    ):
        asked = parse(
            CATALOGUE["totals"], {"since": ["90d"], **{key: [value] for key, value in given.items()}}, now_us
        )
        where = "".join(f" AND {key} = '{value}'" for key, value in given.items())
        (expected,) = database.connection.execute(
            "SELECT count(*), coalesce(sum(effective_cost_usd), 0), coalesce(sum(input_tokens), 0) FROM calls"
            f" WHERE started_at >= make_timestamp({asked.since_us}::BIGINT)"
            f" AND started_at < make_timestamp({asked.until_us}::BIGINT){where}"
        ).fetchall()
        row = reader.answer(asked).to_pylist()[0]
        found = (row["calls"], row["effective_cost_usd"], row["input_tokens"])
        assert found == expected, f"totals {given}: {found} is not {expected}"
    asked = parse(
        CATALOGUE["spend_by"], {"since": ["90d"], "by": ["conversation_id"], "limit": ["20"]}, now_us
    )
    dearest = reader.answer(asked).to_pylist()
    expected = database.connection.execute(
        "SELECT conversation_id, count(*), sum(effective_cost_usd) AS usd FROM calls"
        f" WHERE started_at >= make_timestamp({asked.since_us}::BIGINT)"
        f" AND started_at < make_timestamp({asked.until_us}::BIGINT)"
        " GROUP BY ALL ORDER BY usd DESC, conversation_id LIMIT 20"
    ).fetchall()
    rows = [(row["conversation_id"], row["calls"], row["effective_cost_usd"]) for row in dearest]
    assert rows == expected, f"the dearest conversations: {rows} are not {expected}"


def prepared(folder: Path, calls: int, days: int, keys: int) -> None:
    """A ledger in ``folder``, made if there is none."""
    if (folder / LIVE).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    database = Database(folder / LIVE, _GENERATING)
    migrate(database.connection)
    until_s = int(time.time())
    generate(database, calls, days, keys, until_s)
    generate_findings(database, days, until_s)
    database.close()


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--only", default="", help="only questions whose name and parameters hold this")
    parser.add_argument("--within", type=float, default=WITHIN_MS, metavar="MS")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        prepared(folder, arguments.calls, arguments.days, arguments.keys)
        return report(folder, arguments.only, arguments.within)


def report(folder: Path, only: str, within_ms: float) -> int:
    """Measure the ledger in ``folder`` and print the table; 1 where a question takes longer than it may."""
    settings = CollectorConfig()
    config = DatabaseConfig(memory_limit_bytes=int(settings.memory_limit), threads=settings.threads)
    database = Database(folder / LIVE, config)
    migrate(database.connection)
    reader = LedgerReader(database, seconds=120)
    (last,) = database.connection.execute("SELECT epoch_us(max(started_at)) FROM calls").fetchall()[0]
    while rollups.advance(database.connection, last + HOUR_US):
        pass  # Sums that are newer than the ledger; as it was made, they are there.
    database.checkpoint()
    now_us, sample, slow = last + 1, sampled(database), 0
    print(f"{'question':<72} {'CPU ms':>8} {'ms':>8} {'first':>8} {'rows':>7} {'kB':>7}")
    for way in ways(sample):
        if only not in str(way):
            continue
        took = measure(reader, way, now_us)
        mark = " *" if took.cpu_ms > within_ms else ""
        slow += bool(mark)
        print(
            f"{str(way)[:72]:<72} {took.cpu_ms:8.0f} {took.wall_ms:8.0f} {took.first_ms:8.0f} {took.rows:7}"
            f" {took.size >> 10:7}{mark}",
            flush=True,
        )
    check_sums(database, reader, now_us, sample)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{slow} over {within_ms:g} ms of CPU; sums are those of the calls; {peak} MiB at most")
    database.close()
    return int(slow > 0)


if __name__ == "__main__":
    sys.exit(main())
