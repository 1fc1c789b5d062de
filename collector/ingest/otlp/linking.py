# ruff: noqa: S608  (names are our own; values are bound)
"""Which call of ours a span tells of, and what passed us by.

Two things are worked out for spans that have been in the ledger for a moment, when the record of
the same call has come too:

* Each model call that somebody's span tells of is looked for among our calls: by the id of the
  response, by place in the trace (our span below theirs, a model server's below ours), at last by
  model, token counts and time. What is found nowhere *bypassed* the sidecar. Spans of model
  calls around others (an instrumentation's around the SDK's own) are one call, the innermost.
* For each call of ours, the nearest agent, tool, task and step above it.

Nothing here writes to ``calls``: no span adds a token or a cent. An agent's span comes when it has
ended, often long after its calls, so contexts are worked out again for every trace that gains spans.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from collector.store.duckdb import Connection, Database, DatabaseError, told_apart

SETTLE_S: Final = 10.0
"""How long a span waits for the record of its call: SDKs send spans seconds late, the journal is faster."""
_WINDOW_S: Final = 10.0
"""Spans of so many seconds are worked on at once."""
_LOOK_BACK_S: Final = 3600.0
"""How far a linker that begins anew looks back: what is older was worked on before."""
_MARGIN_US: Final = 300_000_000
"""How far the clocks of agent and sidecar may differ, and how long a call may outlast its span."""
_SAME_US: Final = 2_000_000
_LEVELS: Final = 24

# The spans of the window, and of each what it takes to find its call.
_LEAVES: Final = """
CREATE OR REPLACE TEMP TABLE leaves AS
WITH fresh AS (
    SELECT * FROM spans_received
    WHERE received_at >= make_timestamp($1) AND received_at < make_timestamp($2) AND role = 'model'
),
bounds AS (
    SELECT min(started_at) AS since, max(started_at + to_microseconds((duration_ms * 1000)::BIGINT)) AS until
    FROM fresh
),
inner_spans AS (
    SELECT child.trace_id, child.parent_span_id, child.role, child.response_id
    FROM spans_received child, bounds
    WHERE child.started_at BETWEEN bounds.since - INTERVAL 1 SECOND AND bounds.until + INTERVAL 1 SECOND
        AND child.role IN ('model', 'detail') AND child.parent_span_id <> '' AND child.kind <> 'SERVER'
        AND child.trace_id IN (SELECT trace_id FROM fresh)
)
SELECT fresh.trace_id, fresh.span_id, fresh.parent_span_id, fresh.started_at,
    fresh.started_at + to_microseconds((fresh.duration_ms * 1000)::BIGINT) AS ended_at, fresh.kind,
    coalesce((SELECT max(d.response_id) FROM inner_spans d WHERE d.role = 'detail'
        AND d.trace_id = fresh.trace_id AND d.parent_span_id = fresh.span_id), '') AS detail_id,
    fresh.response_id, fresh.request_model, fresh.response_model, fresh.input_tokens, fresh.output_tokens
FROM fresh
WHERE NOT EXISTS (SELECT 1 FROM inner_spans i WHERE i.role = 'model'
        AND i.trace_id = fresh.trace_id AND i.parent_span_id = fresh.span_id)
    AND NOT (fresh.kind = 'SERVER' AND EXISTS (SELECT 1 FROM spans_received p, bounds
        WHERE p.started_at BETWEEN bounds.since - INTERVAL 5 MINUTE AND bounds.until
            AND p.trace_id = fresh.trace_id AND p.span_id = fresh.parent_span_id AND p.role = 'model'))
    AND NOT EXISTS (SELECT 1 FROM span_calls known WHERE known.trace_id = fresh.trace_id
        AND known.span_id = fresh.span_id AND known.started_at = fresh.started_at)
"""

_NEAR_CALLS: Final = f"""
CREATE OR REPLACE TEMP TABLE near_calls AS
WITH bounds AS (SELECT min(started_at) AS since, max(ended_at) AS until FROM leaves)
SELECT call_id, c.started_at, c.started_at + to_microseconds((duration_ms * 1000)::BIGINT) AS ended_at,
    trace_id, span_id, parent_span_id, gen_ai_span_id, response_id, request_model, response_model,
    input_tokens, output_tokens
FROM calls c, bounds
WHERE c.started_at BETWEEN bounds.since - to_microseconds({_MARGIN_US})
    AND bounds.until + to_microseconds({_MARGIN_US})
