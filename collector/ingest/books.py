"""The writer of the ledger: each batch of journal frames becomes rows, once.

Rows, open intents and the new mark of every source are committed together, so whatever
moment the process dies at, the next one goes on exactly after what the tables hold. What
is remembered here (marks, open intents, bookings from intents) is a copy of the database's
own tables, changed only after a commit.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from collector import logs
from collector.domain.record import CallRecord
from collector.ingest.clamp import clamped, sensible_instant
from collector.ingest.crashed import presumed_record
from collector.ingest.entry import Counts, Entry, RecordSink
from collector.ingest.events import BudgetRow, OutcomeRow, columns_of
from collector.ingest.pairing import Mark, Opened, in_columns, take
from collector.journal import Frame, decode_intent
from collector.store import machine_sums, rollups, schema
from collector.store.duckdb import Connection, Database, DatabaseError, UnfittingValue, told_apart
from collector.store.staging import Staged, Staging

_log = logs.get("collector.ingest")

UNFITTING = (pa.ArrowException, OverflowError, RecursionError, TypeError, ValueError)
"""A value does not fit its Arrow column, or is nested too deeply to be written down."""

_FRAMES_AT_ONCE = 4096
"""Frames decoded and turned into columns together: all that the follower reads at once. A few thousand are
still in the processor's cache; and of a hundred columns, each has a price of its own."""
_MOVE_MARK = (
    "UPDATE sources SET remote = $2, sequence = $3, segment = $4, position = $5, ended = $6,"
    " seen_at = make_timestamp($7) WHERE source = $1"
)

_KEEP_NOTES = (
    "INSERT INTO quarantined"
    " SELECT make_timestamp($1), unnest($2), unnest($3), unnest($4), unnest($5::BIGINT[])"
)

_KEEP_CONTENTS = (
    "INSERT INTO contents"
    " SELECT unnest($1), make_timestamp(unnest($2::BIGINT[])), unnest($3::VARCHAR[]), unnest($4::VARCHAR[])"
)
_KEEP_PRESUMED = "INSERT INTO presumed SELECT unnest($1), unnest($2), make_timestamp(unnest($3::BIGINT[]))"


