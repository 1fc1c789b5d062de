# ruff: noqa: S608  (statements are put together from our own names; every value is bound)
"""What finds when that was which is asked for by an id or by a text; so much less of the ledger is read."""

from collections.abc import Sequence
from typing import Any

from collector.store import levels, noted, rollups, searching
from collector.store.asking import Asked
from collector.store.levels import DAY_US, HOUR_US, Level
from collector.store.parts import by_table, spans
from collector.store.rollups import Mark
from collector.store.statements import TALKS, Conditions, Statement, between_begun


def narrowing_statement(asked: Asked, marks: dict[str, Mark]) -> Statement | None:
    """The statement that finds when the conversations, tasks or trace asked for were: first and last (us).

    None where none are asked for, or the question is not of calls. By their ids alone all calls of the period
    would have to be looked at.
    """
    filters = {name: wanted for name, wanted in asked.filters.items() if name in TALKS}
    mark = marks.get(levels.TALKS_HOUR.name)
    sql = asked.question.sql
    if not any(part in sql for part in ("{books}", "{calls}", "started_at")):
        return None
    values: dict[str, Any] = {}
    if filters and mark is not None:
        return _times_of_talks(Conditions(filters, values).of("calls"), mark, values)
    if len(traces := asked.filters.get("trace_id", ())) == 1:
        values["sought"] = traces[0]
        times = _hours_of_ids(asked, marks, values, (levels.TRACES_HOUR,)).get("trace_id")
        if times:
            return Statement(f"SELECT min(hour_us), max(hour_us) + {HOUR_US} FROM ({times})", values)
    return None


def whole_id_statement(asked: Asked, marks: dict[str, Mark]) -> Statement | None:
    """The statement that finds when that was whose id is searched for: first and last (us), or NULL.

    None where no id is.
    """
    text, mark = asked.values.get("sought", ""), marks.get(levels.TALKS_HOUR.name)
    if mark is None or not searching.may_be_whole(text):
        return None
    values: dict[str, Any] = {"sought": text}
    talks_of = _times_of_talks(" AND (conversation_id = $sought OR task_id = $sought)", mark, values).sql
    found = [f"FROM ({talks_of}) AS talked(first_us, last_us)"]
    if near := _near_begun(text):
        found.append(
            "SELECT epoch_us(started_at), epoch_us(started_at) FROM calls"
            f" WHERE starts_with(call_id, $sought) {near}"
        )
    bound = dict(values)
    times = _hours_of_ids(asked, marks, bound)
    if len(times) == len(_IDS):
        values |= bound
        found += [f"SELECT hour_us, hour_us + {HOUR_US} FROM ({hours})" for hours in times.values()]
    return Statement(f"SELECT min(first_us), max(last_us) FROM ({' UNION ALL '.join(found)})", values)


_IDS = (levels.TRACES_HOUR, levels.ANSWERS_HOUR)


def _hours_of_ids(
    asked: Asked, marks: dict[str, Mark], values: dict[str, Any], of: Sequence[Level] = _IDS
) -> dict[str, str]:
    """By column, SELECTs of the hours that may have the id sought: by what is noted, by calls for the rest.

    A column is left out where nothing is noted that could tell.
    """
    found = {}
    for level, condition in noted.conditions(values["sought"]).items():
        if level not in of or level.name not in marks:
            continue
        (column,) = level.dimensions
        parts = []
        for table, pieces in by_table(rollups.pieces(asked.since_us, asked.until_us, marks, (level,))):
            kept = f"{spans(pieces, f'{level.name}_{table}', values)} AND $sought IS NOT NULL"
            if table == "calls":
                hour = "epoch_us(date_trunc('hour', started_at))"
                parts.append(f"SELECT {hour} AS hour_us FROM calls WHERE {kept} AND {searching.has(column)}")
            else:
                parts.append(f"SELECT epoch_us(bucket) AS hour_us FROM {table} WHERE {kept} AND {condition}")
        if parts:
            found[column] = " UNION ALL ".join(parts)
    return found