"""

# From each call upwards through the spans around it; `depth` counts from the call.
_ABOVE: Final = f"""
CREATE OR REPLACE TEMP TABLE above AS
WITH RECURSIVE up AS (
    SELECT call_id, trace_id, parent_span_id AS span_id, 0 AS depth FROM starting
    UNION ALL
    SELECT up.call_id, up.trace_id, around.parent_span_id, up.depth + 1
    FROM up JOIN around ON around.trace_id = up.trace_id AND around.span_id = up.span_id
    WHERE around.parent_span_id <> '' AND up.depth < {_LEVELS}
)
SELECT * FROM up WHERE span_id <> ''
"""

_AROUND: Final = """
CREATE OR REPLACE TEMP TABLE around AS
SELECT trace_id, span_id, parent_span_id, role, agent, tool, task, step, conversation_id, user_id
FROM spans_received
WHERE started_at >= make_timestamp($1) AND trace_id IN (SELECT trace_id FROM touched)
"""

# Each way of matching joins on equality, or it would compare every span with every call.
_MATCH: Final = f"""
CREATE OR REPLACE TEMP TABLE matches AS
WITH told AS (
    SELECT *, unnest(list_distinct([request_model, response_model])) AS model
    FROM leaves WHERE response_id = ''
),
made AS (
    SELECT *, unnest(list_distinct([request_model, response_model])) AS model FROM near_calls
),
alike AS (
    SELECT l.trace_id, l.span_id, c.call_id, l.started_at, l.ended_at,
        c.started_at AS c_start, c.ended_at AS c_end
    FROM told l JOIN made c ON c.model = l.model AND c.input_tokens = coalesce(l.input_tokens, 0)
        AND c.output_tokens = coalesce(l.output_tokens, 0)
    WHERE coalesce(l.input_tokens, l.output_tokens) IS NOT NULL
    UNION ALL
    SELECT l.trace_id, l.span_id, c.call_id, l.started_at, l.ended_at, c.started_at, c.ended_at
    FROM told l JOIN made c ON c.model = l.model
    WHERE coalesce(l.input_tokens, l.output_tokens) IS NULL
),
found AS (
    SELECT l.trace_id, l.span_id, c.call_id, 0 AS rank, 0 AS apart
    FROM leaves l JOIN near_calls c ON c.response_id = l.response_id WHERE l.response_id <> ''
    UNION ALL
    SELECT l.trace_id, l.span_id, c.call_id, 0, 1
    FROM leaves l JOIN near_calls c ON c.response_id = l.detail_id WHERE l.detail_id <> ''
    UNION ALL
    SELECT l.trace_id, l.span_id, a.call_id, 1, a.depth FROM leaves l JOIN above a
        ON a.trace_id = l.trace_id AND a.span_id = l.span_id
    UNION ALL
    SELECT l.trace_id, l.span_id, c.call_id, 2, 0 FROM leaves l JOIN near_calls c
        ON c.trace_id = l.trace_id AND l.parent_span_id IN (c.span_id, c.gen_ai_span_id)
    UNION ALL
    SELECT l.trace_id, l.span_id, t.call_id, 2, 1 FROM leaves l
        JOIN attempts t ON t.span_id = l.parent_span_id JOIN near_calls c
            ON c.call_id = t.call_id AND c.trace_id = l.trace_id
        WHERE l.parent_span_id <> '' AND t.started_at >= (SELECT min(started_at) FROM near_calls)
    UNION ALL
    SELECT trace_id, span_id, call_id, 3, abs(epoch_us(c_start) - epoch_us(started_at)) FROM alike
    WHERE c_start >= started_at - to_microseconds({_SAME_US})
        AND c_end <= ended_at + to_microseconds({_SAME_US})
)
SELECT trace_id, span_id, call_id, ['response', 'trace', 'server', 'figures'][rank + 1] AS matched_by
FROM found QUALIFY row_number() OVER (PARTITION BY trace_id, span_id ORDER BY rank, apart, call_id) = 1
"""

_NOTE: Final = """
INSERT INTO span_calls
SELECT l.trace_id, l.span_id, l.started_at, coalesce(m.call_id, ''), coalesce(m.matched_by, ''),
    make_timestamp($1)
FROM leaves l LEFT JOIN matches m ON m.trace_id = l.trace_id AND m.span_id = l.span_id
"""

_COUNT: Final = """
SELECT coalesce(matched_by, ''), count(*) FROM leaves LEFT JOIN matches USING (trace_id, span_id) GROUP BY 1
"""

# Where to start upwards: our own parent, and the spans of others that are known to be the call.
_STARTING: Final = f"""
CREATE OR REPLACE TEMP TABLE starting AS
SELECT call_id, trace_id, parent_span_id FROM calls
WHERE parent_span_id <> '' AND trace_id IN (SELECT trace_id FROM touched)
    AND started_at BETWEEN make_timestamp($1 - {_MARGIN_US}) AND make_timestamp($2 + {_MARGIN_US})
UNION
SELECT call_id, trace_id, span_id FROM span_calls
WHERE call_id <> '' AND trace_id IN (SELECT trace_id FROM touched)
    AND started_at BETWEEN make_timestamp($1 - {_MARGIN_US}) AND make_timestamp($2 + {_MARGIN_US})
"""

_TOUCHED: Final = """
CREATE OR REPLACE TEMP TABLE touched AS
SELECT trace_id, epoch_us(min(started_at)) AS since_us,
    epoch_us(max(started_at + to_microseconds((duration_ms * 1000)::BIGINT))) AS until_us
