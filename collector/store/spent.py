# ruff: noqa: S608  (columns are those declared in this file; values are bound)
"""What the ledger says was spent of budgets, for a store of budgets that lost its data.

Sums are exact as budgets count: money in nano-USD, each call rounded up by itself. They come with how far
each journal is counted in them, of the same state of the books, so whoever goes on from there counts every
call once.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from collector.domain.credit import Unit
from collector.domain.policy.matching import TAG
from collector.store.duckdb import Connection

COLUMNS = {
    "tenant": "tenant",
    "team": "team",
    "user": "user_id",
    "agent": "agent",
    "conversation": "conversation_id",
    "task": "task_id",
    "key": "key_id",
    "model": "request_model",
    "upstream": "upstream",
}
"""What the policy knows a call by, and the ledger's name for it."""

_NANO = "CAST(ceil(CAST(calls.effective_cost_usd AS DECIMAL(28,12)) * 1000000000) AS BIGINT)"
_ATTEMPTED = """
    JOIN (
        SELECT call_id, sum(input_tokens + output_tokens) AS tokens,
            max(CASE WHEN http_status IS NOT NULL OR usage_grade <> '' THEN 1 ELSE 0 END) AS sent
        FROM attempts WHERE started_at >= make_timestamp($since) GROUP BY call_id
    ) tried ON tried.call_id = calls.call_id"""
_AMOUNTS = {
    Unit.USD: (_NANO, ""),
    Unit.TOKENS: ("tried.tokens", _ATTEMPTED),
    Unit.CALLS: ("tried.sent", _ATTEMPTED),
}


class Wanted(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The calls that one budget may count."""

    unit: Literal["usd", "tokens", "calls"]
    by: list[str]
    """Dimensions and ``tag:NAME``: sums are told apart by their values."""
    since_us: Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
    until_us: Annotated[int, msgspec.Meta(ge=0, lt=2**62)] | None = None
    bucket_us: Annotated[int, msgspec.Meta(ge=0, lt=2**62)] = 0
    """Sums are told apart by the time of the call in so many microseconds; 0 for not."""


class Sum(msgspec.Struct, array_like=True):
    """What calls of one kind spent."""

    values: list[str]
    """As asked for by ``by``."""
    bucket: int
    """``started_at`` in whole ``bucket_us`` since the Unix epoch."""
    amount: int
    """Nano-USD, tokens or calls."""


class Mark(msgspec.Struct, array_like=True):
    """How far a source is counted."""

    source: str
    sequence: int
    ended: bool
    """Whether it is over, and what it left open is counted at its hold."""


class Spent(msgspec.Struct):
    """The answer."""

    sums: list[list[Sum]]
    """For each of those wanted."""
    marks: list[Mark]
    corrections: list[str]
    """Details of the events by which people corrected budgets, from the journals."""


def read_spent(connection: Connection, wanted: Sequence[Wanted]) -> Spent:
    """Read one state of the books.

    Raises:
        ValueError: a dimension is none.
    """
    connection.execute("BEGIN TRANSACTION READ ONLY")
    try:
        marks = [
            Mark(*row) for row in connection.execute("SELECT source, sequence, ended FROM sources").fetchall()
        ]
        sums = [_sums(connection, one) for one in wanted]
        told = connection.execute(
            "SELECT event_id, detail FROM budget_events WHERE action = 'correct' ORDER BY happened_at"
        ).fetchall()
    finally:
        connection.execute("ROLLBACK")
    known = {mark.source for mark in marks}
    # An event's id says where in which journal it stands; what others said it is, counts nothing.
    corrections = [detail for event_id, detail in told if event_id.rpartition(":")[0] in known]
    return Spent(sums, marks, corrections)


def _sums(connection: Connection, wanted: Wanted) -> list[Sum]:
    values: dict[str, Any] = {"since": wanted.since_us}
    columns = []
    for place, name in enumerate(wanted.by):
        if name.startswith(TAG):
            values[f"tag{place}"] = name.removeprefix(TAG)
            columns.append(f"coalesce(calls.tags[$tag{place}], '')")
        elif name in COLUMNS:
            columns.append(f"calls.{COLUMNS[name]}")
        else:
            raise ValueError(f"by: {name[:64]!r} is not one of {', '.join(COLUMNS)}, {TAG}NAME")
    bucket = "0"
    if wanted.bucket_us:
        values["bucket"] = wanted.bucket_us
        bucket = "epoch_us(calls.started_at) // $bucket"
    before = ""
    if wanted.until_us is not None:
        values["until"] = wanted.until_us
        before = "AND calls.started_at < make_timestamp($until)"
    amount, joined = _AMOUNTS[Unit(wanted.unit)]
    rows = connection.execute(
        f"SELECT {bucket}, sum({amount}), {', '.join([*columns, 'count(*)'])} FROM calls {joined}"
        f" WHERE calls.started_at >= make_timestamp($since) {before} GROUP BY ALL HAVING sum({amount}) > 0",
        values,
    ).fetchall()
    return [Sum(list(row[2:-1]), int(row[0]), int(row[1])) for row in rows]
