# ruff: noqa: S608  (table and column names are our own; values are bound)
"""Which names and ids stand in the calls of an hour: noted, not summed, so that a search knows where to look.

An id that somebody else made up says nothing of its time, and each call has its own: to read those of ten
million calls takes seconds. So of each the first characters are noted as a number, four bytes an id. Two ids
in four thousand million share a number: what is found by it is where to look, never what there is.

Of a trace's id it is the number that its digits are: those of ids that begin alike are all numbers from one
to another. Providers' ids all begin alike, and are told apart by a hash of more of them.

What is noted stays when a call is taken out again: a search then looks in vain, and misses nothing.
"""

import re
from typing import Any

from collector.store.levels import ANSWERS_HOUR, REASONS_HOUR, TRACES_HOUR, Level

BEGINNING = 16
"""Characters of a provider's id that count, without zeros that fill it up. After ``chatcmpl-`` and the like
enough are left to tell ids apart."""
_DIGITS = 8
"""Of a trace's id, likewise."""

_HEXADECIMAL = re.compile("[0-9a-f]+")
_NUMBER = f"CAST(md5_number(left(ltrim({{0}}, '0'), {BEGINNING})) & 4294967295 AS UINTEGER)"

BEGUN = _NUMBER.format("$sought")
"""The number of the id that is sought."""

# An underscore would be taken for one that groups digits. What is not written in digits is under zero.
_TRACE = f"""coalesce(TRY_CAST(
    '0x' || replace(rpad(left(ltrim(trace_id, '0'), {_DIGITS}), {_DIGITS}, '0'), '_', '-') AS UINTEGER), 0)"""

_KEPT = "started_at >= make_timestamp($1) AND started_at < make_timestamp($2)"
_HOUR = "date_trunc('hour', started_at) AS bucket"
_ADD = {
    TRACES_HOUR: f"""
        INSERT INTO {TRACES_HOUR.table}
        SELECT DISTINCT {_HOUR}, {_TRACE} AS begun FROM {{source}} WHERE {_KEPT} AND trace_id <> ''
        ORDER BY bucket, begun""",
    ANSWERS_HOUR: f"""
        INSERT INTO {ANSWERS_HOUR.table}
        SELECT DISTINCT {_HOUR}, {_NUMBER.format("response_id")} AS begun
        FROM {{source}} WHERE {_KEPT} AND response_id <> '' ORDER BY bucket, begun""",
    REASONS_HOUR: f"""
        INSERT INTO {REASONS_HOUR.table}
        SELECT DISTINCT {_HOUR}, outcome_reason, error_type FROM {{source}} WHERE {_KEPT} ORDER BY ALL""",
}
"""Sorted, they take less room."""

LEVELS: tuple[Level, ...] = tuple(_ADD)


def conditions(text: str) -> dict[Level, str]:
    """Of each level that tells where ids may be that begin with ``text``: whether a row of it does."""
    found = {}
    bare = text.lstrip("0")
    digits = bare[:_DIGITS]
    if _HEXADECIMAL.fullmatch(digits):
        first, last = (int(digits.ljust(_DIGITS, end), 16) for end in "0f")
        found[TRACES_HOUR] = f"(begun BETWEEN {first} AND {last} OR begun = 0)"
    if len(bare) >= BEGINNING:
        found[ANSWERS_HOUR] = f"begun = {BEGUN}"
    return found


def add(connection: Any, level: Level, source: str, since_us: int, upto_us: int) -> None:
    """Note what stands in the calls of ``source`` that started in ``[since_us, upto_us)``."""
    connection.execute(_ADD[level].format(source=source), [since_us, upto_us])
