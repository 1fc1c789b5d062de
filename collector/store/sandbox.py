"""One SELECT from outside, on the published snapshot, in a process of its own.

    python -m collector.store.sandbox   reads a request from stdin, writes an answer to stdout

Four walls stand around it. The statement must be exactly one SELECT, taken apart by DuckDB's
own parser on a locked connection, and may name only the ledger's tables and no function that
looks outside. The file is opened read-only with everything external switched off. Time, rows
and bytes are counted. And the process has hard limits of memory and processor time, knows no
secret, and cannot hold up the collector whatever happens in it.
"""

import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from collector.store.duckdb import (
    Connection,
    Database,
    DatabaseConfig,
    DatabaseError,
    Interrupt,
    OutOfMemory,
    StoreError,
)

TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat_row"})
"""What may stand in FROM besides the ledger's tables."""
_FORBIDDEN = (
    *("read_", "duckdb_", "pragma_", "parquet_", "sniff_", "json_execute", "json_deserialize", "query"),
    *("getenv", "current_setting", "glob", "which_secret", "pg_", "from_substrait", "write_log", "nextval"),
    *("currval", "getvariable", "set_", "sql_auto_complete", "scan_", "arrow_", "python_", "enable_", "icu_"),
    *("current_database", "current_catalog", "in_search_path", "current_query", "txid_", "add_parquet"),
)
"""Beginnings of functions that look at the process, its settings or its files."""
_SCHEMAS = frozenset({"", "main"})


