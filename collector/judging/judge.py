"""The worker that judges conversations as they change, and writes down what it finds.

A conversation is judged as a whole, and again when it has gone on: what was said of it before is replaced
in the same transaction. The rules are pure (`collector.domain.waste`, `prompt_cache`, `signals`); here are
only their rows, in and out.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from collector import logs
from collector.domain.runs import run_of, tools_of
from collector.domain.signals import inferred
from collector.domain.waste import LEFT_ALONE_US, judge
from collector.judging.noticing import LOOK_BACK_US, Due, Notices
from collector.judging.rows import Conversation, PriceOf, alone, conversations, since_of
from collector.judging.tables import LAYOUTS, Findings, add, in_usd, replace, staged_alone
from collector.store.duckdb import Connection, Database, DatabaseError, StoreError, told_apart
from collector.store.staging import Staged

if TYPE_CHECKING:
    from collector.ingest.books import Books

_log = logs.get("collector.judging")

INTERVAL_S: Final = 5.0
INTERVAL_US: Final = int(INTERVAL_S * 1_000_000)
REST: Final = 39.0
"""Behind with its work, it rests so many times as long as it worked: calls are booked by the same process.

Judging is a fortieth of a core, then; of conversations that each repeat another, a thousand a second are
judged all the same. What can wait for half a minute does not have to be felt.
"""
MOST_AT_ONCE: Final = 1_000
"""Conversations judged in one transaction."""
_CATCH_UP_US: Final = 2 * 3_600_000_000
"""What is judged again after a start: what ended before was judged before."""

_ANY_FAILED: Final = "SELECT 1 FROM outcomes WHERE reported_at >= make_timestamp($1) AND NOT success LIMIT 1"
_ANY_SAID: Final = "SELECT 1 FROM outcomes WHERE reported_at >= make_timestamp($1) LIMIT 1"
_OF_LATE: Final = (
    "SELECT DISTINCT tenant, conversation_id FROM calls WHERE conversation_id <> ''"
    " AND started_at >= make_timestamp($1) AND len(message_hashes) > 2 LIMIT 10000"
)
_FAILED_TASKS: Final = """
    SELECT DISTINCT c.call_id FROM calls c JOIN (
        SELECT task_id, conversation_id, trace_id, arg_max(success, reported_at) AS success
        FROM outcomes WHERE reported_at >= make_timestamp($1) GROUP BY ALL
    ) o ON (o.task_id <> '' AND o.task_id = c.task_id)
        OR (o.task_id = '' AND o.conversation_id <> '' AND o.conversation_id = c.conversation_id)
        OR (o.task_id = '' AND o.conversation_id = '' AND o.trace_id = c.trace_id)
    WHERE NOT o.success AND c.started_at >= make_timestamp($1) AND c.conversation_id IN (SELECT unnest($2))"""

_ENDED: Final = """
    SELECT DISTINCT c.tenant, c.conversation_id FROM calls c JOIN outcomes o
        ON (o.task_id <> '' AND o.task_id = c.task_id) OR (o.trace_id <> '' AND o.trace_id = c.trace_id)
            OR (o.conversation_id <> '' AND o.conversation_id = c.conversation_id)
    WHERE o.reported_at >= make_timestamp($1) AND o.reported_at < make_timestamp($2)
        AND c.started_at >= make_timestamp($3) AND c.conversation_id <> '' LIMIT 10000"""


class Judge:
    """Judges what `notices` tell of.

    Args:
        books: the ledger's writer at this moment; None while it is not open.
        notices: told of records as they are booked.
        price_of: list prices.
        tool_prices: what one use of a tool costs, in pico-USD.
        now_us: the clock.
    """

    def __init__(
        self,
        books: "Callable[[], Books | None]",
        notices: Notices,
        price_of: PriceOf,
        tool_prices: Mapping[str, int] | None = None,
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._books = books
        self._notices = notices
        self._price_of = price_of
        self._tool_prices = tool_prices or {}
        self._now_us = now_us
        self._outcomes_us: int | None = None
        self._priced: Database | None = None
        self._staged: tuple[Database, Staged] | None = None
        self._none_ended: tuple[Database, int] | None = None
        """With so many events booked, nobody had said how anything ended since we looked last."""
        self._none_failed: tuple[Database, int, int] | None = None
        """With so many events booked, nobody had said since that instant that anything failed."""
        self.judged = 0
        """Conversations, as often as they were."""

    def run(self, stop: threading.Event) -> None:
        """The thread's work, until ``stop`` is set."""
        complained = False
        while not stop.wait(INTERVAL_S):
            try:
                # Its own time, not the clock's: to wait for a busy processor, or for the books, is no work.
                began = time.thread_time()
                while self.step() and not stop.wait(REST * (time.thread_time() - began)):
                    began = time.thread_time()
                complained = False
            except StoreError as error:
                if not complained:
                    _log.warning("conversations are not judged now", reason=str(error)[:200])
                complained = True
            except Exception as error:
                # The books do not stand on it.
                if not complained:
                    _log.error("conversations are not judged now", failure=error)
                complained = True

    def step(self) -> bool:
        """Judge some conversations; whether there may be more to do at once.

        Raises:
            StoreError: the ledger did not take it.
        """
        books = self._books()
        if books is None:
            return False
        now = self._now_us()
        database = books.database
        try:
            if self._priced is not database:
                self._declare(database)
            self._look_at_outcomes(books, now)
            due = self._notices.take(now, MOST_AT_ONCE)
            if not due:
                return False
            try:
                self._judge(books, due, now)
            except BaseException:
                for one in due:
                    self._notices.again(one.key, now)
                raise
        except DatabaseError as error:
            raise told_apart(error, database.path) from error
        return len(due) == MOST_AT_ONCE

    def _declare(self, database: Database) -> None:
        """Write down what tools cost, for questions about what spans tell of them."""
        rows = list(self._tool_prices.items())
        with database.turn, database.transaction() as connection:
            connection.execute("DELETE FROM tool_prices")
            for tool, pico in rows:
                connection.execute(f"INSERT INTO tool_prices SELECT $1, {in_usd('$2::BIGINT')}", [tool, pico])
        self._priced = database

    def _look_at_outcomes(self, books: "Books", now: int) -> None:
        """Conversations of which somebody has said since how they ended; at first those of late."""
        database, booked = books.database, books.counts.events
        until = now - INTERVAL_US
        if self._outcomes_us is not None and self._none_ended == (database, booked):
            self._outcomes_us = until
            return
        reader = database.reader()
        try:
            if self._outcomes_us is None:
                query, given = _OF_LATE, [now - _CATCH_UP_US]
            elif not reader.execute(_ANY_SAID, [self._outcomes_us]).fetchall():
                self._none_ended = database, booked
                query, given = "", []
            else:
                query, given = _ENDED, [self._outcomes_us, until, now - LOOK_BACK_US]
            found = reader.execute(query, given).fetchall() if query else []
        finally:
            reader.close()
        self._outcomes_us = until
        for tenant, conversation in found:
            self._notices.again((tenant or "", conversation, ""), now)

    def _failed_tasks(self, books: "Books", reader: Connection, due: Sequence[Due]) -> set[str]:
        """Calls of what is due whose task, conversation or trace is known to have failed."""
        database, booked = books.database, books.counts.events
        since = min(one.since_us for one in due) - LOOK_BACK_US
        known = self._none_failed
        if known is not None and known[:2] == (database, booked) and known[2] <= since:
            return set()
        if not reader.execute(_ANY_FAILED, [since]).fetchall():
            self._none_failed = database, booked, since
            return set()
        names = [one.key[1] for one in due if one.key[1]]
        return {row[0] for row in reader.execute(_FAILED_TASKS, [since, names]).fetchall()}

    def _judge(self, books: "Books", due: Sequence[Due], now: int) -> None:
        database = books.database
        reader = database.reader()
        try:
            failed = self._failed_tasks(books, reader, due)
            single = [one for one in due if one.call_id]
            rest = [one for one in due if not one.call_id]
            if single:
                rest += self._judge_alone(database, reader, single, failed)
            if rest:
                self._judge_together(database, reader, rest, failed, now)
        finally:
            reader.close()
        self.judged += len(due)

    def _judge_alone(
        self, database: Database, reader: Connection, due: Sequence[Due], failed: Collection[str]
    ) -> list[Due]:
        """Judge what is one call that is like many; what has to be looked at otherwise is returned."""
        commits = database.commits
        found = alone(reader, due, failed)
        with database.turn:
            if database.commits != commits:
                # A call may have been corrected since: read again, while nobody writes.
                found = alone(reader, due, failed)
            if found.judged:
                if self._staged is None or self._staged[0] is not database:
                    self._staged = database, staged_alone(database.connection)
                with database.transaction() as connection:
                    add(connection, self._staged[1], since_of(due), found)
        return found.rest

    def _judge_together(
        self, database: Database, reader: Connection, due: Sequence[Due], failed: Collection[str], now: int
    ) -> None:
        """Judge conversations one by one, each by all of its calls."""
        found: Findings = {table: [] for table in LAYOUTS}
        call_ids: list[str] = []
        answered = {one.key: one.answered for one in due if one.repeats}
        for conversation in conversations(reader, due, self._price_of):
            call_ids += [turn.call_id for turn in conversation.turns]
            self._one(conversation, now, answered.get(conversation.key, {}), failed, found)
        if call_ids:
            with database.turn, database.transaction() as connection:
                replace(connection, since_of(due), call_ids, found)

    def _one(
        self,
        conversation: Conversation,
        now: int,
        doubles: Mapping[str, str],
        failed: Collection[str],
        found: Findings,
    ) -> None:
        turns = conversation.turns
        bill = judge(turns, now, answered=doubles, failed_tasks=failed)
        found["waste"] += [
            (one.call_id, one.waste.value, one.cost_pico, one.whole, list(one.because), one.detail)
            for one in bill.verdicts
        ]
        found["cache_breaks"] += [
            (one.call_id, one.after, one.cause.value, one.block, one.lost_tokens, one.cost_pico)
            for one in bill.breaks
        ]
        found["inferred_outcomes"] += [
            (one.call_id, one.signal.value) for one in inferred(turns, now, doubles)
        ]
        last = turns[-1]
        run = run_of(turns, bill.verdicts)
        found["runs"].append((last.call_id, turns[0].started_us, last.ended_us, *run))
        found["tool_uses"] += [
            (last.call_id, *use) for use in tools_of(turns, conversation.tools, self._tool_prices)
        ]
        if last.calls and last.outcome == "served" and now - last.ended_us <= LEFT_ALONE_US:
            self._notices.left_open(conversation.key, last.ended_us)


def prices_of(configured: Any) -> PriceOf:
    """List prices by the price book, which is read when it is first needed."""
    book: list[Any] = []

    def price_of(provider: str, model: str, at_us: int, region: str) -> Any:
        if not book:
            from collector.pricing.book import PriceBook

            book.append(PriceBook.load(configured))
        return book[0].quote(provider, model, at_us, region).price

    return price_of
