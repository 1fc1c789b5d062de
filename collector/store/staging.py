"""Rows on their way into a table, through statements that are planned once.

To plan an INSERT of eighty columns takes DuckDB longer than to run it for the calls of a
few seconds. So each table has one prepared statement that reads from one name, and behind
that name stands whatever Arrow data is to go in next.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar
from weakref import WeakKeyDictionary

import pyarrow as pa

from collector.store import schema
from collector.store.duckdb import Connection, Database


class Staged:
    """Arrow rows under the name ``staged_NAME``, and the statements that read them.

    Args:
        connection: the writer's; statements run on it, in whatever transaction it is in.
        name: of these rows.
        layout: their columns.
        statements: SQL over ``staged_NAME``, by the name that `run` takes.
    """

    def __init__(
        self, connection: Connection, name: str, layout: pa.Schema, statements: Mapping[str, str]
    ) -> None:
        self._connection = connection
        self._layout = layout
        self._parts: Sequence[pa.RecordBatch] = ()
        connection.register(f"staged_{name}", self)
        for word, sql in statements.items():
            connection.execute(f"PREPARE {word}_{name} AS {sql}")
        self._runs = {word: connection.extract_statements(f"EXECUTE {word}_{name}")[0] for word in statements}

    @contextmanager
    def holding(self, parts: Sequence[pa.RecordBatch]) -> Iterator[None]:
        """For as long as the context lasts, these are the rows."""
        self._parts = parts
        try:
            yield
        finally:
            self._parts = ()

    def run(self, word: str) -> None:
        """Run the statement of that name."""
        self._connection.execute(self._runs[word])

    # What DuckDB asks of whatever is registered: each scan is a stream of its own.

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows of this moment; see Arrow's PyCapsule interface."""
        # A table of them would be a millisecond of work: it has an object for each of a hundred columns.
        rows = pa.RecordBatchReader.from_batches(self._layout, self._parts)
        return rows.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        """Their columns."""
        return self._layout.__arrow_c_schema__()


class Staging:
    """What a ledger's writer stages: calls, attempts, open calls, calls that are open no more, and events."""

    _made: ClassVar["WeakKeyDictionary[Database, Staging]"] = WeakKeyDictionary()

    def __init__(self, connection: Connection) -> None:
        def staged(name: str, layout: pa.Schema, word: str, sql: str) -> Staged:
            return Staged(connection, name, layout, {word: sql})

        calls = f"INSERT INTO calls BY NAME SELECT * FROM {schema.STAGED_CALLS}"  # noqa: S608
        attempts = f"INSERT INTO attempts SELECT * FROM {schema.STAGED_ATTEMPTS}"  # noqa: S608
        forget = "DELETE FROM pending WHERE call_id IN (SELECT call_id FROM staged_settled)"
        self.calls = staged("calls", schema.CALL_LAYOUT, "insert", calls)
        self.attempts = staged("attempts", schema.ATTEMPT_LAYOUT, "insert", attempts)
        self.pending = staged(
            "pending", schema.PENDING_LAYOUT, "insert", "INSERT INTO pending SELECT * FROM staged_pending"
        )
        self.settled = staged("settled", schema.SETTLED_LAYOUT, "forget", forget)
        self.outcomes = staged(
            "outcomes", schema.OUTCOME_LAYOUT, "insert", "INSERT INTO outcomes SELECT * FROM staged_outcomes"
        )
        self.similar_checks = staged(
            "similar_checks",
            schema.SIMILAR_LAYOUT,
            "insert",
            "INSERT INTO similar_checks SELECT * FROM staged_similar_checks",
        )
        # Whoever had no answer sends an event again.
        events = (
            "INSERT INTO budget_events SELECT * FROM staged_budget_events staged WHERE NOT EXISTS"
            " (SELECT 1 FROM budget_events known WHERE known.event_id = staged.event_id)"
        )
        self.budget_events = staged("budget_events", schema.BUDGET_EVENT_LAYOUT, "insert", events)

    @classmethod
    def of(cls, database: Database) -> "Staging":
        """The one of ``database``, made at the first call; hold its turn."""
        made = cls._made.get(database)
        if made is None:
            made = cls._made[database] = cls(database.connection)
        return made