class Refused(ValueError):
    """The statement is not one that is run for others; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """What one statement may use."""

    seconds: float = 10.0
    rows: int = 10_000
    answer_bytes: int = 16 << 20
    memory_bytes: int = 256 << 20
    """Of DuckDB."""
    address_space_bytes: int = 2 << 30
    """Of the whole process, enforced by the kernel."""
    statement_bytes: int = 64 << 10


# ---- the statement ------------------------------------------------------------------------


def check(connection: Connection, sql: str) -> None:
    """See that ``sql`` is one SELECT on the ledger's tables.

    Raises:
        Refused: it is not.
    """
    try:
        statements = connection.extract_statements(sql)
    except DatabaseError as error:
        raise Refused(_first_line(error)) from None
    if len(statements) != 1:
        raise Refused(f"exactly one SELECT is taken, and these are {len(statements)} statements")
    if statements[0].type.name != "SELECT":
        raise Refused(f"exactly one SELECT is taken, and this is a {statements[0].type.name}")
    row = connection.execute("SELECT json_serialize_sql($1)", [statements[0].query]).fetchone()
    tree = json.loads(row[0]) if row else {"error": True}
    if tree.get("error"):
        raise Refused(f"exactly one SELECT is taken: {tree.get('error_message', 'this is none')}")
    tables = {
        name.lower()
        for (name,) in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'ledger'"
            " UNION ALL SELECT view_name FROM duckdb_views() WHERE database_name = 'ledger' AND NOT internal"
        ).fetchall()
    }
    internal = {
        name.lower()
        for (name,) in connection.execute("SELECT view_name FROM duckdb_views() WHERE internal").fetchall()
    }
    own = {str(entry["key"]).lower() for entry in _nodes(tree) if "key" in entry and "value" in entry}
    for node in _nodes(tree):
        _check_node(node, tables, own - internal)


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    stack = [value]
    while stack:
        entry = stack.pop()
        if isinstance(entry, dict):
            yield entry
            stack.extend(entry.values())
        elif isinstance(entry, list):
            stack.extend(entry)


def _check_node(node: dict[str, Any], tables: set[str], own: set[str]) -> None:
    match node.get("type"):
        case "BASE_TABLE":
            name = str(node.get("table_name", "")).lower()
            schema, catalog = str(node.get("schema_name", "")), str(node.get("catalog_name", ""))
            known = name in tables or (name in own and not schema and not catalog)
            if not known or schema not in _SCHEMAS or catalog not in ("", "ledger"):
                raise Refused(f"no table {name[:64]!r}; there are {', '.join(sorted(tables))}")
        case "TABLE_FUNCTION":
            name = str(node.get("function", {}).get("function_name", "")).lower()
            if name not in TABLE_FUNCTIONS:
                raise Refused(f"{name[:64]!r} cannot stand in FROM")
        case "SHOW_REF":
            raise Refused("exactly one SELECT is taken; ask /v1/questions what there is")
    function = str(node.get("function_name", "")).lower()
    if function.startswith(_FORBIDDEN):
        raise Refused(f"the function {function[:64]!r} is not available here")


# ---- the answer ---------------------------------------------------------------------------


def select(path: Path, sql: str, *, arrow: bool, limits: SandboxLimits) -> tuple[dict[str, Any], bytes]:
    """Run one SELECT on the snapshot at ``path``.

    Returns:
        What is to be said of it (``status`` as in HTTP, ``error`` or ``truncated``), and the answer:
        an Arrow stream, or JSON ``{"columns": [...], "rows": [...]}``.
    """
    if len(sql.encode()) > limits.statement_bytes:
        return _failure(400, f"the statement is longer than {limits.statement_bytes >> 10} KiB")
    try:
        database = Database(
            path, DatabaseConfig(memory_limit_bytes=limits.memory_bytes, threads=1), read_only=True
        )
    except StoreError:
        return _failure(503, "there is no snapshot to ask yet; try again in a minute")
    try:
        check(database.connection, sql)
        with Interrupt(database.connection, limits.seconds) as timer:
            return _answer(database.connection, sql, arrow=arrow, limits=limits)
    except Refused as error:
        return _failure(400, str(error))
    except (OutOfMemory, MemoryError):
        return _failure(
            413, f"the query needs more memory than the {limits.memory_bytes >> 20} MiB it may take"
        )
    except DatabaseError as error:
        if timer.fired:
            return _failure(408, f"the query ran longer than {limits.seconds:g} s and was interrupted")
        return _failure(400, _first_line(error).replace(str(path), "the snapshot"))
    finally:
        database.close()


def _answer(
    connection: Connection, sql: str, *, arrow: bool, limits: SandboxLimits
) -> tuple[dict[str, Any], bytes]:
    import pyarrow as pa

    from collector.store.answers import arrow_bytes, json_bytes

    reader = connection.sql(sql).to_arrow_reader(512)
    batches, rows, size, truncated = [], 0, 0, False
    for batch in reader:
        if rows + batch.num_rows > limits.rows:
            batch, truncated = batch.slice(0, limits.rows - rows), True
        size += batch.nbytes
        if size > limits.answer_bytes:
            truncated = True
            break
        batches.append(batch)
        rows += batch.num_rows
        if truncated:
            break
    table = pa.Table.from_batches(batches, schema=reader.schema)
    head = {"status": 200, "truncated": truncated}
    if arrow:
        return head, arrow_bytes(table)
    return head, json_bytes(table, {"truncated": truncated}, lambda column: _texts(connection, column))


def _texts(connection: Connection, column: Any) -> list[str | None]:
    """What DuckDB writes for the values of an Arrow column."""
    import pyarrow as pa

    relation = connection.from_arrow(pa.table({"value": column}))
    return [text for (text,) in relation.project("CAST(value AS VARCHAR)").fetchall()]


def _failure(status: int, message: str) -> tuple[dict[str, Any], bytes]:
    return {"status": status, "error": message}, b""


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:500]


# ---- the process --------------------------------------------------------------------------


_FOLDER = ".sandbox-"


@contextmanager
def folder_beside(snapshot: Path) -> Iterator[Path]:
    """A folder on the snapshot's disk, for as long as a statement runs, however that ends.

    Raises:
        OSError: there is no room for one.
    """
    folder = Path(tempfile.mkdtemp(dir=snapshot.parent, prefix=_FOLDER))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(data_dir: Path) -> None:
    """Remove the folders that statements of a collector that was killed left."""
    for folder in data_dir.glob(f"{_FOLDER}*"):
        shutil.rmtree(folder, ignore_errors=True)


def request_bytes(path: Path, sql: str, *, folder: Path, arrow: bool, limits: SandboxLimits) -> bytes:
    """What the process reads from stdin.

    Args:
        path: the snapshot.
        sql: what is asked.
        folder: one of its own, on the snapshot's disk; see `folder_beside`.
        arrow: whether the answer is Arrow, and not JSON.
        limits: see there.
    """
    asked = {"path": str(path), "sql": sql, "folder": str(folder), "arrow": arrow, "limits": asdict(limits)}
    return json.dumps(asked).encode()


def answer_parts(output: bytes) -> tuple[dict[str, Any], bytes]:
    """What the process wrote to stdout, taken apart."""
    head, newline, body = output.partition(b"\n")
    if not newline:
        raise ValueError("the sandbox gave no answer")
    return dict(json.loads(head)), body


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.buffer.read())
    limits = SandboxLimits(**request["limits"])
    resource.setrlimit(resource.RLIMIT_AS, (limits.address_space_bytes, limits.address_space_bytes))
    seconds = int(limits.seconds) + 5
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        os.nice(5)
    # A name of its own: the snapshot may be replaced while it is being read.
    mine = Path(request["folder"]) / "snapshot.duckdb"
    try:
        mine.hardlink_to(request["path"])
        head, body = select(mine, request["sql"], arrow=request["arrow"], limits=limits)
    except FileNotFoundError:
        head, body = _failure(503, "there is no snapshot to ask yet; try again in a minute")
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + body)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
