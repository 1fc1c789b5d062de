# ruff: noqa: S608  (statements are put together from our own names; every value is bound)
"""From a checked question to one statement with bound values. Pure; nothing here runs it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from collector.store import levels, machine_sums, rollups, searching, talk_sums, talks
from collector.store.agent_questions import LAST_OF_TURNS, TURNS
from collector.store.asking import Asked, Dearest, summed_tag, tag
from collector.store.days import bucketed
from collector.store.levels import DAY_US, HOUR_US
from collector.store.parts import by_table, pieces_of, spans, talk_pieces
from collector.store.questions import CALLS_LISTED, SPEND_BY, VALUES
from collector.store.rollups import Mark

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
_BOUNDS = {"from": "make_timestamp($since_us)", "to": "make_timestamp($until_us)"}
TALKS = frozenset({"conversation_id", "task_id"})
_MANY = frozenset({"user_id", "conversation_id", "task_id"})
"""Dimensions with so many values that the dearest are found first, by their cost alone."""
_DEAREST = """
        WITH nearly AS MATERIALIZED (
            SELECT hash({by_key}) AS place, coalesce(sum(CAST(effective_cost_usd AS DOUBLE)), 0) AS usd,
                count(*) AS n
            FROM {books} GROUP BY place ORDER BY usd DESC, place LIMIT $limit + 1000
        )
        SELECT place, n FROM nearly WHERE usd + 1e-9 * (1 + abs(usd)) >= (
            SELECT min(usd) FROM (SELECT usd FROM nearly ORDER BY usd DESC LIMIT $limit))"""
"""Nearly the dearest: doubles are added faster than decimals. Who of them is shown is told by exact sums; up
to a thousand more are those that cost the same, as far as doubles can tell."""
_FIRSTTALKS = """
        WITH edges AS MATERIALIZED (
            SELECT number, sum(CAST({measure} AS DOUBLE)) AS most FROM ({edges}) GROUP BY number
        ),
        days AS MATERIALIZED (
            SELECT number, coalesce(sum(CAST({measure} AS DOUBLE)), 0) AS most FROM {days}
            GROUP BY number ORDER BY most DESC, number LIMIT $limit + 1000
        ),
        others AS MATERIALIZED (SELECT * FROM days ANTI JOIN edges USING (number)),
        touched AS (
            SELECT number, coalesce(sum(most), 0) AS most FROM (
                SELECT number, most FROM edges
                UNION ALL SELECT number, CAST({measure} AS DOUBLE) FROM {days}
                    AND number IN (SELECT unnest(numbers) FROM (SELECT list(number) AS numbers FROM edges))
            ) GROUP BY number
        ),
        nearly AS MATERIALIZED (
            SELECT * FROM (SELECT * FROM touched UNION ALL SELECT * FROM others)
            ORDER BY most DESC, number LIMIT $limit + 1000
        ),
        first AS MATERIALIZED (
            SELECT number FROM nearly WHERE most + 1e-9 * (1 + abs(most)) >= (
                SELECT min(most) FROM (SELECT most FROM nearly ORDER BY most DESC LIMIT $limit))
        )
        SELECT conversation_id, CAST(sum(calls) AS BIGINT) FROM (
            SELECT number, conversation_id, calls FROM ({edges})
            UNION ALL SELECT number, conversation_id, calls FROM {days})
        WHERE number IN (SELECT unnest(numbers) FROM (SELECT list(number) AS numbers FROM first))
            AND ((SELECT count(*) FROM days) < $limit + 1000 OR (SELECT count(*) FROM others) >= $limit)
        GROUP BY conversation_id"""
"""The same of conversations, by the numbers that stand for them. How many there are is known of
a table alone, and room made for them at once: so days are added up by themselves, and
those that had calls in the hours around them once more. Nothing comes where so many
of the first are such that others might be before them."""
_NO_SUMS = (
    f"SELECT number, conversation_id, calls, effective_cost_usd FROM {levels.TALK_SUMS.table} WHERE false"
)
_OFTALKS = frozenset({"conversation_id"})
_COST = "CAST(matched.usd AS DOUBLE)"
"""By which the dearest run of a task is found: faster to compare, and to the pico below 4096 USD."""
_FEW = 200_000
"""So many rows of the dearest groups are kept in memory: the columns are then read once."""


_TOOK = """,
        counted AS (
            SELECT {by} latency_bucket, sum(n) AS n FROM {latency} GROUP BY ALL HAVING sum(n) > 0
        ),
        ranked AS (
            SELECT *, sum(n) OVER (PARTITION BY {by_key}) AS total,
                sum(n) OVER (PARTITION BY {by_key} ORDER BY latency_bucket) AS upto
            FROM counted
        ),
        took AS (SELECT {by} {p50} AS p50_ms, {p95} AS p95_ms FROM ranked GROUP BY ALL)"""


_TOLD_APART = """
        SELECT {key}, count(*) AS conversations FROM (
            SELECT {key}, conversation FROM ({others}) GROUP BY ALL HAVING sum(calls) > 0
        ) GROUP BY ALL"""
_NOTALKS = "SELECT tenant, agent, conversation_id, 0 AS calls FROM calls WHERE false"
_COUNTED = f"""
        WITH edges AS MATERIALIZED (
            SELECT tenant, agent, {talks.TALK} AS talk FROM (
                SELECT tenant, agent, conversation_id FROM ({{others}}) GROUP BY ALL HAVING sum(calls) > 0
            )
        ),
        again AS (
            SELECT DISTINCT talk FROM {levels.TALK_DAYS.table}
            WHERE {{days}} AND talk IN (SELECT unnest(talks) FROM (SELECT list(talk) AS talks FROM edges))
        ),
        oldest AS (SELECT min(bucket) AS day FROM {levels.TALK_DAYS.table}),
        counted AS (
            SELECT {{key}}, count(*) AS n FROM {levels.TALK_DAYS.table} WHERE {{days}} AND (before IS NULL
                OR before < greatest(make_timestamp($first_day), (SELECT day FROM oldest))) GROUP BY ALL
            UNION ALL SELECT {{key}}, count(*) FROM edges ANTI JOIN again USING (talk) GROUP BY ALL
        )
        SELECT {{key}}, CAST(sum(n) AS BIGINT) AS conversations FROM counted GROUP BY ALL"""
"""Those of whole days by the first of them, and of the hours around these days those that have no such day.
They are looked up as a list, which is taken for short: a million days are passed by it, not built upon. What
came before the oldest day that is kept is not known any more."""


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
    where = Conditions(asked.filters, values)
    fields = {
        "by": "".join(f'"{by.name}", ' for by in asked.by),
        "by_calls": _by(asked, "calls"),
        "by_dearest": "".join(f'arg_max("{by.name}", {_COST}) AS "{by.name}", ' for by in asked.by),
        "by_key": _key(asked),
        "value": '"value"',
        "near": _near(asked.values.get("call_id", "")),
    }
    sql = asked.question.sql
    if "{books}" in sql:
        fields["books"] = _books(asked, marks, where, values)
    if "{bucket}" in sql:
        fields["bucket"] = bucketed(asked)
    shown = asked.dearest is not None
    if "{dearest}" in sql:
        fields["dearest"] = ""
        if asked.dearest is not None:
            fields["dearest"] = _shown(asked, asked.dearest, marks, where, values)
            fields["books"] = _books(asked, marks, where, values, shown=True)
    if "{took}" in sql:
        fields["took"] = fields["took_columns"] = fields["took_join"] = ""
        if "latency" not in asked.left_out:
            fields["latency"] = _latency(asked, marks, where, values, shown=shown)
            fields["took"] = _TOOK.format(p50=_quantile(0.5), p95=_quantile(0.95), **fields)
            fields["took_columns"] = ", p50_ms, p95_ms"
            fields["took_join"] = "LEFT JOIN took USING ({by_key})".format(**fields)
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
        fields |= _BOUNDS
        fields["narrowed"] = where.of("calls")
    for name, level in _MACHINES.items():
        if f"{{{name}}}" in sql:
            fields["step"], fields[name] = _measured(asked, level, marks, where, values)
    if "{page}" in sql:
        fields["order"], fields["page"] = _page(asked)
    return Statement(sql.format(**fields), values)


# ---- the parts of a statement -------------------------------------------------------------


class Conditions:
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


def _shown(
    asked: Asked,
    dearest: Dearest,
    marks: dict[str, Mark],
    where: Conditions,
    values: dict[str, Any],
) -> str:
    """The rows of the dearest groups, from each table."""
    values["places"] = dearest.places
    kind = "MATERIALIZED" if dearest.rows <= _FEW else "NOT MATERIALIZED"
    found = ""
    for table, pieces in by_table(pieces_of(asked, marks)):
        kept = f"{spans(pieces, table, values)}{where.of(table)}"
        key = ", ".join(by.over(table) for by in asked.by)
        is_one = f"hash({key}) IN (SELECT unnest($places::UBIGINT[]))"
        if dearest.named:
            is_one = f"{key} IN (SELECT unnest($places::VARCHAR[]))"
        found += f" shown_{table} AS {kind} (SELECT * FROM {table} WHERE {kept} AND {is_one}),"
    return found


def _books(
    asked: Asked,
    marks: dict[str, Mark],
    where: Conditions,
    values: dict[str, Any],
    *,
    shown: bool = False,
) -> str:
    """Rows of the sums and of the calls, in one shape; of the dearest groups alone if ``shown``."""
    sums = ", ".join(levels.SUMS)
    own = {by.name for by in asked.by}
    grades = "".join(f"{name}, " for name in ("outcome", "price_grade", "usage_grade") if name not in own)
    parts = []
    for table, pieces in by_table(pieces_of(asked, marks)):
        by = _by(asked, table)
        rows = f"shown_{table}" if shown else f"{table} WHERE {spans(pieces, table, values)}{where.of(table)}"
        if table == "calls":
            parts.append(
                f"SELECT started_at AS instant, {by}{grades}1 AS calls, attempt_count AS attempts, {sums},"
                f" started_at AS first_at, started_at AS last_at FROM {rows}"
            )
        else:
            if asked.question is VALUES and any(by.dimension == "tag" for by in asked.by):
                # A set of tags is taken apart once, not once for each row that has it.
                rows = f"({_once_a_set_of_tags(rows)})"
            parts.append(
                f"SELECT bucket AS instant, {by}{grades}calls, attempts, {sums}, first_at, last_at"
                f" FROM {rows}"
            )
    return f"({' UNION ALL '.join(parts)})"


def _once_a_set_of_tags(rows: str) -> str:
    summed = ", ".join(f"sum({column}) AS {column}" for column in ("calls", "attempts", *levels.SUMS))
    return (
        "SELECT min(bucket) AS bucket, tags, outcome, price_grade, usage_grade,"
        f" {summed}, min(first_at) AS first_at, max(last_at) AS last_at FROM {rows} GROUP BY ALL"
    )


def _key(asked: Asked) -> str:
    return ", ".join(f'"{by.name}"' for by in asked.by)


def _by(asked: Asked, table: str) -> str:
    return "".join(f'{by.over(table)} AS "{by.name}", ' for by in asked.by)


def _latency(
    asked: Asked, marks: dict[str, Mark], where: Conditions, values: dict[str, Any], *, shown: bool
) -> str:
    """How long the calls took of the groups in ``spent``; of the others nobody will hear."""
    names = "".join(f'"{by.name}", ' for by in asked.by)
    spent = f"SEMI JOIN spent USING ({names.rstrip(', ')})"
    columns = ", ".join(levels.LATENCY)
    parts, counted = [], []
    for table, pieces in by_table(pieces_of(asked, marks)):
        by = _by(asked, table)
        rows = f"shown_{table}" if shown else f"{table} WHERE {spans(pieces, table, values)}{where.of(table)}"
        if table == "calls":
            parts.append(
                f"SELECT {names}latency_bucket, count(*) AS n"
                f" FROM (SELECT {by}{levels.LATENCY_BUCKET} AS latency_bucket"
                f" FROM {rows}) {spent} GROUP BY ALL"
            )
        elif table == levels.TALKS_HOUR.table:
            parts.append(
                f"SELECT {names}CASE WHEN place < 0 THEN -1 - place ELSE place END AS latency_bucket,"
                f" CASE WHEN place < 0 THEN -1 ELSE 1 END AS n"
                f" FROM (SELECT {names}unnest(latency_buckets) AS place FROM"
                f" (SELECT {by}latency_buckets FROM {rows}) {spent})"
            )
        else:
            counted.append(f"SELECT {by}{columns} FROM {rows}")
    if counted:
        counts = ", ".join(f"sum({column})" for column in levels.LATENCY)
        parts.append(
            f"SELECT {names}unnest(range({levels.LATENCY_BUCKETS})) AS latency_bucket,"
            f" unnest(counts) AS n FROM (SELECT {names}[{counts}] AS counts"
            f" FROM ({' UNION ALL '.join(counted)}) {spent} GROUP BY ALL)"
        )
    return f"({' UNION ALL '.join(parts)})"


def _talked(asked: Asked, marks: dict[str, Mark], where: Conditions, values: dict[str, Any]) -> str:
    """A join with the number of conversations of each group; those of two tenants are two."""
    key = ", ".join(f'"{by.name}"' for by in asked.by)
    days, others = "", []
    found = dict(by_table(talk_pieces(asked, marks)))
    counted = levels.TALK_DAYS.table in found
    for table, pieces in found.items():
        kept = f"{spans(pieces, f'talk_{table}', values)}{where.of(table)}"
        if table == levels.TALK_DAYS.table:
            days, values["first_day"] = kept, pieces[0].since_us
            continue
        calls = "1 AS calls" if table == "calls" else "calls"
        told = f"{_by(asked, table)}hash(tenant, conversation_id) AS conversation"
        names = "tenant, agent, conversation_id" if counted else told
        others.append(f"SELECT {names}, {calls} FROM {table} WHERE {kept} AND conversation_id <> ''")
    sql = (_COUNTED if counted else _TOLD_APART).format(
        key=key, days=days, others=" UNION ALL ".join(others) or _NOTALKS
    )
    return f"LEFT JOIN ({sql}) USING ({key})"


def _quantile(share: float) -> str:
    """The duration below which ``share`` of the calls stay: straight through the bucket that holds it."""
    lower, upper = "pow(2, latency_bucket / 2)", "pow(2, (latency_bucket + 1) / 2)"
    inside = f"({share} * total - (upto - n)) / n"
    holds = f"upto >= {share} * total AND upto - n < {share} * total"
    return f"min(CASE WHEN {holds} THEN {lower} + ({upper} - {lower}) * {inside} END)"


def _calls(asked: Asked, where: Conditions, values: dict[str, Any], *, paged: bool = True) -> str:
    values["from_calls"], values["to_calls"] = asked.since_us, asked.until_us
    extra = "".join(f', {by.expression} AS "{by.name}"' for by in asked.by if by.name != by.expression)
    kept = "started_at >= make_timestamp($from_calls) AND started_at < make_timestamp($to_calls)"
    sought = asked.values.get("sought")
    kept += where.of("calls") + (f" AND {searching.condition(sought, asked.absent)}" if sought else "")
    if asked.hours is not None:
        kept += f" AND ({' OR '.join(_started(*stretch) for stretch in asked.hours) or 'false'})"
    if paged and ("floor" in asked.values or sought):
        # Of eighty columns only those are read that tell which rows it will be, until that is known.
        order, after = _page(asked)
        kept += f" AND {_ORDERS[asked.order][1]} >= $floor" if "floor" in asked.values else ""
        kept = (
            f"rowid IN (SELECT rowid FROM calls WHERE {kept}"
            f"{after.replace('WHERE', ' AND', 1)} ORDER BY {order} LIMIT $limit)"
        )
    return f"(SELECT *{extra} FROM calls WHERE {kept})"


_MACHINES = {
    "gpus": machine_sums.GPUS,
    "engines": machine_sums.ENGINES,
    "windows": machine_sums.WINDOWS,
}


def _measured(
    asked: Asked,
    level: machine_sums.MachineLevel,
    marks: dict[str, Mark],
    where: Conditions,
    values: dict[str, Any],
) -> tuple[str, str]:
    """The step that a row of the period belongs to, and its rows."""
    is_stepped = "{step}" in asked.question.sql
    step = machine_sums.step_us(asked.since_us, asked.until_us) if is_stepped else 0
    rows, bound = machine_sums.measured(
        level, asked.since_us, asked.until_us, step, marks, where.of(level.table)
    )
    values |= bound
    return f"time_bucket(to_microseconds({step}::BIGINT), bucket)", rows


def _ended(asked: Asked, where: Conditions, values: dict[str, Any]) -> str:
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


def turns_statement(asked: Asked, marks: dict[str, Mark]) -> Statement | None:
    """The statement that finds when the conversations of `TURNS` had their last call (us).

    None for other questions, and where conversations or tasks are asked for, whose time is known.
    """
    if asked.question is not TURNS or asked.filters.keys() & TALKS:
        return None
    values = dict(asked.values) | {"since_us": asked.since_us, "until_us": asked.until_us}
    narrowed_to = Conditions(asked.filters, values).of("calls")
    parts = []
    for table, pieces in by_table(talk_pieces(asked, marks)):
        last = "started_at" if table == "calls" else "last_at"
        kept = spans(pieces, f"talk_{table}", values)
        parts.append(f"SELECT tenant, conversation_id, {last} AS last_at FROM {table} WHERE {kept}")
    names = {"talked": " UNION ALL ".join(parts), "narrowed": narrowed_to, **_BOUNDS}
    return Statement(LAST_OF_TURNS.format(**names), values)


def narrowed(asked: Asked, first_us: int | None, last_us: int | None) -> Asked:
    """``asked`` of no more time than what it asks for took, and a day around that."""
    if first_us is None or last_us is None:
        return replace(asked, until_us=asked.since_us)
    since_us = max(asked.since_us, first_us - DAY_US)
    return replace(asked, since_us=since_us, until_us=max(since_us, min(asked.until_us, last_us + DAY_US)))


def dearest_statement(asked: Asked, marks: dict[str, Mark]) -> Statement | None:
    """The statement that finds the first groups of very many: what stands for each, and its rows.

    None where there are not so many.
    """
    if asked.question not in (SPEND_BY, VALUES) or not any(by.dimension in _MANY for by in asked.by):
        return None
    if asked.dimensions == _OFTALKS and not asked.filters:
        found = _first_talks(asked, marks)
        if found is not None:
            return found
    if asked.question is VALUES:
        return None
    values = dict(asked.values)
    books = _books(asked, marks, Conditions(asked.filters, values), values)
    return Statement(_DEAREST.format(by_key=_key(asked), books=books), values)


def _first_talks(asked: Asked, marks: dict[str, Mark]) -> Statement | None:
    """Conversations by their names, found by the numbers that stand for them."""
    values = dict(asked.values)
    chain = (levels.TALK_SUMS, levels.TALKS_HOUR)
    found = dict(by_table(rollups.pieces(asked.since_us, asked.until_us, marks, chain)))
    if levels.TALK_SUMS.table not in found:
        return None
    days, edges = "", [_NO_SUMS]
    for table, pieces in found.items():
        kept = f"{table} WHERE {spans(pieces, table, values)}"
        if table == levels.TALK_SUMS.table:
            days = kept
        else:
            calls = "1 AS calls" if table == "calls" else "calls"
            columns = f"{talk_sums.NUMBER} AS number, conversation_id, {calls}, effective_cost_usd"
            edges.append(f"SELECT {columns} FROM {kept}")
    measure = "calls" if asked.question is VALUES else "effective_cost_usd"
    return Statement(_FIRSTTALKS.format(days=days, edges=" UNION ALL ".join(edges), measure=measure), values)


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
    calls = _calls(asked, Conditions(asked.filters, values), values, paged=False)
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
    return order, f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _near(call_id: str) -> str:
    """A UUIDv7 says when it was made: its row is found in a few blocks instead of all.

    A clock may have been set since, and a started call may be old: a day on both sides.
    """
    match = searching.UUID7.fullmatch(call_id)
    if match is None:
        return ""
    made_us = int(match[1] + match[2], 16) * 1000
    return between_begun(made_us - DAY_US, made_us + DAY_US)


def between_begun(since_us: int, until_us: int) -> str:
    """Of calls, those that began then; behind another condition."""
    return f"AND {_started(since_us, until_us)}"


def _started(since_us: int, until_us: int) -> str:
    return (
        f"started_at >= make_timestamp({since_us}::BIGINT)"
        f" AND started_at < make_timestamp({until_us}::BIGINT)"
    )
