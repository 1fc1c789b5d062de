"""Sums of the calls by minute, hour and day, exact at every instant.

A level holds exactly the calls that started inside its mark ``[since, upto)``. What
started later is not in it yet; what arrives late, with a start inside the mark, is added
by the very transaction that books the call; a call that is corrected is taken out by a
negative row. So a period is answered by whole days, the hours at both ends of them, the
minutes at both ends of those, and single calls for the rest, and the sum of these pieces
is the sum over the calls, to the last digit.

A busy minute costs one GROUP BY after it is over, and no row of a batch touches a level
unless it is late.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from collector.store import noted, talk_sums, talks
from collector.store.levels import (
    ALL_LEVELS,
    DAY_US,
    HOUR_US,
    LATENCY,
    LATENCY_BUCKET,
    LATENCY_BUCKETS,
    LEVELS,
    MINUTE_US,
    SUMS,
    TALK_DAYS,
    TALK_SUMS,
    Level,
)

_IN_CALLS = {"tags": "CAST(coalesce(to_json(tags), '{}') AS VARCHAR)"}
"""Dimensions that are no plain column of the calls."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The calls that a level holds: those that started in ``[since_us, upto_us)``."""

    since_us: int
    upto_us: int


class Piece(NamedTuple):
    """A part of a period and the table that answers for it; both ends in microseconds."""

    table: str
    since_us: int
    until_us: int
    hours: tuple[int, ...] = ()
    """Of the calls, these hours alone; of sums, all others."""


