# ruff: noqa: S608  (table and column names are our own; values are bound)
"""What each conversation cost on a day: to find the dearest of a million.

Conversations are as many as their days, so these sums have hardly fewer rows than those by the hour; but each
has a number, and to add up by numbers takes a third of what it takes by names. As every level, this one holds
exactly the calls inside its mark: what comes late, is corrected or turns out to cost more is a row more.
"""

from collections.abc import Sequence
from typing import Any

from collector.store.levels import TALK_SUMS, TALKS_HOUR

NUMBER = "CAST(md5_number(conversation_id) >> 64 AS UBIGINT)"
"""What stands for a conversation. Two may share it: who finds a number looks at the names that have it."""

_INTO = f"""
    INSERT INTO {TALK_SUMS.table}
    SELECT bucket, {NUMBER}, conversation_id, calls, effective_cost_usd FROM ("""
_OF_CALLS = """
    FROM {source} WHERE started_at >= make_timestamp($1) AND started_at < make_timestamp($2){kept}
    GROUP BY ALL)"""
_OF_DAY = "SELECT date_trunc('day', started_at) AS bucket, conversation_id"

ADD = f"""{_INTO}
        SELECT date_trunc('day', bucket) AS bucket, conversation_id, sum(calls) AS calls,
            sum(effective_cost_usd) AS effective_cost_usd
        FROM {TALKS_HOUR.table} WHERE bucket >= make_timestamp($1) AND bucket < make_timestamp($2)
        GROUP BY ALL
    ) ORDER BY bucket"""
"""The statement that adds the days in ``[$1, $2)``."""


def book(connection: Any, source: str, since_us: int, upto_us: int) -> None:
    """Add the calls of ``source`` that started in ``[since_us, upto_us)``."""
    sums = "count(*) AS calls, sum(effective_cost_usd) AS effective_cost_usd"
    sql = f"{_INTO}{_OF_DAY}, {sums}{_OF_CALLS.format(source=source, kept='')}"
    connection.execute(sql, [since_us, upto_us])


def take_out(connection: Any, call_ids: Sequence[str], since_us: int, upto_us: int) -> None:
    """Take these calls out; they must still be in ``calls``."""
    sums = "-count(*) AS calls, -sum(effective_cost_usd) AS effective_cost_usd"
    kept = " AND call_id IN (SELECT unnest($3))"
    sql = f"{_INTO}{_OF_DAY}, {sums}{_OF_CALLS.format(source='calls', kept=kept)}"
    connection.execute(sql, [since_us, upto_us, list(call_ids)])


def adjust(connection: Any, table: str, since_us: int, upto_us: int) -> None:
    """Add by how much calls cost more, as ``table`` has it by ``call_id``."""
    sums = "0 AS calls, sum(more_usd) AS effective_cost_usd"
    source = f"calls JOIN {table} USING (call_id)"
    sql = f"{_INTO}{_OF_DAY}, {sums}{_OF_CALLS.format(source=source, kept='')}"
    connection.execute(sql, [since_us, upto_us])
