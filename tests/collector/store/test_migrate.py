"""F14: a migration that is killed anywhere leaves the old schema or the new one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from collector.store import rollups
from collector.store.duckdb import Database
from collector.store.migrate import Migration, SchemaTooNew, migrate, migrations

ROOT = Path(__file__).resolve().parents[3]

KILLED_AT = """
import json, os, shutil, signal, sys
from pathlib import Path

source, target, given = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])

def forked(work):
    # Nothing has opened a database here: what a child does to one, nobody else holds.
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

from collector.store.duckdb import Database
from collector.store.migrate import Migration, migrate, migrations, schema_version

steps = [*migrations(), *(Migration(*step) for step in given)]

def killed_at(number):
    left = [number]
    def kill(statement):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
    migrate(Database(target).connection, steps, kill)
    os._exit(0)

def look(number, ended):
    database = Database(target)
    query = database.connection.execute
    tables = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'ledger'"
    then = schema_version(database.connection), sorted(name for name, in query(tables).fetchall())
    now = migrate(database.connection, steps), query("SELECT * FROM calls ORDER BY call_id").fetchall()
    database.close()
    print(json.dumps([number, ended, then, now], default=str), flush=True)
    os._exit(0)

number, ended = 0, -signal.SIGKILL
while ended == -signal.SIGKILL:
    shutil.copy(source, target)
    target.with_name(target.name + ".wal").unlink(missing_ok=True)
    ended = forked(lambda: killed_at(number))
    assert forked(lambda: look(number, ended)) == 0
    number += 1
"""
MORE = """
ALTER TABLE calls ADD COLUMN mood VARCHAR;
UPDATE calls SET mood = 'new';
CREATE TABLE moods (m VARCHAR);
"""


class Look(NamedTuple):
    """What was found after a migration was killed at its n-th statement, and after the next start."""

    statement: int
    ended: int
    then: tuple[int, list[str]]
    now: tuple[int, list[list[object]]]


def killed_at_every_statement(source: Path, steps: Sequence[Migration] = ()) -> list[Look]:
    """Kill the migration of copies of ``source`` at each statement, and at last at none."""
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_AT, source, source.with_name("copy.duckdb"), json.dumps(steps)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
    )
    looks = [Look(*json.loads(line)) for line in ended.stdout.splitlines()]
    assert [look.ended for look in looks] == [-signal.SIGKILL] * (len(looks) - 1) + [0]
    return looks


def tables(database: Database) -> set[str]:
    found = database.connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'ledger'"
    ).fetchall()
    return {name for (name,) in found}


def test_migrating_twice_changes_nothing(database):
    before = tables(database)

    assert migrate(database.connection) == migrations()[-1].version
    assert tables(database) == before


def test_a_database_of_a_newer_program_is_not_touched(database):
    database.connection.execute("INSERT INTO schema_version VALUES (1000, 'from the future')")

    with pytest.raises(SchemaTooNew, match="1000"):
        migrate(database.connection)


def test_a_migration_killed_at_any_statement_leaves_the_old_or_the_new_schema_and_the_restart_completes(
    tmp_path,
):
    path = tmp_path / "ledger.duckdb"
    database = Database(path)
    last = migrate(database.connection)
    database.connection.execute("INSERT INTO calls (call_id) VALUES ('a'), ('b')")
    database.close()

    looks = killed_at_every_statement(path, [Migration(99, "more", MORE)])

    assert len(looks) == 3 + 3 + 1  # its own statements, those around them, and none
    for look in looks:
        version, tables = look.then
        assert version in (last, 99)
        assert ("moods" in tables) == (version == 99)
        assert look.now[0] == 99
        assert [(row[0], row[-1]) for row in look.now[1]] == [("a", "new"), ("b", "new")]


@pytest.mark.slow
def test_short_sums_and_days_of_conversations_come_whole_or_not_at_all_and_are_filled_after(tmp_path):
    path = tmp_path / "ledger.duckdb"
    database = Database(path)
    migrate(database.connection, [step for step in migrations() if step.version <= 14])
    database.connection.execute(
        "INSERT INTO calls (call_id, started_at, agent, conversation_id, attempt_count)"
        " VALUES ('a', TIMESTAMP '2026-09-20 12:00:00', 'x', 'talk', 1)"
    )
    before = tables(database)
    database.close()

    looks = killed_at_every_statement(path)

    short = {f"{name}_by_{width}" for name in ("agents", "models", "tag_sets") for width in ("hour", "day")}
    there = {14: before, 15: before | short, 16: before | short | {"talks_by_day"}}
    assert {look.then[0] for look in looks} >= {14, 15, 16}
    for look in looks:
        version = look.then[0]
        assert version not in there or set(look.then[1]) == there[version]
        assert ("talk_sums_by_day" in look.then[1]) == (version >= 20)
        assert ("traces_by_hour" in look.then[1]) == (version >= 21)
        assert look.now[0] == migrations()[-1].version
        assert [row[0] for row in look.now[1]] == ["a"]
    database = Database(path.with_name("copy.duckdb"))
    while rollups.advance(database.connection, 1_790_035_200_000_000):
        pass
    query = "SELECT calls FROM agents_by_day UNION ALL SELECT count(*) FROM talks_by_day"
    query += " UNION ALL SELECT calls FROM talk_sums_by_day"
    assert database.connection.execute(query).fetchall() == [(1,), (1,), (1,)]
    database.close()