def pieces(
    since_us: int, until_us: int, marks: dict[str, Mark], levels: Sequence[Level] = LEVELS
) -> list[Piece]:
    """``[since_us, until_us)`` cut into the fewest rows: whole coarse buckets inside, finer ones at the ends.

    The pieces are disjoint, in order, and cover the period.
    """
    if since_us >= until_us:
        return []
    if not levels:
        return [Piece("calls", since_us, until_us)]
    level, finer = levels[0], levels[1:]
    mark = marks.get(level.name)
    if mark is None:
        return pieces(since_us, until_us, marks, finer)
    first = -(-max(since_us, mark.since_us) // level.width_us) * level.width_us
    last = min(until_us, mark.upto_us) // level.width_us * level.width_us
    if first >= last:
        return pieces(since_us, until_us, marks, finer)
    return [
        *pieces(since_us, first, marks, finer),
        Piece(level.table, first, last),
        *pieces(last, until_us, marks, finer),
    ]


def load_marks(connection: Any) -> dict[str, Mark]:
    """How far each level goes."""
    rows = connection.execute(
        "SELECT level, epoch_us(since_at), epoch_us(upto_at) FROM rollup_marks"
    ).fetchall()
    return {name: Mark(since, upto) for name, since, upto in rows}


def add_calls_sql(level: Level, source: str, where: str, *, take_out: bool = False) -> str:
    """The statement that adds (or takes out) the calls of ``source``, rows shaped like table ``calls``."""
    names = ", ".join(level.dimensions)
    told = ", ".join(
        f"{_IN_CALLS[name]} AS {name}" if name in _IN_CALLS else name for name in level.dimensions
    )
    if level.listed:
        return _add_listed_sql(level, source, where, take_out=take_out)
    # A sign, not a factor: DECIMAL(38,12) times an integer would no longer fit a DECIMAL.
    sign = "-" if take_out else ""
    inner = ", ".join(f"sum({column}) AS {column}" for column in SUMS)
    outer = ", ".join(f"{sign}sum({column})" for column in ("n", "attempts", *SUMS))
    span = "NULL, NULL" if take_out else "min(first_at), max(last_at)"
    # Two steps: one hash per call to its latency bucket is far cheaper than 42 conditions per call.
    latency = ", ".join(
        f"{sign}sum(n) FILTER (WHERE latency_bucket = {bucket})" for bucket in range(LATENCY_BUCKETS)
    )
    return f"""
        INSERT INTO {level.table}
        SELECT bucket, {names}, {outer}, {span}, {latency}
        FROM (
            SELECT date_trunc('{level.unit}', started_at) AS bucket, {told},
                {LATENCY_BUCKET} AS latency_bucket,
                count(*) AS n, sum(attempt_count) AS attempts, {inner},
                min(started_at) AS first_at, max(started_at) AS last_at
            FROM {source} WHERE {where} GROUP BY ALL
        )
        GROUP BY bucket, {names}"""  # noqa: S608


def _add_listed_sql(level: Level, source: str, where: str, *, take_out: bool) -> str:
    sign, bucket = ("-", f"-1 - {LATENCY_BUCKET}") if take_out else ("", LATENCY_BUCKET)
    sums = ", ".join(f"{sign}sum({column})" for column in ("attempt_count", *SUMS))
    span = "NULL, NULL" if take_out else "min(started_at), max(started_at)"
    return f"""
        INSERT INTO {level.table}
        SELECT date_trunc('{level.unit}', started_at) AS bucket, {", ".join(level.dimensions)},
            {sign}count(*), {sums}, {span}, list({bucket})
        FROM {source} WHERE {where} GROUP BY ALL"""  # noqa: S608


def add_finer_sql(level: Level) -> str:
    """The statement that sums the finer level's buckets in ``[$1, $2)``."""
    names = ", ".join(level.dimensions)
    columns = ("calls", "attempts", *SUMS)
    sums = ", ".join(f"sum({column})" for column in columns)
    latency = ", ".join(f"sum({column})" for column in LATENCY)
    return f"""
        INSERT INTO {level.table}
        SELECT date_trunc('{level.unit}', bucket) AS start, {names}, {sums}, min(first_at), max(last_at),
            {latency}
        FROM {level.finer}
        WHERE bucket >= make_timestamp($1) AND bucket < make_timestamp($2)
        GROUP BY start, {names}"""  # noqa: S608


def book_late(connection: Any, source: str, oldest_us: int, marks: dict[str, Mark]) -> None:
    """Add the calls of ``source`` that started inside a level's mark to that level.

    Runs in the transaction that inserts them into ``calls``. ``oldest_us`` is the earliest
    start among them: where no level goes that far, nothing is done.
    """
    for level in ALL_LEVELS:
        mark = marks.get(level.name)
        if mark is not None and oldest_us < mark.upto_us:
            connection.execute(add_calls_sql(level, source, _INSIDE), [mark.since_us, mark.upto_us])
    for level in noted.LEVELS:
        mark = marks.get(level.name)
        if mark is not None and oldest_us < mark.upto_us:
            noted.add(connection, level, source, mark.since_us, mark.upto_us)
    sums = marks.get(TALK_SUMS.name)
    if sums is not None and oldest_us < sums.upto_us:
        talk_sums.book(connection, source, sums.since_us, sums.upto_us)
    days = marks.get(TALK_DAYS.name)
    if days is not None and oldest_us < days.upto_us:
        talks.rewrite(connection, source, days.since_us, days.upto_us)


def take_out(connection: Any, call_ids: Sequence[str], marks: dict[str, Mark]) -> None:
    """Take calls out of every level that holds them; they must still be in ``calls``."""
    for level in ALL_LEVELS:
        mark = marks.get(level.name)
        if mark is not None:
            where = f"{_INSIDE} AND call_id IN (SELECT unnest($3))"
            arguments = [mark.since_us, mark.upto_us, list(call_ids)]
            connection.execute(add_calls_sql(level, "calls", where, take_out=True), arguments)
    sums = marks.get(TALK_SUMS.name)
    if sums is not None:
        talk_sums.take_out(connection, call_ids, sums.since_us, sums.upto_us)
    days = marks.get(TALK_DAYS.name)
    if days is not None:
        talks.rewrite(connection, "calls", days.since_us, days.upto_us, call_ids)


def adjust(connection: Any, table: str, marks: dict[str, Mark]) -> None:
    """Add what calls cost more than was summed, or less: a row of nothing but that difference.

    Args:
        connection: the writer's, within a transaction.
        table: of ours, with ``call_id`` and ``more_usd``.
        marks: how far each level goes; what is younger is summed later, from the calls.
    """
    for level in ALL_LEVELS:
        mark = marks.get(level.name)
        if mark is None:
            continue
        names = ", ".join(level.dimensions)
        told = ", ".join(f"{_IN_CALLS.get(name, name)} AS {name}" for name in level.dimensions)
        sums = ", ".join("sum(more_usd)" if name == "effective_cost_usd" else "0" for name in SUMS)
        latency = "[]" if level.listed else ", ".join("0" for _ in LATENCY)
        connection.execute(
            f"INSERT INTO {level.table} SELECT bucket, {names}, 0, 0, {sums}, NULL, NULL,"  # noqa: S608
            f" {latency} FROM (SELECT"
            f" date_trunc('{level.unit}', started_at) AS bucket, {told}, more_usd"
            f" FROM calls JOIN {table} USING (call_id) WHERE {_INSIDE})"
            f" GROUP BY bucket, {names}",
            [mark.since_us, mark.upto_us],
        )
    of_talks = marks.get(TALK_SUMS.name)
    if of_talks is not None:
        talk_sums.adjust(connection, table, of_talks.since_us, of_talks.upto_us)


_INSIDE = "started_at >= make_timestamp($1) AND started_at < make_timestamp($2)"

_LAG_US = 10 * MINUTE_US
"""Minutes are summed this long after their start: by then most calls have ended, and few come late."""
_STEPS_US = (30 * DAY_US, 2 * DAY_US, 3 * HOUR_US, 15 * MINUTE_US, MINUTE_US)
_CALLS_A_STEP = 100_000
"""Nothing is booked while a step is made: a quarter of a second for so many."""
_MINUTES_KEPT_US = 3 * DAY_US


def advance(connection: Any, now_us: int, calls_a_step: int = _CALLS_A_STEP) -> bool:
    """Sum what has become old enough, one step in one transaction.

    Args:
        connection: the writer's.
        now_us: the clock.
        calls_a_step: most calls that are summed at once.

    Returns:
        Whether anything was done; call again until it was not.
    """
    marks = load_marks(connection)
    kept = (TALK_DAYS, TALK_SUMS, *noted.LEVELS, *ALL_LEVELS)
    missing = [level for level in kept if level.name not in marks]
    if missing:
        return _begin(connection, missing, now_us)
    upto = {level.table: marks[level.name].upto_us for level in kept} | {"calls": now_us - _LAG_US}
    for level in reversed(kept):
        mark = marks[level.name]
        last = upto[level.finer] // level.width_us * level.width_us
        if last > mark.upto_us:
            _step(connection, level, mark, last, calls_a_step)
            return True
    return _forget_minutes(connection, marks)


def _begin(connection: Any, levels: Sequence[Level], now_us: int) -> bool:
    """Set marks to the day of the first call; a level begins empty there."""
    oldest = connection.execute("SELECT epoch_us(min(started_at)) FROM calls").fetchone()[0]
    if oldest is None:
        return False
    start = min(oldest, now_us) // DAY_US * DAY_US
    connection.execute("BEGIN")
    try:
        for level in levels:
            connection.execute(
                "INSERT INTO rollup_marks VALUES ($1, make_timestamp($2), make_timestamp($2))",
                [level.name, start],
            )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return True


def _step(connection: Any, level: Level, mark: Mark, last_us: int, calls_a_step: int) -> None:
    target_us, calls = _reach(connection, level, mark.upto_us, last_us, calls_a_step)
    period = [mark.upto_us, target_us]
    connection.execute("BEGIN")
    try:
        if level is TALK_DAYS:
            connection.execute(talks.ADD, period)
        elif level is TALK_SUMS:
            connection.execute(talk_sums.ADD, period)
        elif level in noted.LEVELS:
            noted.add(connection, level, "calls", *period)
        elif level.finer != "calls":
            connection.execute(add_finer_sql(level), period)
        elif calls:
            connection.execute(add_calls_sql(level, "calls", _INSIDE), period)
        connection.execute(
            "UPDATE rollup_marks SET upto_at = make_timestamp($2) WHERE level = $1", [level.name, target_us]
        )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _reach(connection: Any, level: Level, from_us: int, last_us: int, calls_a_step: int) -> tuple[int, int]:
    """How far one step goes, and the calls on the way.

    An idle month is gone over at once, a busy quarter of an hour by itself.

    A level summed from the calls may stop inside one of its buckets: what is added later is a
    row more. One summed from a finer level goes by whole buckets, for those may be incomplete.
    """
    target_us, calls = last_us, 0
    for length_us in _STEPS_US:
        grain_us = min(level.width_us, length_us) if level.finer == "calls" else level.width_us
        target_us = min(last_us, (from_us + max(length_us, grain_us)) // grain_us * grain_us)
        found = connection.execute(f"SELECT count(*) FROM calls WHERE {_INSIDE}", [from_us, target_us])  # noqa: S608
        calls = int(found.fetchall()[0][0])
        if calls <= calls_a_step:
            break
    return target_us, calls


def _forget_minutes(connection: Any, marks: dict[str, Mark]) -> bool:
    """Minutes are kept for the last days only; the hours that hold them stay."""
    mark, hours = marks["minute"], marks["hour"]
    keep_from = (min(hours.upto_us, mark.upto_us) - _MINUTES_KEPT_US) // DAY_US * DAY_US
    if keep_from <= mark.since_us:
        return False
    connection.execute("BEGIN")
    try:
        connection.execute("DELETE FROM calls_by_minute WHERE bucket < make_timestamp($1)", [keep_from])
        connection.execute(
            "UPDATE rollup_marks SET since_at = make_timestamp($1) WHERE level = 'minute'", [keep_from]
        )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return True
