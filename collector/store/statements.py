# ruff: noqa: S608  (statements are put together from our own names; every value is bound)
"""From a checked question to one statement with bound values. Pure; nothing here runs it."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, timedelta, tzinfo
from typing import Any, NamedTuple

from collector.store import rollups
from collector.store.asking import EPOCH, Asked, summed_tag, tag
from collector.store.questions import CALLS_LISTED, VALUES
from collector.store.rollups import DAY_US, HOUR_US, MINUTE_US, Level, Mark, Piece

_QUARTER_US = HOUR_US // 4
_LONGEST_CALL_US = 4 * HOUR_US
"""A call that took longer is not found by when it ended; calls are cut off long before, by default."""
_ORDERS = {
    "newest": ("started_at DESC, call_id DESC", "started_at", "<"),
    "oldest": ("started_at, call_id", "started_at", ">"),
    "dearest": ("effective_cost_usd DESC, call_id DESC", "effective_cost_usd", "<"),
    "slowest": ("duration_ms DESC, call_id DESC", "duration_ms", "<"),
}
"""Order, the column it begins with, and how what comes after a row compares to it."""
_FLOORED = ("dearest", "slowest")


class Statement(NamedTuple):
    """SQL and the values bound to it."""

    sql: str
    values: dict[str, Any]


def statement(asked: Asked, marks: dict[str, Mark]) -> Statement:
    """One SELECT that answers ``asked``.

    Args:
        asked: the question.
        marks: how far the sums go.
    """
    values = dict(asked.values)
    where = _Conditions(asked.filters, values)
    fields = {
        "by": "".join(f'"{by.name}", ' for by in asked.by),
        "by_calls": _by(asked, "calls"),
        "by_key": ", ".join(f'"{by.name}"' for by in asked.by),
        "value": '"value"',
        "near": _near(asked.values.get("call_id", "")),
    }
    sql = asked.question.sql
    if "{books}" in sql:
        fields["books"] = _books(asked, marks, where, values)
        fields["bucket"] = _bucketed(asked)
    if "{latency}" in sql:
        fields["latency"] = _latency(asked, marks, where, values)
        fields["quantile_50"], fields["quantile_95"] = _quantile(0.5), _quantile(0.95)
    if "{talked}" in sql:
        fields["talked"] = fields["talked_column"] = ""
        if "conversations" in asked.extras:
            fields["talked"] = _talked(asked, marks, where, values)
            fields["talked_column"] = ", coalesce(conversations, 0) AS conversations"
    if "{calls}" in sql:
        fields["calls"] = _calls(asked, where, values)
    if "{ended}" in sql:
        fields["ended"] = _ended(asked, where, values)
    if "{narrowed}" in sql:
        if "{from}" in sql:
            values["since_us"], values["until_us"] = asked.since_us, asked.until_us
        fields["from"], fields["to"] = "make_timestamp($since_us)", "make_timestamp($until_us)"
        fields["narrowed"] = where.of("calls")
    if "{page}" in sql:
        fields["order"], fields["page"] = _page(asked)
    return Statement(sql.format(**fields), values)


# ---- the parts of a statement -------------------------------------------------------------


class _Conditions:
    """What the filters ask of a row, as SQL that begins with AND."""

    def __init__(self, filters: Mapping[str, tuple[str, ...]], values: dict[str, Any]) -> None:
        self._calls = self._written(filters, values, tag)
        self._sums = self._written(filters, values, summed_tag)

    def of(self, table: str) -> str:
        """Of a row of ``table``."""
        return self._calls if table == "calls" else self._sums

    @staticmethod
    def _written(
        filters: Mapping[str, tuple[str, ...]], values: dict[str, Any], tag_of: Callable[[str], str]
    ) -> str:
        conditions = []
        for name, wanted in filters.items():
            alternatives = []
            for position, value in enumerate(wanted):
                key = f"is_{name}_{position}"
                if name == "tag":
                    values[f"{key}_key"], _, value = value.partition("=")
                    alternatives.append(f"coalesce({tag_of(f'${key}_key')} = ${key}, false)")
                else:
                    alternatives.append(f"${key}")
                values[key] = value
            if name == "tag":
                conditions.append(f" AND ({' OR '.join(alternatives)})")
            else:
                conditions.append(f" AND {name} IN ({', '.join(alternatives)})")
        return "".join(conditions)


def _pieces(asked: Asked, marks: dict[str, Mark], only: Level | None = None) -> list[Piece]:
    levels = rollups.chain(asked.dimensions) or ()
    widest = DAY_US
    if asked.bucket == "minute":
        widest = MINUTE_US
    elif asked.bucket == "hour":
        widest = HOUR_US
    elif asked.bucket == "day" and asked.zone is not UTC:
        widest = HOUR_US if _step_us(asked) == HOUR_US else MINUTE_US
    levels = tuple(level for level in levels if level.width_us <= widest and only in (None, level))
    found = rollups.pieces(asked.since_us, asked.until_us, marks, levels)
    return found or [Piece("calls", asked.since_us, asked.since_us)]


def _span(piece: Piece, column: str, name: str, values: dict[str, Any]) -> str:
    values[f"from_{name}"], values[f"to_{name}"] = piece.since_us, piece.until_us
    return f"{column} >= make_timestamp($from_{name}) AND {column} < make_timestamp($to_{name})"


def _books(asked: Asked, marks: dict[str, Mark], where: _Conditions, values: dict[str, Any]) -> str:
    sums = ", ".join(rollups.SUMS)
    own = {by.name for by in asked.by}
    grades = "".join(f"{name}, " for name in ("outcome", "price_grade", "usage_grade") if name not in own)
    parts = []
    for position, piece in enumerate(_pieces(asked, marks)):
        by, kept = _by(asked, piece.table), where.of(piece.table)
        if piece.table == "calls":
            parts.append(
                f"SELECT started_at AS instant, {by}{grades}1 AS calls, attempt_count AS attempts, {sums},"
                f" started_at AS first_at, started_at AS last_at FROM calls"
                f" WHERE {_span(piece, 'started_at', str(position), values)}{kept}"
            )
        else:
            rows = f"{piece.table} WHERE {_span(piece, 'bucket', str(position), values)}{kept}"
            if asked.question is VALUES and "tag" in asked.dimensions:
                # A set of tags is taken apart once, not once for each row that has it.
                rows = f"({_once_a_set_of_tags(rows)})"
            parts.append(
                f"SELECT bucket AS instant, {by}{grades}calls, attempts, {sums}, first_at, last_at"
                f" FROM {rows}"
            )
    return f"({' UNION ALL '.join(parts)})"


def _once_a_set_of_tags(rows: str) -> str:
    summed = ", ".join(f"sum({column}) AS {column}" for column in ("calls", "attempts", *rollups.SUMS))
    return (
        "SELECT min(bucket) AS bucket, tags, outcome, price_grade, usage_grade,"
        f" {summed}, min(first_at) AS first_at, max(last_at) AS last_at FROM {rows} GROUP BY ALL"
    )


def _by(asked: Asked, table: str) -> str:
    return "".join(f'{by.over(table)} AS "{by.name}", ' for by in asked.by)


def _latency(asked: Asked, marks: dict[str, Mark], where: _Conditions, values: dict[str, Any]) -> str:
    """How long the calls took of the groups in ``spent``; of the others nobody will hear."""
    names = "".join(f'"{by.name}", ' for by in asked.by)
    shown = f"SEMI JOIN spent USING ({names.rstrip(', ')})"
    columns = ", ".join(rollups.LATENCY)
    counts = ", ".join(f"sum({column})" for column in rollups.LATENCY)
    parts = []
    for position, piece in enumerate(_pieces(asked, marks)):
        by, kept = _by(asked, piece.table), where.of(piece.table)
        if piece.table == "calls":
            parts.append(
                f"SELECT {names}latency_bucket, count(*) AS n"
                f" FROM (SELECT {by}{rollups.LATENCY_BUCKET} AS latency_bucket FROM calls"
                f" WHERE {_span(piece, 'started_at', str(position), values)}{kept}) {shown} GROUP BY ALL"
            )
        else:
            parts.append(
                f"SELECT {names}unnest(range({rollups.LATENCY_BUCKETS})) AS latency_bucket,"
                f" unnest(counts) AS n FROM (SELECT {names}[{counts}] AS counts"
                f" FROM (SELECT {by}{columns} FROM {piece.table}"
                f" WHERE {_span(piece, 'bucket', str(position), values)}{kept}) {shown} GROUP BY ALL)"
            )
    return f"({' UNION ALL '.join(parts)})"


def _talked(asked: Asked, marks: dict[str, Mark], where: _Conditions, values: dict[str, Any]) -> str:
    """A join with the number of conversations of each group."""
    key = ", ".join(f'"{by.name}"' for by in asked.by)
    parts = []
    for position, piece in enumerate(_pieces(asked, marks, only=rollups.HOUR)):
        prefix, by = f"talk_{position}", _by(asked, piece.table)
        if piece.table == "calls":
            span = _span(piece, "started_at", prefix, values)
            parts.append(
                f"SELECT DISTINCT {by}{rollups.CONVERSATION} AS conversation FROM calls"
                f" WHERE {span}{where.of('calls')} AND conversation_id <> ''"
            )
        else:
            span = _span(piece, "bucket", prefix, values)
            parts.append(
                f"SELECT DISTINCT {by}conversation FROM {rollups.CONVERSATIONS}"
                f" WHERE {span}{where.of(piece.table)}"
            )
    return (
        f"LEFT JOIN (SELECT {key}, count(*) AS conversations FROM ({' UNION '.join(parts)}) GROUP BY ALL)"
        f" USING ({key})"
    )


def _quantile(share: float) -> str:
    """The duration below which ``share`` of the calls stay: straight through the bucket that holds it."""
    lower, upper = "pow(2, latency_bucket / 2)", "pow(2, (latency_bucket + 1) / 2)"
    inside = f"({share} * total - (upto - n)) / n"
    holds = f"upto >= {share} * total AND upto - n < {share} * total"
    return f"min(CASE WHEN {holds} THEN {lower} + ({upper} - {lower}) * {inside} END)"


def _calls(asked: Asked, where: _Conditions, values: dict[str, Any]) -> str:
    values["from_calls"], values["to_calls"] = asked.since_us, asked.until_us
    extra = "".join(f', {by.expression} AS "{by.name}"' for by in asked.by if by.name != by.expression)
    return (
        f"(SELECT *{extra} FROM calls WHERE started_at >= make_timestamp($from_calls)"
        f" AND started_at < make_timestamp($to_calls){where.of('calls')})"
    )


def _ended(asked: Asked, where: _Conditions, values: dict[str, Any]) -> str:
    """The calls that ended in the period. They are sorted by their start: of older ones nothing is read."""
    values["from_ended"], values["to_ended"] = asked.since_us, asked.until_us
    extra = "".join(f', {by.expression} AS "{by.name}"' for by in asked.by if by.name != by.expression)
    took = "started_at + to_microseconds(CAST(duration_ms * 1000 AS BIGINT))"
    return (
        f"(SELECT *{extra}, {took} AS ended_at FROM calls"
        f" WHERE started_at >= make_timestamp(CAST($from_ended AS BIGINT) - {_LONGEST_CALL_US})"
        f" AND started_at < make_timestamp($to_ended) AND ended_at >= make_timestamp($from_ended)"
        f" AND ended_at < make_timestamp($to_ended){where.of('calls')})"
    )


def cursor_statement(asked: Asked) -> Statement | None:
    """The statement that finds where the page before ended; None for the first page."""
    call_id = asked.values.get("before")
    if call_id is None:
        return None
    column = _ORDERS[asked.order][1]
    sql = f"SELECT {column} FROM calls WHERE call_id = $call_id {_near(call_id)} LIMIT 1"
    return Statement(sql, {"call_id": call_id})


def floor_statement(asked: Asked) -> Statement | None:
    """The statement that finds what the last of the dearest or slowest calls has; None for other orders.

    Only the column that is ordered by is read for it. With the answer as a bound, hardly any
    block of the other eighty columns is touched.
    """
    if asked.question is not CALLS_LISTED or asked.order not in _FLOORED:
        return None
    values = dict(asked.values)
    calls = _calls(asked, _Conditions(asked.filters, values), values)
    column = _ORDERS[asked.order][1]
    sql = (
        f"SELECT min(of_last) FROM (SELECT {column} AS of_last FROM {calls} {_page(asked)[1]}"
        f" ORDER BY of_last DESC LIMIT $limit)"
    )
    return Statement(sql, values)


def _page(asked: Asked) -> tuple[str, str]:
    order, column, after = _ORDERS[asked.order]
    conditions = []
    if "before" in asked.values:
        # Two plain comparisons, so that blocks which cannot hold the page are never read.
        conditions.append(
            f"{column} {after}= $before_at AND ({column} {after} $before_at OR call_id {after} $before)"
        )
    if "floor" in asked.values:
        conditions.append(f"{column} >= $floor")
    return order, f"WHERE {' AND '.join(conditions)}" if conditions else ""


_UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


def _near(call_id: str) -> str:
    """A UUIDv7 says when it was made: its row is found in a few blocks instead of all.

    A clock may have been set since, and a started call may be old: a day on both sides.
    """
    match = _UUID7.fullmatch(call_id)
    if match is None:
        return ""
    made_us = int(match[1] + match[2], 16) * 1000
    return (
        f"AND started_at >= make_timestamp({made_us - DAY_US}::BIGINT)"
        f" AND started_at < make_timestamp({made_us + DAY_US}::BIGINT)"
    )


# ---- days of a time zone ------------------------------------------------------------------


def _bucketed(asked: Asked) -> str:
    """The start of the bucket that an instant belongs to.

    A day of another zone is a day of ours, moved by the zone's offset; only the two days a year
    on which the offset changes are told one by one.
    """
    if asked.bucket == "auto":
        return "instant"
    if asked.bucket != "day" or asked.zone is UTC:
        return f"CAST(date_trunc('{asked.bucket}', instant) AS TIMESTAMP)"
    cases = []
    for stretch in _stretches(asked.since_us, asked.until_us, asked.zone):
        if stretch.offset_us is None:
            start = f"make_timestamp({stretch.since_us}::BIGINT)"
        else:
            moved = f"to_microseconds({stretch.offset_us}::BIGINT)"
            start = f"CAST(date_trunc('day', instant + {moved}) AS TIMESTAMP) - {moved}"
        cases.append(f"WHEN instant < make_timestamp({stretch.until_us}::BIGINT) THEN {start}")
    return f"CASE {' '.join(cases)} END"


class _Stretch(NamedTuple):
    """Days in a row with one offset, or the one day on which it changes."""

    since_us: int
    until_us: int
    offset_us: int | None


def _stretches(since_us: int, until_us: int, zone: tzinfo) -> list[_Stretch]:
    found: list[_Stretch] = []
    start = _day_start(since_us, zone)
    while start < until_us or not found:
        # Noon of the next day, whatever the length of this one, and back to its beginning.
        end = _day_start(start + DAY_US + DAY_US // 2, zone)
        offset: int | None = _offset_us(start, zone)
        if offset != _offset_us(end, zone):
            offset = None
        if found and offset is not None and found[-1].offset_us == offset:
            found[-1] = found[-1]._replace(until_us=end)
        else:
            found.append(_Stretch(start, end, offset))
        start = end
    return found


def _step_us(asked: Asked) -> int:
    """The widest step on which every day of the period begins: an hour, or a quarter of one."""
    for instant in range(asked.since_us, asked.until_us + DAY_US, 30 * DAY_US):
        if _offset_us(instant, asked.zone) % HOUR_US:
            return _QUARTER_US
    return HOUR_US


def _offset_us(instant_us: int, zone: tzinfo) -> int:
    offset = (EPOCH + timedelta(microseconds=instant_us)).astimezone(zone).utcoffset()
    assert offset is not None
    return offset // timedelta(microseconds=1)


def _day_start(instant_us: int, zone: tzinfo) -> int:
    local = (EPOCH + timedelta(microseconds=instant_us)).astimezone(zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return (midnight - EPOCH) // timedelta(microseconds=1)
