# ruff: noqa: S608  (table and column names are our own; values are bound)
"""Conversations by day: which had calls, and when each had some before.

To tell a million conversations apart takes a quarter of a second; to count rows takes next to nothing. A row
of ``talks_by_day`` says that an agent had calls of a conversation on a day, and ``before`` names the last day
before it on which that was so. The conversations of the days from A to B are then the rows of these days
whose ``before`` is earlier than A: each of them is there once, by its first day.

A late call, or one that is corrected, may stand between two such days. The rows of its conversation are then
written anew, from the sums by hour, in the transaction that books it.
"""

from collections.abc import Sequence
from typing import Any

from collector.store.levels import DAY_US, TALK_DAYS, TALKS_HOUR

TALK = "CAST(md5_number(concat(tenant, chr(31), agent, chr(31), conversation_id)) >> 64 AS UBIGINT)"
"""What stands for a conversation of an agent, whatever version of DuckDB asks: its `hash` may change. That is
`md5_number_lower`, which takes four times as long: it writes the number down bit by bit."""

_INSIDE = "{0} >= make_timestamp($1) AND {0} < make_timestamp($2) AND conversation_id <> ''"
_SEEN = f"""
    SELECT bucket, tenant, agent, {TALK} AS talk FROM (
        SELECT date_trunc('day', bucket) AS bucket, tenant, agent, conversation_id FROM {TALKS_HOUR.table}
        WHERE {_INSIDE.format("bucket")} {{kept}} GROUP BY ALL HAVING sum(calls) > 0
    )"""
_SORTED = "ORDER BY bucket, tenant, agent"
"""Rows that are alike side by side take less room."""

ADD = f"""
    INSERT INTO {TALK_DAYS.table}
    WITH fresh AS MATERIALIZED ({_SEEN.format(kept="")}),
    seen AS (
        SELECT bucket, tenant, agent, talk, true AS is_fresh FROM fresh
        UNION ALL
        SELECT max(bucket), '', '', talk, false FROM {TALK_DAYS.table} SEMI JOIN fresh USING (talk)
        GROUP BY talk
    ),
    placed AS (SELECT *, lag(bucket) OVER (PARTITION BY talk ORDER BY bucket) AS before FROM seen)
    SELECT bucket, tenant, agent, talk, before FROM placed WHERE is_fresh {_SORTED}"""
"""The statement that adds the days in ``[$1, $2)``, of which none is there yet, after those before."""

_TOUCHED = f"""
    SELECT {TALK}, conversation_id, epoch_us(first_at), epoch_us(last_at) FROM (
        SELECT tenant, agent, conversation_id, min(started_at) AS first_at, max(started_at) AS last_at
        FROM {{source}} WHERE {_INSIDE.format("started_at")} {{kept}} GROUP BY ALL
    )"""
_KNOWN = f"""
    SELECT epoch_us(min(bucket)), epoch_us(max(bucket)) FROM {TALK_DAYS.table}
    WHERE talk IN (SELECT unnest($1::UBIGINT[]))"""
_FORGET = f"DELETE FROM {TALK_DAYS.table} WHERE talk IN (SELECT unnest($1::UBIGINT[]))"
_REWRITE = f"""
    INSERT INTO {TALK_DAYS.table}
    SELECT bucket, tenant, agent, talk, lag(bucket) OVER (PARTITION BY talk ORDER BY bucket)
    FROM ({_SEEN.format(kept="AND conversation_id IN (SELECT unnest($3))")})
    WHERE talk IN (SELECT unnest($4::UBIGINT[])) {_SORTED}"""


def rewrite(
    connection: Any, source: str, since_us: int, upto_us: int, call_ids: Sequence[str] | None = None
) -> None:
    """Write the rows of conversations anew, of whose calls some have come or gone; the sums by hour know.

    Args:
        connection: the writer's, within the transaction that changes the sums by hour.
        source: rows shaped like table ``calls``.
        since_us: from where on the days are kept.
        upto_us: and how far.
        call_ids: only the conversations of these calls; None for those of all.
    """
    inside: list[Any] = [since_us, upto_us]
    kept = "" if call_ids is None else "AND call_id IN (SELECT unnest($3))"
    values = inside if call_ids is None else [*inside, list(call_ids)]
    touched = connection.execute(_TOUCHED.format(source=source, kept=kept), values).fetchall()
    if not touched:
        return
    talks, names, firsts, lasts = (list(column) for column in zip(*touched, strict=True))
    ((first, last),) = connection.execute(_KNOWN, [talks]).fetchall()
    if first is not None:
        firsts.append(first)
        lasts.append(last)
        connection.execute(_FORGET, [talks])
    from_us = max(since_us, min(firsts) // DAY_US * DAY_US)
    to_us = min(upto_us, (max(lasts) // DAY_US + 1) * DAY_US)
    connection.execute(_REWRITE, [from_us, to_us, names, talks])
