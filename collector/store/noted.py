# ruff: noqa: S608  (table and column names are our own; values are bound)
"""Which names and ids stand in the calls of an hour: noted, not summed, so that a search knows where to look.

An id that somebody else made up says nothing of its time, and each call has its own: to read those of ten
million calls takes seconds. So of each the first characters are noted as a number, four bytes an id. Two ids
in four thousand million share a number: what is found by it is where to look, never what there is.

What is noted stays when a call is taken out again: a search then looks in vain, and misses nothing.
"""

from typing import Any

from collector.store.levels import FOREIGN_HOUR, REASONS_HOUR, Level

BEGINNING = 16
"""Characters of an id that count, without zeros that fill a trace id up. After ``chatcmpl-`` and the like
enough are left to tell ids apart."""
COLUMNS = ("trace_id", "response_id")

_NUMBER = f"CAST(md5_number(left(ltrim({{0}}, '0'), {BEGINNING})) & 4294967295 AS UINTEGER)"

BEGUN = _NUMBER.format("$sought")
"""The number of the id that is sought."""

_KEPT = "started_at >= make_timestamp($1) AND started_at < make_timestamp($2)"
_HOUR = "date_trunc('hour', started_at) AS bucket"
_ADD = {
    FOREIGN_HOUR: f"""
        INSERT INTO {FOREIGN_HOUR.table}
        SELECT DISTINCT bucket, {_NUMBER.format("id")} AS begun
        FROM (SELECT {_HOUR}, unnest([{", ".join(COLUMNS)}]) AS id FROM {{source}} WHERE {_KEPT})
        WHERE id <> '' ORDER BY bucket, begun""",
    REASONS_HOUR: f"""
        INSERT INTO {REASONS_HOUR.table}
        SELECT DISTINCT {_HOUR}, outcome_reason, error_type FROM {{source}} WHERE {_KEPT} ORDER BY ALL""",
}
"""Sorted, they take less room."""

LEVELS: tuple[Level, ...] = tuple(_ADD)


def tells(text: str) -> bool:
    """Whether every id that begins with ``text`` has its number."""
    return len(text.lstrip("0")) >= BEGINNING


def add(connection: Any, level: Level, source: str, since_us: int, upto_us: int) -> None:
    """Note what stands in the calls of ``source`` that started in ``[since_us, upto_us)``."""
    connection.execute(_ADD[level].format(source=source), [since_us, upto_us])