class Books:
    """Books journal frames into a database.

    Every method may be called from any thread; writers take turns.

    Args:
        database: open and at the present schema.
        now_us: the clock, for notes and for instants that cannot be true.
        on_records: shown every batch of records; see `RecordSink`.
    """

    def __init__(
        self,
        database: Database,
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        on_records: RecordSink | None = None,
    ) -> None:
        self.database = database
        self.counts = Counts()
        self.marks: dict[str, Mark] = {}
        self.opened: dict[str, Opened] = {}
        self.presumed: set[str] = set()
        self._levels: dict[str, rollups.Mark] = {}
        self._now_us = now_us
        self._on_records = on_records
        self.reload()
        with database.turn:
            self._staging = Staging.of(database)
            (self._moved,) = database.connection.extract_statements(_MOVE_MARK)

    def reload(self) -> None:
        """Take marks and open intents from the database again."""
        with self.database.turn:
            query = self.database.connection.execute
            self.marks = {
                row[0]: Mark(*row[1:])
                for row in query(
                    "SELECT source, remote, sequence, segment, position, ended FROM sources"
                ).fetchall()
            }
            self.opened = {
                row[0]: Opened(*row)
                for row in query(
                    "SELECT call_id, source, epoch_us(started_at), intent FROM pending"
                ).fetchall()
            }
            self.presumed = {row[0] for row in query("SELECT call_id FROM presumed").fetchall()}
            self._levels = rollups.load_marks(self.database.connection)

    # -- what comes in

    def begin(self) -> "Entry":
        """An empty batch to add to."""
        return Entry()

    def take(self, entry: "Entry", source: str, frames: Sequence[Frame], mark: Mark) -> None:
        """Add the frames of ``source`` to ``entry``; see `collector.ingest.pairing.take`."""
        for start in range(0, len(frames), _FRAMES_AT_ONCE):
            part = frames[start : start + _FRAMES_AT_ONCE]
            before = entry.marks.get(source, mark)
            ready = in_columns(part, before.sequence, self._now_us())
            known = None if ready is None else ready.records.facts
            take(entry, source, part, before, self.opened, self.presumed, known)
            if ready is None:
                self._stage(entry)
            else:
                self._keep(entry, ready.records, ready.oldest_us, ready.calls, ready.attempts)

    def presume(self, batch: Entry, opened: Iterable[Opened]) -> None:
        """Book calls from their intents alone: no record of them will come, as far as anyone can tell."""
        for intent in opened:
            try:
                record = presumed_record(decode_intent(intent.intent))
            except (msgspec.MsgspecError, RecursionError, ValueError, TypeError, IndexError) as error:
                batch.note(intent.source, "undecodable", f"intent: {str(error)[:200]}", 1)
                batch.settled.append(intent.call_id)
                continue
            batch.presumed.append(intent)
            batch.records.append(record)
            batch.settled.append(intent.call_id)

    def finish(self, batch: Entry, source: str, mark: Mark) -> None:
        """The source has ended and all of it is read: what is still open will have no record."""
        if mark.ended:
            return
        fresh = [opened for opened in batch.opened.values() if opened.source == source]
        for opened in fresh:
            del batch.opened[opened.call_id]
        settled = set(batch.settled)
        older = [
            opened
            for opened in self.opened.values()
            if opened.source == source and opened.call_id not in settled
        ]
        self.presume(batch, fresh + older)
        batch.marks[source] = mark._replace(ended=True)

    def enter(self, batch: Entry) -> None:
        """Commit ``batch``: all of it, or, with an exception, nothing.

        Raises:
            StoreError: the database would not take it; the batch can be entered again later.
        """
        self._stage(batch)
        with self.database.turn:
            try:
                self._commit(batch)
            except (DatabaseError, MemoryError) as error:
                raise told_apart(error, self.database.path) from error
            self._remember(batch)
            for tell in batch.told:
                tell()

    def tell(self, *, outcomes: Sequence[OutcomeRow] = (), events: Sequence[BudgetRow] = ()) -> None:
        """Add rows that come past the journal; of events, those whose id is not there yet.

        Raises:
            StoreError: none of it was added.
        """
        once = {event.event_id: event for event in events}
        self.enter(Entry(outcomes=list(outcomes), budget_events=list(once.values())))

    def write(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one parameterised statement for each of ``rows``, in one transaction.

        Raises:
            StoreError: it was not done.
        """

        def change(connection: Connection, _: dict[str, rollups.Mark]) -> None:
            for row in rows:
                connection.execute(statement, list(row))

        self.apply(change)

    def apply(self, change: Callable[[Connection, dict[str, rollups.Mark]], object]) -> None:
        """Let ``change`` write, told how far each level's sums go, in one transaction.

        Raises:
            StoreError: nothing was written.
        """
        with self.database.turn:
            try:
                with self.database.transaction() as connection:
                    change(connection, self._levels)
            except (DatabaseError, MemoryError) as error:
                raise told_apart(error, self.database.path) from error

    def advance_rollups(self) -> bool:
        """Sum what has become old enough, one step; whether there was anything to do.

        Raises:
            StoreError: the database would not take it.
        """
        with self.database.turn:
            try:
                connection, now = self.database.connection, self._now_us()
                done = rollups.advance(connection, now) or machine_sums.advance(connection, now)
                if done:
                    self._levels = rollups.load_marks(self.database.connection)
            except (DatabaseError, MemoryError) as error:
                raise told_apart(error, self.database.path) from error
        return done

    # -- one transaction

    def _commit(self, batch: Entry) -> None:
        try:
            self._transact(batch)
        except UnfittingValue:
            # A value that passed Arrow and not the table: look at each row, and try once more.
            batch.calls = self._fitting(batch, batch.calls, self._staging.calls)
            batch.attempts = self._fitting(batch, batch.attempts, self._staging.attempts)
            self._transact(batch)

    def _transact(self, batch: Entry) -> None:
        now = self._now_us()
        with self.database.transaction() as connection:
            if batch.corrected:
                self._remove(connection, batch.corrected)
            if batch.calls:
                self._insert(connection, batch)
            if batch.settled:
                settled = pa.record_batch([pa.array(batch.settled, pa.string())], schema.SETTLED_LAYOUT)
                with self._staging.settled.holding([settled]):
                    self._staging.settled.run("forget")
            if batch.opened:
                with self._staging.pending.holding([self._pending_rows(batch.opened.values())]):
                    self._staging.pending.run("insert")
            if batch.outcomes:
                said = [row._replace(reported_at_us=self._sensible(row[0])) for row in batch.outcomes]
                with self._staging.outcomes.holding([columns_of(said, schema.OUTCOME_LAYOUT)]):
                    self._staging.outcomes.run("insert")
            if batch.budget_events:
                told = [row._replace(happened_at_us=self._sensible(row[0])) for row in batch.budget_events]
                with self._staging.budget_events.holding([columns_of(told, schema.BUDGET_EVENT_LAYOUT)]):
                    self._staging.budget_events.run("insert")
            if batch.similar_checks:
                seen = [row._replace(happened_at_us=self._sensible(row[0])) for row in batch.similar_checks]
                with self._staging.similar_checks.holding([columns_of(seen, schema.SIMILAR_LAYOUT)]):
                    self._staging.similar_checks.run("insert")
            if batch.presumed:
                call_ids, crashed, started, _ = map(list, zip(*batch.presumed, strict=True))
                connection.execute(_KEEP_PRESUMED, [call_ids, crashed, list(map(self._sensible, started))])
            if batch.notes:
                sources, reasons, details, frames, _ = map(list, zip(*batch.notes, strict=True))
                connection.execute(_KEEP_NOTES, [now, sources, reasons, details, frames])
            for source, mark in batch.marks.items():
                self._move_mark(connection, source, mark, now)

    def _insert(self, connection: Connection, batch: Entry) -> None:
        with self._staging.calls.holding(batch.calls):
            self._staging.calls.run("insert")
            rollups.book_late(connection, schema.STAGED_CALLS, batch.oldest_us, self._levels)
        if batch.attempts:
            with self._staging.attempts.holding(batch.attempts):
                self._staging.attempts.run("insert")
        if batch.contents:
            connection.execute(_KEEP_CONTENTS, list(map(list, zip(*batch.contents, strict=True))))

    def _remove(self, connection: Connection, call_ids: list[str]) -> None:
        rollups.take_out(connection, call_ids, self._levels)
        for table in ("calls", "attempts", "presumed", *schema.JUDGED_TABLES):
            connection.execute(
                f"DELETE FROM {table} WHERE call_id IN (SELECT unnest($1))",  # noqa: S608
                [call_ids],
            )

    def _move_mark(self, connection: Connection, source: str, mark: Mark, now_us: int) -> None:
        values = [source, mark.remote, mark.sequence, mark.segment, mark.position, mark.ended, now_us]
        if source in self.marks:
            connection.execute(self._moved, values)
        else:
            connection.execute(
                "INSERT INTO sources VALUES ($1, $2, $3, $4, $5, $6, make_timestamp($7))", values
            )

    def _remember(self, batch: Entry) -> None:
        counts = self.counts
        for call_id in batch.settled:
            self.opened.pop(call_id, None)
        self.opened.update(batch.opened)
        self.presumed.difference_update(batch.corrected)
        self.presumed.update(opened.call_id for opened in batch.presumed)
        self.marks.update(batch.marks)
        counts.calls += sum(part.num_rows for part in batch.calls) - len(batch.corrected)
        counts.attempts += sum(part.num_rows for part in batch.attempts)
        counts.events += len(batch.outcomes) + len(batch.budget_events) + len(batch.similar_checks)
        counts.frames += batch.frames
        counts.presumed += len(batch.presumed)
        counts.corrected += len(batch.corrected)
        counts.commits += 1
        counts.committed_at = self._now_us() / 1e6
        for note in batch.notes:
            counts.notes[note.reason] = counts.notes.get(note.reason, 0) + note.times
            counts.lost_frames += note.frames
        for note in {(note.source, note.reason): note for note in reversed(batch.notes)}.values():
            count = batch.noted[note.source, note.reason]
            _log.warning(
                "the journal is not whole",
                source=note.source,
                reason=f"{note.reason}: {note.detail}",
                count=count,
            )

    # -- columns

    def _stage(self, batch: Entry) -> None:
        """Turn the records that ``batch`` holds into columns."""
        records = batch.records
        if not records:
            return
        now = self._now_us()
        starts = [record.started_at_us for record in records]
        oldest = min(starts)
        if batch.suspicious or not (sensible_instant(oldest, now) and sensible_instant(max(starts), now)):
            records = [clamped(record, now) for record in records]
            oldest = min(record.started_at_us for record in records)
        try:
            calls, attempts = schema.staged_calls(records), schema.staged_attempts(records)
        except UNFITTING:
            records = self._cut_to_fit(batch, records, now)
            calls = schema.staged_calls(records) if records else None
            attempts = schema.staged_attempts(records) if records else None
        batch.contents.extend(
            (record.call_id, record.started_at_us, record.content.get("input"), record.content.get("output"))
            for record in records
            if record.content
        )
        self._keep(batch, records, oldest, calls, attempts)
        batch.records, batch.suspicious = [], False

    def _keep(
        self,
        batch: Entry,
        records: Sequence[CallRecord],
        oldest_us: int,
        calls: pa.RecordBatch | None,
        attempts: pa.RecordBatch | None,
    ) -> None:
        if calls is not None:
            batch.calls.append(calls)
        if attempts is not None:
            batch.attempts.append(attempts)
        batch.oldest_us = min(batch.oldest_us, oldest_us)
        tell = self._on_records(records) if self._on_records is not None else None
        if tell is not None:
            batch.told.append(tell)

    def _cut_to_fit(self, batch: Entry, records: list[CallRecord], now_us: int) -> list[CallRecord]:
        """Every record with its fields inside their columns; those that still do not fit are set aside."""
        fitting = []
        for record in records:
            cut = clamped(record, now_us)
            try:
                schema.staged_calls([cut])
                schema.staged_attempts([cut])
            except UNFITTING as error:
                batch.note("", "undecodable", f"call {record.call_id[:64]}: {str(error)[:200]}", 1)
            else:
                fitting.append(cut)
        return fitting

    def _fitting(self, batch: Entry, parts: list[pa.RecordBatch], staged: Staged) -> list[pa.RecordBatch]:
        """Single rows that the table takes; the others are noted."""
        connection = self.database.connection
        fitting = []
        for row in (part.slice(number, 1) for part in parts for number in range(part.num_rows)):
            connection.execute("BEGIN")
            try:
                with staged.holding([row]):
                    staged.run("insert")
            except UnfittingValue as error:
                call_id = str(row.column("call_id")[0])[:64]
                batch.note("", "undecodable", f"call {call_id}: {str(error)[:200]}", 1)
            else:
                fitting.append(row)
            finally:
                connection.execute("ROLLBACK")
        return fitting

    def _pending_rows(self, opened: Iterable[Opened]) -> pa.RecordBatch:
        call_ids, sources, started, intents = zip(*opened, strict=True)
        instants = [self._sensible(instant) for instant in started]
        return pa.record_batch([call_ids, sources, instants, intents], schema.PENDING_LAYOUT)

    def _sensible(self, instant_us: int) -> int:
        now = self._now_us()
        return instant_us if sensible_instant(instant_us, now) else now
