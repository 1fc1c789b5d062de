# ruff: noqa: S608  (names are our own; values are bound)
"""Spans of others in the ledger: their tables, and how they get in.

Table ``spans_received`` has a column for each of the vocabulary, in its order. Spans are stored
once: an OTLP client that had no answer sends a whole batch again.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import pyarrow as pa

from collector.ingest.otlp.batch import SCHEMA, SpanBatch
from collector.ingest.otlp.vocabulary import COLUMNS
from collector.store.duckdb import Connection, Database, DatabaseError, DatabaseUnavailable, told_apart

TABLE_COLUMNS: Final = (
    *("received_at", "trace_id", "span_id", "parent_span_id", "name", "kind", "service", "started_at"),
    *("duration_ms", "status", "error_type", "attributes", "producer", "role"),
    *(column.name for column in COLUMNS),
)
"""Of ``spans_received``, in the order of the table."""
_EXPRESSIONS: Final = {
    "received_at": "make_timestamp(received_at_us)",
    "started_at": "make_timestamp(started_at_us)",
    "duration_ms": "duration_us / 1000",
}
_INSERT: Final = f"""
    INSERT INTO spans_received ({", ".join(TABLE_COLUMNS)})
    SELECT {", ".join(_EXPRESSIONS.get(name, name) for name in TABLE_COLUMNS)} FROM staged_spans staged
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
        database: the ledger at this moment; None while it is not open.
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
        import pyarrow.compute as pc  # 9 MiB, for those to whom spans are sent.

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
