"""Bringing a database to the present schema, one numbered file at a time.

Each file of `migrations/` runs in one transaction together with the row that says so:
killed at any statement, the database is as before or as after, and the next start goes on.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

MIGRATIONS = Path(__file__).parent / "migrations"


class Migration(NamedTuple):
    """One step of the schema."""

    version: int
    name: str
    sql: str


class SchemaTooNew(Exception):
    """The database was written by a newer version of this program."""


def migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """The steps in order, from files called ``0001_name.sql``."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        number, _, name = path.stem.partition("_")
        found.append(Migration(int(number), name, path.read_text(encoding="utf-8")))
    return found


def schema_version(connection: Any) -> int:
    """Which step the database is at; 0 for an empty one."""
    known = connection.execute(
        "SELECT count(*) FROM duckdb_tables()"
        " WHERE table_name = 'schema_version' AND database_name = current_database()"
    ).fetchall()
    if not known[0][0]:
        return 0
    # All of a result is fetched: a connection with more to come takes nothing else.
    return int(connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchall()[0][0])


def migrate(
    connection: Any,
    steps: list[Migration] | None = None,
    before_statement: Callable[[str], None] = lambda statement: None,
) -> int:
    """Apply the steps that the database lacks; returns its version.

    Args:
        connection: a DuckDB connection with no transaction open.
        steps: all steps, in order; those of this program when None.
        before_statement: called with each statement before it runs.

    Raises:
        SchemaTooNew: the database has steps that we do not know.
    """
    steps = migrations() if steps is None else steps
    present = schema_version(connection)
    if steps and present > steps[-1].version:
        raise SchemaTooNew(f"the database is at schema {present}, this program knows {steps[-1].version}")
    for step in steps:
        if step.version > present:
            _apply(connection, step, before_statement)
            present = step.version
    return present


def _apply(connection: Any, step: Migration, before_statement: Callable[[str], None]) -> None:
    statements = [
        "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT, name VARCHAR)",
        *(statement.query for statement in connection.extract_statements(step.sql)),
        f"INSERT INTO schema_version VALUES ({step.version}, '{step.name}')",  # noqa: S608
    ]
    connection.execute("BEGIN")
    try:
        for statement in statements:
            before_statement(statement)
            connection.execute(statement)
        before_statement("COMMIT")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
