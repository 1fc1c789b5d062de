"""F14: a migration that is killed anywhere leaves the old schema or the new one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from collector.store.duckdb import Database
from collector.store.migrate import Migration, SchemaTooNew, migrate, migrations, schema_version

ROOT = Path(__file__).resolve().parents[3]

KILLED_AT = """
import os, signal, sys
from pathlib import Path
from collector.store.duckdb import Database
from collector.store.migrate import Migration, migrate, migrations

def kill(statement, left=[int(sys.argv[2])]):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1

steps = [*migrations(), Migration(99, "more", Path(sys.argv[3]).read_text())]
migrate(Database(Path(sys.argv[1])).connection, steps, kill)
"""
MORE = """
ALTER TABLE calls ADD COLUMN mood VARCHAR;
UPDATE calls SET mood = 'new';
CREATE TABLE moods (m VARCHAR);
"""


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
    (tmp_path / "more.sql").write_text(MORE)
    steps = [*migrations(), Migration(99, "more", MORE)]
    path = tmp_path / "ledger.duckdb"
    database = Database(path)
    migrate(database.connection)
    database.connection.execute("INSERT INTO calls (call_id) VALUES ('a'), ('b')")
    database.close()
    before = path.read_bytes()

    for statement in range(6):
        path.write_bytes(before)
        path.with_name(path.name + ".wal").unlink(missing_ok=True)
        arguments = [str(path), str(statement), str(tmp_path / "more.sql")]
        ended = subprocess.run(
            [sys.executable, "-c", KILLED_AT, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.DEVNULL,
            check=False,
        )
        assert ended.returncode == (-signal.SIGKILL if statement < 6 else 0)

        database = Database(path)
        version = schema_version(database.connection)
        assert version in (migrations()[-1].version, 99)
        assert ("moods" in tables(database)) == (version == 99)
        assert migrate(database.connection, steps) == 99
        found = database.connection.execute("SELECT call_id, mood FROM calls ORDER BY 1").fetchall()
        assert found == [("a", "new"), ("b", "new")]
        database.close()