def absent_statement(asked: Asked, marks: dict[str, Mark]) -> Statement | None:
    """The statement that finds which columns have the text searched for, by their names: true, false or NULL.

    None where none is. Filters are left aside: what is absent without them is absent with them.
    """
    if "sought" not in asked.values:
        return None
    values = {name: asked.values[name] for name in ("sought", "sought_lower")}
    found = []
    for place, (chain, columns) in enumerate(_SEARCHED):
        parts = [
            f"SELECT {', '.join(columns)} FROM {table} WHERE {spans(pieces, f'{place}_{table}', values)}"
            for table, pieces in by_table(rollups.pieces(asked.since_us, asked.until_us, marks, chain))
        ]
        if parts:
            tests = ", ".join(f"bool_or({searching.has(name)}) AS {name}" for name in columns)
            found.append(f"(SELECT {tests} FROM ({' UNION ALL '.join(parts)}))")
    for column, hours in _hours_of_ids(asked, marks, values).items():
        found.append(f"(SELECT count(*) > 0 AS {column} FROM ({hours}))")
    return Statement(f"SELECT * FROM {', '.join(found)}", values) if found else None


def hours_statement(asked: Asked, marks: dict[str, Mark]) -> Statement | None:
    """The statement that finds the hours that may have the id searched for, by how it begins (us).

    None where none is searched for, names have the text as well, or it is not known of an id when it was.
    """
    text = asked.values.get("sought", "")
    columns = searching.columns(text, asked.absent) if text else []
    of = [level for level in _IDS if level.dimensions[0] in columns]
    values: dict[str, Any] = {"sought": text}
    times = _hours_of_ids(asked, marks, values, of) if of else {}
    if not columns or not {*searching.GIVEN_IDS, "call_id", *times} >= set(columns):
        return None
    parts = [*times.values()]
    if given := [name for name in searching.GIVEN_IDS if name in columns]:
        test = " OR ".join(map(searching.has, given))
        chain = (levels.TALKS_HOUR,)
        for table, pieces in by_table(rollups.pieces(asked.since_us, asked.until_us, marks, chain)):
            hour = "date_trunc('hour', started_at)" if table == "calls" else "bucket"
            kept = spans(pieces, f"talk_{table}", values)
            parts.append(f"SELECT epoch_us({hour}) AS hour_us FROM {table} WHERE {kept} AND ({test})")
    if "call_id" in columns:
        first, last = (ms * 1000 for ms in searching.made_ms(text))
        since, until = max(asked.since_us, first - DAY_US), min(asked.until_us, last + DAY_US)
        parts.append(
            f"SELECT unnest(range({since // HOUR_US}, {-(-until // HOUR_US)})) * {HOUR_US} AS hour_us"
        )
    every = " UNION ALL ".join(parts)
    return Statement(f"SELECT DISTINCT hour_us FROM ({every}) WHERE $sought IS NOT NULL ORDER BY ALL", values)


_SEARCHED = (
    (levels.LEVELS, tuple(name for name in searching.NAMES if name in levels.DIMENSIONS)),
    ((levels.USERS_DAY, levels.USER_HOUR), ("user_id",)),
    ((levels.TALKS_HOUR,), searching.GIVEN_IDS),
    ((levels.REASONS_HOUR,), levels.REASONS_HOUR.dimensions),
)
"""Where which columns stand less often than in the calls."""


def _times_of_talks(kept: str, mark: Mark, values: dict[str, Any]) -> Statement:
    values |= {"level_since": mark.since_us, "level_upto": mark.upto_us}
    return Statement(
        "SELECT epoch_us(min(first_at)), epoch_us(max(last_at)) FROM ("
        f"SELECT first_at, last_at FROM {levels.TALKS_HOUR.table} WHERE true{kept} UNION ALL "
        f"SELECT started_at, started_at FROM calls WHERE started_at >= make_timestamp($level_upto){kept}"
        f" UNION ALL "
        f"SELECT started_at, started_at FROM calls WHERE started_at < make_timestamp($level_since){kept})",
        values,
    )


def _near_begun(text: str) -> str:
    """When a call was made, by what its id begins with."""
    if searching.UUID7_BEGUN.fullmatch(text) is None:
        return ""
    first, last = (ms * 1000 for ms in searching.made_ms(text))
    return between_begun(first - DAY_US, last + DAY_US)
