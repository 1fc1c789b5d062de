# ruff: noqa: S608  (names are our own; values are bound)
"""Spans of others in the ledger: their tables, and how they get in.

`MIGRATION` is what the schema needs beside table ``spans_received``. Spans are stored once: an
OTLP client that had no answer sends a whole batch again.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from collector.ingest.otlp.batch import SCHEMA, SpanBatch
from collector.ingest.otlp.vocabulary import COLUMNS, Kind
from collector.store.duckdb import Connection, Database, DatabaseError, DatabaseUnavailable, told_apart

_TABLE_TYPES: Final = {
    Kind.TEXT: "VARCHAR",
    Kind.COUNT: "BIGINT",
    Kind.SECONDS: "DOUBLE",
    Kind.MILLISECONDS: "DOUBLE",
    Kind.USD: "DOUBLE",
    Kind.FLAG: "BOOLEAN",
    Kind.WORDS: "VARCHAR[]",
}

ADDED: Final = (
    ("producer", "VARCHAR"),
    ("role", "VARCHAR"),
    *((column.name, _TABLE_TYPES[column.kind]) for column in COLUMNS),
)
"""Columns of ``spans_received`` beyond its first ones, in order."""

MIGRATION: Final = "\n".join(
    [
        "-- What a received span says, in one vocabulary (collector/ingest/otlp/vocabulary.py).",
        *(f"ALTER TABLE spans_received ADD COLUMN {name} {kind};" for name, kind in ADDED),
        """
-- Model calls that spans of others tell of, and which call of ours each of them is;
-- call_id is empty for one that never passed the sidecar.
CREATE TABLE span_calls (
    trace_id VARCHAR,
    span_id VARCHAR,
    started_at TIMESTAMP,
    call_id VARCHAR,
    matched_by VARCHAR,
    noted_at TIMESTAMP
);

-- What the spans around a call say of it: the nearest agent, tool, task and step.
CREATE TABLE call_contexts (
    call_id VARCHAR,
    started_at TIMESTAMP,
    trace_id VARCHAR,
    agent VARCHAR,
    tool VARCHAR,
    task VARCHAR,
    step VARCHAR,
    conversation_id VARCHAR,
    user_id VARCHAR
);

-- Model calls that bypassed the sidecar: seen in spans, and in no record of ours.
CREATE VIEW bypass_calls AS
SELECT s.* FROM spans_received s JOIN span_calls m
    ON s.trace_id = m.trace_id AND s.span_id = m.span_id AND s.started_at = m.started_at
WHERE m.call_id = '';
""",
    ]
)

_NAMES: Final = (
    *("received_at", "trace_id", "span_id", "parent_span_id", "name", "kind", "service", "started_at"),
    *("duration_ms", "status", "error_type", "attributes", *(name for name, _ in ADDED)),
)
_EXPRESSIONS: Final = {
    "received_at": "make_timestamp(received_at_us)",
    "started_at": "make_timestamp(started_at_us)",
    "duration_ms": "duration_us / 1000",
}
_INSERT: Final = f"""
    INSERT INTO spans_received ({", ".join(_NAMES)})
    SELECT {", ".join(_EXPRESSIONS.get(name, name) for name in _NAMES)} FROM staged_spans staged
    WHERE NOT EXISTS (
        SELECT 1 FROM spans_received known
        WHERE known.started_at BETWEEN make_timestamp($1) AND make_timestamp($2)
            AND known.started_at = make_timestamp(staged.started_at_us)
            AND known.span_id = staged.span_id AND known.trace_id = staged.trace_id
    )"""
"""A span that is sent again has the time it had: only rows of the batch's own times are looked at."""


class LedgerSink:
    """Writes batches of spans into a ledger. May be called from any thread; writers take turns.

    Args:
        database: the ledger at this moment, with `MIGRATION` done; None while it is not open.
    """

    def __init__(self, database: Callable[[], Database | None]) -> None:
        self._database = database

    def accept(self, batches: Sequence[SpanBatch]) -> int:
        """Store the spans of ``batches`` that are not stored yet, in one transaction; how many.

        Raises:
            StoreError: none of them were; they can be offered again.
        """
        database = self._database()
        if database is None:
            raise DatabaseUnavailable("the ledger is not open")
        staged = pa.Table.from_batches([batch.columns for batch in batches], SCHEMA)
        bounds = pc.min_max(staged.column("started_at_us")).as_py()
        with database.turn:
            try:
                with database.transaction() as connection:
                    return _insert(connection, staged, [bounds["min"], bounds["max"]])
            except (DatabaseError, MemoryError) as error:
                raise told_apart(error, database.path) from error


def _insert(connection: Connection, staged: pa.Table, bounds: list[int]) -> int:
    connection.register("staged_spans", staged)
    try:
        row = connection.execute(_INSERT, bounds).fetchone()
        return int(row[0]) if row else 0
    finally:
        # Of a transaction that failed nothing can be taken back but all of it.
        with suppress(DatabaseError):
            connection.unregister("staged_spans")
