"""I02, I03: what a statement from outside may say, and what it may use."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from collector.ingest.books import Books
from collector.store import sandbox
from collector.store.sandbox import SandboxLimits
from collector.store.snapshot import Publisher

ROOT = Path(__file__).resolve().parents[3]
LIMITS = SandboxLimits(seconds=60, memory_bytes=128 << 20)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory, new_ledger, enter_into, call):
    """Thirty calls of three agents, published."""
    folder = tmp_path_factory.mktemp("ledger")
    database = new_ledger(folder)
    enter_into(Books(database), *(call(cost=n, agent=f"agent{n % 3}") for n in range(30)))
    target = folder / "snapshot.duckdb"
    Publisher(database, target, 60).publish()
    database.close()
    return target


def ask(snapshot, sql, *, arrow=False, limits=LIMITS):
    head, body = sandbox.select(snapshot, sql, arrow=arrow, limits=limits)
    return head, body if arrow else (json.loads(body) if body else None)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT agent, count(*) AS n, sum(effective_cost_usd) AS usd FROM calls GROUP BY 1 ORDER BY 1",
        "select agent, count(*) n, sum(effective_cost_usd) usd from main.calls group by all order by all;",
        "--x\nSELECT agent, count(*) n, sum(effective_cost_usd) usd FROM calls GROUP BY 1 ORDER BY 1 --y",
        "WITH c AS (FROM calls) SELECT agent, count(*) n, sum(effective_cost_usd) usd FROM c GROUP BY 1"
        " ORDER BY 1",
        "FROM calls SELECT agent, count(*) AS n, sum(effective_cost_usd) AS usd GROUP BY 1 ORDER BY 1",
    ],
)
def test_one_select_is_answered_with_exact_money(snapshot, sql):
    head, answer = ask(snapshot, sql)

    assert head == {"status": 200, "truncated": False}
    assert answer["rows"][0] == {"agent": "agent0", "n": 10, "usd": "0.000000000135"}  # 0 + 3 + ... + 27


def test_an_answer_can_be_an_arrow_stream(snapshot):
    _, body = ask(snapshot, "SELECT effective_cost_usd, started_at FROM calls", arrow=True)

    table = pa.ipc.open_stream(body).read_all()
    assert table.schema.field("effective_cost_usd").type == pa.decimal128(18, 12)
    assert table.schema.field("started_at").type == pa.timestamp("us", "UTC")


REFUSED = [
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/*')",
    "SELECT * FROM parquet_scan('x.parquet')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM 'x.csv'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT content FROM read_text('/etc/hostname') WHERE (SELECT count(*) FROM calls) > 0",
    "SELECT (SELECT content FROM read_text('/etc/hostname'))",
    "WITH x AS (SELECT * FROM read_text('/etc/hostname')) SELECT * FROM x",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_databases()",
    "SELECT * FROM duckdb_databases",
    "SELECT * FROM pg_catalog.pg_settings",
    "SELECT * FROM information_schema.tables",
    "WITH duckdb_databases AS (SELECT 1) SELECT * FROM duckdb_databases",
    "SELECT * FROM (WITH duckdb_settings AS (SELECT 1) SELECT 1), duckdb_settings",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM pragma_table_info('calls')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('calls')",
    "SELECT getenv('HOME')",
    "SELECT current_setting('temp_directory')",
    "SELECT sum(length(getenv(agent))) FROM calls",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM memory.main.calls",
    "SELECT json_execute_serialized_sql('x')",
    "COPY calls TO '/tmp/out.csv'",
    "COPY (SELECT 1) TO '/tmp/out.csv'",
    "ATTACH '/tmp/other.duckdb'",
    "ATTACH ':memory:' AS other",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '10GB'",
    "SET lock_configuration = false",
    "RESET threads",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "CALL duckdb_databases()",
    "CALL pragma_version()",
    "EXPORT DATABASE '/tmp/x'",
    "IMPORT DATABASE '/etc'",
    "CHECKPOINT",
    "VACUUM",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "DESCRIBE calls",
    "SHOW TABLES",
    "SUMMARIZE calls",
    "INSERT INTO calls (call_id) VALUES ('x')",
    "UPDATE calls SET agent = 'x'",
    "DELETE FROM calls",
    "DROP TABLE calls",
    "CREATE TABLE x (a INTEGER)",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE MACRO f() AS 1",
    "CREATE SECRET (TYPE s3)",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "PIVOT calls ON agent USING count(*)",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE calls",
    "SELECT 1 /* */; /* */ COPY calls TO '/tmp/x'",
    "/* SELECT 1 */ DROP TABLE calls",
    "SELECT 1 --\n; DROP TABLE calls",
    "",
    ";",
    "-- nothing",
    "nonsense",
    "SELECT",
    "SELECT * FROM no_such_table",
    "SELECT '" + "x" * 70_000 + "'",
]


@pytest.fixture(scope="module")
def published(snapshot):
    return snapshot.read_bytes()


@pytest.mark.parametrize("sql", REFUSED)
def test_anything_but_one_select_on_the_ledger_is_refused_and_leaves_no_trace(snapshot, published, sql):
    head, answer = ask(snapshot, sql)

    assert head["status"] == 400
    assert head["error"]
    assert answer is None
    assert str(snapshot.parent) not in json.dumps(head)
    assert snapshot.read_bytes() == published
    assert not Path("/tmp/out.csv").exists()


def test_a_mistake_in_a_statement_is_told_without_a_path(snapshot):
    head, _ = ask(snapshot, "SELECT no_such_column FROM calls")
    assert head["status"] == 400
    assert "no_such_column" in head["error"]
    assert str(snapshot.parent) not in head["error"]


def test_a_cross_join_of_ten_trillion_rows_is_interrupted(snapshot):
    started = time.monotonic()
    limits = SandboxLimits(seconds=0.5, memory_bytes=128 << 20)
    head, _ = ask(
        snapshot, "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b", limits=limits
    )

    assert head["status"] == 408
    assert time.monotonic() - started < 60  # It would take days.


def test_a_list_of_everything_runs_out_of_its_memory(snapshot):
    head, _ = ask(snapshot, "SELECT list(range) FROM range(1000000000)")
    assert head["status"] in (408, 413)


def test_rows_are_capped_and_the_answer_says_so(snapshot):
    limits = SandboxLimits(rows=10)
    head, answer = ask(snapshot, "SELECT * FROM range(1000000)", limits=limits)

    assert head == {"status": 200, "truncated": True}
    assert len(answer["rows"]) == 10


def test_bytes_are_capped(snapshot):
    limits = SandboxLimits(answer_bytes=1 << 20)
    head, answer = ask(snapshot, "SELECT repeat('x', 1000) AS x FROM range(9000)", limits=limits)

    assert head == {"status": 200, "truncated": True}
    assert sum(len(row["x"]) for row in answer["rows"]) <= 1 << 20


def in_a_process(snapshot, sql, limits=LIMITS):
    with sandbox.folder_beside(snapshot) as folder:
        ended = subprocess.run(
            [sys.executable, "-m", "collector.store.sandbox"],
            input=sandbox.request_bytes(snapshot, sql, folder=folder, arrow=False, limits=limits),
            capture_output=True,
            cwd=ROOT,
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT)},
            check=False,
            timeout=60,
        )
    return ended.stdout


def test_the_process_answers_and_leaves_nothing_behind(snapshot):
    head, body = sandbox.answer_parts(in_a_process(snapshot, "SELECT count(*) AS n FROM calls"))

    assert head["status"] == 200
    assert json.loads(body)["rows"] == [{"n": 30}]
    assert not list(snapshot.parent.glob(".sandbox-*"))


def test_the_process_has_a_wall_that_no_statement_can_move(snapshot):
    limits = SandboxLimits(seconds=20, memory_bytes=8 << 30, address_space_bytes=1 << 30)
    output = in_a_process(
        snapshot, "SELECT max(length(repeat(agent, 90000000))) FROM calls, range(100)", limits
    )

    status = sandbox.answer_parts(output)[0]["status"] if output else "ended"
    assert status in (413, "ended")


def test_without_a_snapshot_the_answer_is_to_wait(tmp_path):
    head, _ = sandbox.answer_parts(in_a_process(tmp_path / "snapshot.duckdb", "SELECT 1"))
    assert head["status"] == 503


def test_what_statements_of_a_killed_collector_left_is_swept_away(tmp_path):
    left = tmp_path / ".sandbox-x1"
    left.mkdir()
    (left / "snapshot.duckdb").write_bytes(b"1")
    (tmp_path / "snapshot.duckdb").write_bytes(b"2")

    sandbox.sweep(tmp_path)

    assert [entry.name for entry in tmp_path.iterdir()] == ["snapshot.duckdb"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("DATE '20000-01-01'", "20000-01-01"),
        ("TIMESTAMP '20000-01-01 12:00:00'", "20000-01-01 12:00:00+00"),
        ("DATE '0044-03-15 (BC)'", "0044-03-15 (BC)"),
        ("'infinity'::TIMESTAMP", "infinity"),
        ("[DATE '20000-01-01']", "[20000-01-01]"),
        ("MAP {'a': DATE '20000-01-01'}", "{a=20000-01-01}"),
        ("TIMESTAMP '2026-01-02 03:04:05'", "2026-01-02T03:04:05Z"),
        ("TIMESTAMP_NS '2026-01-02 03:04:05.123456789'", "2026-01-02T03:04:05.123456789Z"),
    ],
)
def test_a_time_that_python_does_not_hold_is_written_as_the_database_writes_it(snapshot, value, text):
    head, answer = ask(snapshot, f"SELECT {value} AS at, 1 AS one")

    assert head["status"] == 200
    assert answer["rows"] == [{"at": text, "one": 1}]


def test_columns_of_one_name_are_told_apart_by_a_number(snapshot):
    _, answer = ask(snapshot, "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a")

    assert answer["columns"] == ["a", "a_3", "a_2", "a_4"]
    assert answer["rows"] == [{"a": 1, "a_3": 2, "a_2": 3, "a_4": 4}]
