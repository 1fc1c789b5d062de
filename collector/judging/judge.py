# ruff: noqa: S608  (names are our own; values are bound)
"""The worker that judges conversations as they change, and writes down what it finds.

A conversation is judged as a whole, and again when it has gone on: what was said of it before is replaced
in the same transaction. The rules are pure (`collector.domain.waste`, `prompt_cache`, `signals`); here are
only their rows, in and out.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from collector import logs
from collector.domain.runs import Run, ToolUse, run_of, tools_of
from collector.domain.signals import inferred
from collector.domain.waste import LEFT_ALONE_US, judge
from collector.judging.noticing import LOOK_BACK_US, Due, Notices
from collector.judging.rows import Conversation, PriceOf, conversations
from collector.store.duckdb import Connection, Database, DatabaseError, StoreError, told_apart

if TYPE_CHECKING:
    from collector.ingest.books import Books

_log = logs.get("collector.judging")

INTERVAL_S: Final = 5.0
INTERVAL_US: Final = int(INTERVAL_S * 1_000_000)
REST: Final = 19.0
"""Behind with its work, it rests so many times as long as it worked: calls are booked by the same process.

Where every call repeats another, a busy sidecar's thousands a second are all due: with a rest of four times
the work, judging took as much of the processor as booking them.
"""
MOST_AT_ONCE: Final = 1_000
"""Conversations judged in one transaction."""
_CATCH_UP_US: Final = 2 * 3_600_000_000
"""What is judged again after a start: what ended before was judged before."""

_WHO: Final = (
    "tenant, team, user_id, agent, conversation_id, task_id, request_model, upstream, api, key_id, tags"
)
_WASTE: Final = pa.schema(
    [
        pa.field("call_id", pa.string()),
        pa.field("waste", pa.string()),
        pa.field("cost_pico", pa.int64()),
        pa.field("whole", pa.bool_()),
        pa.field("because", pa.list_(pa.string())),
        pa.field("detail", pa.string()),
    ]
)
_BREAKS: Final = pa.schema(
    [
        pa.field("call_id", pa.string()),
        pa.field("after_call_id", pa.string()),
        pa.field("cause", pa.string()),
        pa.field("block", pa.string()),
        pa.field("lost_tokens", pa.int64()),
        pa.field("cost_pico", pa.int64()),
    ]
)
_SIGNALS: Final = pa.schema([pa.field("call_id", pa.string()), pa.field("signal", pa.string())])
_RUNS: Final = pa.schema(
    [
        pa.field("call_id", pa.string()),
        pa.field("began_at", pa.timestamp("us")),
        pa.field("ended_at", pa.timestamp("us")),
        *(pa.field(name, pa.int64()) for name in Run._fields),
    ]
)
_TOOLS: Final = pa.schema(
    [
        pa.field("call_id", pa.string()),
        pa.field("tool", pa.string()),
        *(pa.field(name, pa.int64()) for name in ToolUse._fields if name != "tool"),
    ]
)
_LAYOUTS: Final = {
    "waste": _WASTE,
    "cache_breaks": _BREAKS,
    "inferred_outcomes": _SIGNALS,
    "runs": _RUNS,
    "tool_uses": _TOOLS,
}
"""By table, what is found before the ledger says whose it is."""


def _in_usd(column: str) -> str:
    return f"CAST({column} * CAST(0.000000000001 AS DECIMAL(13,12)) AS DECIMAL(18,12))"


_USD: Final = _in_usd("cost_pico")

_INSERTS: Final = {
    # The call may have been corrected since it was read: what it costs now is what it can have wasted.
    "waste": f"""
        INSERT INTO waste SELECT started_at, call_id, {_WHO}, waste,
            CASE WHEN whole THEN effective_cost_usd ELSE least({_USD}, effective_cost_usd) END,
            whole, because, detail
        FROM staged_findings JOIN near_calls USING (call_id)""",
    "cache_breaks": f"""
        INSERT INTO cache_breaks SELECT started_at, call_id, {_WHO}, after_call_id, cause, block, lost_tokens,
            {_USD}
        FROM staged_findings JOIN near_calls USING (call_id)""",
    "inferred_outcomes": f"""
        INSERT INTO inferred_outcomes SELECT started_at, call_id, {_WHO}, signal
        FROM staged_findings JOIN near_calls USING (call_id)""",
    "runs": f"""
        INSERT INTO runs SELECT began_at, call_id, {_WHO}, trace_id, ended_at, steps, turns, retries, looped,
            tool_calls, tool_errors, input_tokens, output_tokens, cache_read_tokens, {_USD},
            {_in_usd("wasted_pico")}
        FROM staged_findings JOIN near_calls USING (call_id)""",
    "tool_uses": f"""
        INSERT INTO tool_uses SELECT started_at, call_id, {_WHO}, tool, uses, repeats, errors, {_USD},
            {_in_usd("declared_pico")}
        FROM staged_findings JOIN near_calls USING (call_id)""",
}
_NEAR: Final = f"""
    CREATE OR REPLACE TEMP TABLE near_calls AS
    SELECT started_at, call_id, {_WHO}, trace_id, effective_cost_usd FROM calls
    WHERE started_at >= make_timestamp($1) AND call_id IN (SELECT unnest($2))"""

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
        self.judged = 0
        """Conversations, as often as they were."""

    def run(self, stop: threading.Event) -> None:
        """The thread's work, until ``stop`` is set."""
        complained = False
        while not stop.wait(INTERVAL_S):
            try:
                began = time.monotonic()
                while self.step() and not stop.wait(REST * (time.monotonic() - began)):
                    began = time.monotonic()
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
            self._look_at_outcomes(database, now)
            due = self._notices.take(now, MOST_AT_ONCE)
            if not due:
                return False
            try:
                self._judge(database, due, now)
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
                connection.execute(
                    f"INSERT INTO tool_prices SELECT $1, {_in_usd('$2::BIGINT')}", [tool, pico]
                )
        self._priced = database

    def _look_at_outcomes(self, database: Database, now: int) -> None:
        """Conversations of which somebody has said since how they ended; at first those of late."""
        reader = database.reader()
        try:
            if self._outcomes_us is None:
                found = reader.execute(
                    "SELECT DISTINCT tenant, conversation_id FROM calls WHERE conversation_id <> ''"
                    " AND started_at >= make_timestamp($1) AND len(message_hashes) > 2 LIMIT 10000",
                    [now - _CATCH_UP_US],
                ).fetchall()
            else:
                found = reader.execute(
                    _ENDED, [self._outcomes_us, now - INTERVAL_US, now - LOOK_BACK_US]
                ).fetchall()
        finally:
            reader.close()
        self._outcomes_us = now - INTERVAL_US
        for tenant, conversation in found:
            self._notices.again((tenant or "", conversation), now)

    def _judge(self, database: Database, due: Sequence[Due], now: int) -> None:
        found: Findings = {table: [] for table in _LAYOUTS}
        call_ids: list[str] = []
        since = min(one.since_us for one in due)
        reader = database.reader()
        try:
            failed = {
                row[0]
                for row in reader.execute(
                    _FAILED_TASKS, [since - LOOK_BACK_US, [one.key[1] for one in due]]
                ).fetchall()
            }
            for conversation in conversations(reader, due, self._price_of):
                call_ids += [turn.call_id for turn in conversation.turns]
                since = min(since, conversation.turns[0].started_us)
                self._one(conversation, now, failed, found)
        finally:
            reader.close()
        with database.turn, database.transaction() as connection:
            connection.execute(_NEAR, [since, call_ids])
            for table, rows in found.items():
                connection.execute(
                    f"DELETE FROM {table} WHERE started_at >= make_timestamp($1)"
                    " AND call_id IN (SELECT call_id FROM near_calls)",
                    [since],
                )
                if rows:
                    _insert(connection, _INSERTS[table], _LAYOUTS[table], rows)
            connection.execute("DROP TABLE near_calls")
        self.judged += len(due)

    def _one(
        self,
        conversation: Conversation,
        now: int,
        failed: Collection[str],
        found: "Findings",
    ) -> None:
        turns = conversation.turns
        doubles = self._notices.duplicates(conversation.key)
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


Findings = dict[str, list[tuple[Any, ...]]]
"""Rows by table."""


def _insert(connection: Connection, sql: str, layout: pa.Schema, rows: Sequence[tuple[Any, ...]]) -> None:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, layout, strict=True)]
    connection.register("staged_findings", pa.Table.from_arrays(arrays, schema=layout))
    try:
        connection.execute(sql)
    finally:
        connection.unregister("staged_findings")


def prices_of(configured: Any) -> PriceOf:
    """List prices by the price book, which is read when it is first needed."""
    book: list[Any] = []

    def price_of(provider: str, model: str, at_us: int, region: str) -> Any:
        if not book:
            from collector.pricing.book import PriceBook

            book.append(PriceBook.load(configured))
        return book[0].quote(provider, model, at_us, region).price

    return price_of