FROM spans_received
WHERE received_at >= make_timestamp($1) AND received_at < make_timestamp($2) AND role <> ''
GROUP BY trace_id
"""


def _nearest(column: str, role: str = "") -> str:
    """The value that stands nearest above a call; of the spans of ``role``, where they have one."""
    nearest = f"arg_min(s.{column}, a.depth) FILTER (WHERE s.{column} <> ''"
    said = f"{nearest})"
    if role:
        said = f"{nearest} AND s.role = '{role}'), {said}"
    return f"coalesce({said}, '') AS {column}"


_CONTEXTS: Final = f"""
INSERT INTO call_contexts
SELECT a.call_id, min(c.started_at), any_value(a.trace_id),
    {_nearest("agent", "agent")},
    coalesce(arg_min(s.tool, a.depth) FILTER (WHERE s.tool <> '' AND s.role = 'tool'), '') AS tool,
    {_nearest("task")}, {_nearest("step")}, {_nearest("conversation_id")}, {_nearest("user_id")}
FROM above a JOIN around s ON s.trace_id = a.trace_id AND s.span_id = a.span_id
    JOIN calls c ON c.call_id = a.call_id
        AND c.started_at BETWEEN make_timestamp($1 - {_MARGIN_US}) AND make_timestamp($2 + {_MARGIN_US})
GROUP BY a.call_id
"""


@dataclass(slots=True)
class LinkCounts:
    """What was found since the process started."""

    matched: dict[str, int] = field(default_factory=dict)
    """Spans of model calls that tell of a call of ours, by what showed it."""
    bypassed: int = 0
    """Spans of model calls that never passed the sidecar."""
    contexts: int = 0


class Linker:
    """Works out links and contexts, a window of received spans at a time.

    Args:
        database: the ledger at this moment, with the tables of `collector.ingest.otlp.table`; None
            while it is not open.
        journal_lag_s: how far behind the journal the ledger is; nothing is called a bypass before
            the records that may say otherwise are in.
        now_us: the clock.
    """

    def __init__(
        self,
        database: Callable[[], Database | None],
        *,
        journal_lag_s: Callable[[], float] = lambda: 0.0,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.counts = LinkCounts()
        self._database = database
        self._journal_lag_s = journal_lag_s
        self._now_us = now_us
        self._mark_us: int | None = None

    def step(self) -> bool:
        """Work on the next window; whether there may be more to do at once.

        Raises:
            StoreError: nothing of it was done; it is done another time.
        """
        until = self._now_us() - int((SETTLE_S + self._journal_lag_s()) * 1e6)
        database = self._database()
        if database is None:
            return False
        with database.turn:
            try:
                since = self._since(database.connection)
                if since is None or since >= until:
                    return False
                end = min(until, since + int(_WINDOW_S * 1e6))
                with database.transaction() as connection:
                    found = self._window(connection, since, end)
            except (DatabaseError, MemoryError) as error:
                raise told_apart(error, database.path) from error
        self._mark_us = end
        for matched_by, count in found:
            if matched_by:
                self.counts.matched[matched_by] = self.counts.matched.get(matched_by, 0) + count
            else:
                self.counts.bypassed += count
        return end < until

    def _since(self, connection: Connection) -> int | None:
        """The earliest span that has not been looked at."""
        if self._mark_us is None:
            row = connection.execute("SELECT epoch_us(max(noted_at)) FROM span_calls").fetchone()
            # A window back: what was noted last may not have been all of its window.
            noted = int(row[0]) - int((SETTLE_S + _WINDOW_S) * 1e6) if row and row[0] is not None else 0
            self._mark_us = max(noted, self._now_us() - int(_LOOK_BACK_S * 1e6))
        row = connection.execute(
            "SELECT epoch_us(min(received_at)) FROM spans_received WHERE received_at >= make_timestamp($1)",
            [self._mark_us],
        ).fetchone()
        return int(row[0]) if row and row[0] is not None else None

    def _window(self, connection: Connection, since: int, until: int) -> list[tuple[str, int]]:
        run = connection.execute
        run(_TOUCHED, [since, until])
        row = run("SELECT min(since_us), max(until_us), count(*) FROM touched").fetchone()
        if not row or not row[2]:
            return []
        earliest, latest = int(row[0]), int(row[1])
        run(_AROUND, [earliest - 12 * _MARGIN_US])
        run(_LEAVES, [since, until])
        run(_NEAR_CALLS)
        run(
            "CREATE OR REPLACE TEMP TABLE starting AS"
            " SELECT call_id, trace_id, parent_span_id FROM near_calls WHERE parent_span_id <> ''"
        )
        run(_ABOVE)
        run(_MATCH)
        run(_NOTE, [self._now_us()])
        found = run(_COUNT)
        counted = [(str(matched_by), int(count)) for matched_by, count in found.fetchall()]
        run(_STARTING, [earliest, latest])
        run(_ABOVE)
        run("DELETE FROM call_contexts WHERE call_id IN (SELECT call_id FROM above)")
        done = run(_CONTEXTS, [earliest, latest]).fetchone()
        self.counts.contexts += int(done[0]) if done else 0
        return counted
