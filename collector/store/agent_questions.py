# ruff: noqa: S608  (the catalogue is SQL of our own; values are bound)
"""Questions about agents at work: waste, broken prompt caches, runs, tools, how tasks end.

They stand on what judging found (`collector.judging`), sparse tables beside the sums of the calls, so they
are as fast as those. ``{judged}`` in the SQL stands for the dimensions that these tables have.
"""

from typing import Final

from collector.domain.prompt_cache import ADVICE
from collector.domain.waste import USEFUL
from collector.store.question import Question

MOST_ROWS: Final = 10_000

JUDGED: Final = (
    *("tenant", "team", "user_id", "agent", "conversation_id", "task_id"),
    *("request_model", "upstream", "api", "key_id", "tag"),
)
"""What findings can be filtered by, and told apart by."""
_PERIOD: Final = ("since", "until", "tz", "judged")
_WITHIN: Final = "started_at >= {from} AND started_at < {to}{narrowed}"
_SUM: Final = "CAST(coalesce(sum({0}), 0) AS DECIMAL(38,12)) AS {0}"
_COUNT: Final = "CAST(coalesce(sum({0}), 0) AS BIGINT) AS {0}"


def _usd(column: str) -> str:
    return _SUM.format(column)


def _count(column: str) -> str:
    return _COUNT.format(column)


_advice = " ".join(f"WHEN '{cause.value}' THEN '{text}'" for cause, text in ADVICE.items())

WASTE = Question(
    name="waste",
    help="Every dollar in exactly one class, from useful to looped; the sums are those of the ledger.",
    parameters=(*_PERIOD, "by"),
    sql=f"""
        WITH found AS (
            SELECT {{by_calls}} waste, count(*) AS calls, count(*) FILTER (WHERE whole) AS whole_calls,
                {_usd("effective_cost_usd")}
            FROM waste WHERE {_WITHIN} GROUP BY ALL
        ),
        bill AS (
            SELECT {{by}} '{USEFUL}' AS waste, calls, effective_cost_usd FROM {{books}}
            UNION ALL SELECT {{by}} '{USEFUL}', -whole_calls, -effective_cost_usd FROM found
            UNION ALL SELECT {{by}} waste, calls, effective_cost_usd FROM found
        )
        SELECT {{by}} waste, {_count("calls")}, {_usd("effective_cost_usd")}
        FROM bill GROUP BY ALL ORDER BY effective_cost_usd DESC, {{by}} waste LIMIT {MOST_ROWS}""",
)

WASTE_CALLS = Question(
    name="waste_calls",
    help="The calls behind the waste bill, each with its evidence; dearest first.",
    parameters=(*_PERIOD, "waste", "limit"),
    sql=f"""
        SELECT * FROM waste WHERE {_WITHIN}
        ORDER BY effective_cost_usd DESC, call_id DESC LIMIT $limit""",
)

CACHE_BREAKS = Question(
    name="cache_breaks",
    help="What broke providers' prompt caches, since when, what it cost, and what to change; dearest first.",
    parameters=(*_PERIOD, "cause", "limit"),
    sql=f"""
        SELECT agent, request_model, cause,
            CASE WHEN block LIKE 'message %' THEN 'messages' ELSE block END AS block,
            count(*) AS breaks, count(DISTINCT conversation_id) AS conversations,
            min(started_at) AS first_at, max(started_at) AS last_at,
            {_count("lost_tokens")}, {_usd("effective_cost_usd")},
            arg_max(call_id, effective_cost_usd) AS call_id,
            arg_max(after_call_id, effective_cost_usd) AS after_call_id,
            CASE cause {_advice} ELSE '' END AS advice
        FROM cache_breaks WHERE {_WITHIN}
        GROUP BY ALL ORDER BY effective_cost_usd DESC, agent, request_model, cause, block LIMIT $limit""",
)

CACHE_BREAK_CALLS = Question(
    name="cache_break_calls",
    help="Single calls that broke a prompt cache, each with the call whose prefix it repeats; newest first.",
    parameters=(*_PERIOD, "cause", "limit"),
    sql=f"""
        SELECT * FROM cache_breaks WHERE {_WITHIN} ORDER BY started_at DESC, call_id DESC LIMIT $limit""",
)

_LATEST_OUTCOMES = """
    SELECT hash(task_id, conversation_id, trace_id) AS said,
        any_value(hash(nullif(task_id, ''))) AS said_task,
        any_value(hash(nullif(conversation_id, ''))) AS said_talk,
        any_value(hash(nullif(trace_id, ''))) AS said_trace,
        arg_max(success, reported_at) AS success, arg_max(score, reported_at) AS score,
        arg_max(value_usd, reported_at) AS value_usd,
        arg_max(coalesce(source, 'reported'), reported_at) AS source
    FROM outcomes WHERE reported_at >= {from}"""
"""To be followed by conditions, and by ``GROUP BY said``: what was said last of each task."""

RUNS = Question(
    name="runs",
    help="Conversations as pieces of work: steps, turns, retries, loops, tools, cost, outcome; dearest.",
    parameters=(*_PERIOD, "limit"),
    sql=f"""
        WITH dearest AS (
            SELECT effective_cost_usd AS usd FROM runs WHERE {_WITHIN} ORDER BY usd DESC LIMIT $limit
        ),
        picked AS MATERIALIZED (
            SELECT * FROM runs WHERE {_WITHIN} AND effective_cost_usd >= (SELECT min(usd) FROM dearest)
            ORDER BY effective_cost_usd DESC, call_id LIMIT $limit
        ),
        said AS ({_LATEST_OUTCOMES} AND (
                (conversation_id <> '' AND conversation_id IN (SELECT conversation_id FROM picked))
                OR (task_id <> '' AND task_id IN (SELECT task_id FROM picked))
                OR (trace_id <> '' AND trace_id IN (SELECT trace_id FROM picked)))
            GROUP BY said
        ),
        known AS (
            SELECT picked.call_id, any_value(said.success) AS success, any_value(said.score) AS score,
                any_value(said.value_usd) AS value_usd, any_value(said.source) AS outcome_source
            FROM picked JOIN said
                ON said_talk = hash(picked.conversation_id) OR said_task = hash(picked.task_id)
                OR said_trace = hash(picked.trace_id)
            GROUP BY picked.call_id
        ),
        guessed AS (
            SELECT conversation_id, list(signal ORDER BY signal) AS inferred FROM inferred_outcomes
            WHERE started_at >= {{from}} AND conversation_id IN (SELECT conversation_id FROM picked)
            GROUP BY conversation_id
        )
        SELECT picked.*, success, score, value_usd, outcome_source, inferred
        FROM picked LEFT JOIN known USING (call_id) LEFT JOIN guessed USING (conversation_id)
        ORDER BY effective_cost_usd DESC, call_id""",
)

RUNS_BY = Question(
    name="runs_by",
    help="Conversations as pieces of work, added up: turns, steps, tools, tasks, cost, waste; dearest first.",
    parameters=(*_PERIOD, "by", "limit"),
    sql=f"""
        SELECT {{by_calls}} count(*) AS runs, {_count("turns")}, {_count("steps")}, {_count("retries")},
            {_count("looped")}, {_count("tool_calls")}, {_count("tool_errors")},
            count(DISTINCT nullif(task_id, '')) AS tasks,
            {_usd("effective_cost_usd")}, {_usd("wasted_usd")}
        FROM runs WHERE {_WITHIN}
        GROUP BY ALL ORDER BY effective_cost_usd DESC, {{by}} runs LIMIT $limit""",
)

_CALLS_A_TURN: Final = 64
"""The first turns of a period are those of the conversations that its first calls belong to."""
_BEGUN: Final = f"""
            SELECT tenant, conversation_id FROM calls WHERE conversation_id <> '' AND {_WITHIN}
            ORDER BY started_at LIMIT $limit * {_CALLS_A_TURN}
        """

TURNS = Question(
    name="turns",
    help="The turns of conversations: from what a person said to the next; steps, tools and cost of each.",
    parameters=("since", "until", "tz", "tenant", "conversation_id", "task_id", "limit"),
    sql=f"""
        WITH begun AS ({_BEGUN}),
        told AS (
            SELECT *, greatest(1, sum(CASE WHEN input_role = 'user' THEN 1 ELSE 0 END) OVER (
                PARTITION BY tenant, conversation_id ORDER BY started_at, call_id)) AS turn
            FROM calls SEMI JOIN begun USING (tenant, conversation_id) WHERE {_WITHIN}
        )
        SELECT tenant, conversation_id, CAST(turn AS BIGINT) AS turn, min(started_at) AS started_at,
            max(started_at + to_microseconds(CAST(duration_ms * 1000 AS BIGINT))) AS ended_at,
            count(*) AS steps, CAST(coalesce(sum(len(tool_names)), 0) AS BIGINT) AS tool_calls,
            {_count("tool_errors")}, {_count("input_tokens")}, {_count("cache_read_input_tokens")},
            {_count("output_tokens")}, {_usd("effective_cost_usd")}
        FROM told GROUP BY tenant, conversation_id, turn
        ORDER BY started_at, conversation_id, turn LIMIT $limit""",
)
LAST_OF_TURNS: Final = f"""
        WITH begun AS MATERIALIZED (SELECT DISTINCT * FROM ({_BEGUN}))
        SELECT epoch_us(max(last_at)) FROM ({{talked}}) SEMI JOIN begun USING (tenant, conversation_id)"""
"""When the conversations of `TURNS` had their last call: no later one of the period has to be looked at."""

TOOLS = Question(
    name="tools",
    help="Tools that models asked for: uses, repeats, errors, what asking cost, what they cost themselves.",
    parameters=(*_PERIOD, "by", "limit"),
    sql=f"""
        SELECT {{by_calls}} tool, {_count("uses")}, {_count("repeats")}, {_count("errors")},
            count(*) AS conversations, {_usd("effective_cost_usd")}, {_usd("declared_cost_usd")}
        FROM tool_uses WHERE {_WITHIN}
        GROUP BY ALL ORDER BY effective_cost_usd DESC, {{by}} tool LIMIT $limit""",
)

_Z: Final = 1.959963984540054
"""Of a normal distribution: 95 % lie within so many standard deviations."""
_middle = f"(p + {_Z * _Z / 2} / n) / (1 + {_Z * _Z} / n)"
_half = f"{_Z} * sqrt(p * (1 - p) / n + {_Z * _Z / 4} / (n * n)) / (1 + {_Z * _Z} / n)"

_MATCHED: Final = """SELECT {{by_calls}} said, success, score, value_usd, effective_cost_usd AS usd
            FROM said JOIN mine ON {0} = mine.{1} WHERE {2}"""
_WAYS: Final = (
    ("said_task", "task_id", "said_task <> ''"),
    ("said_talk", "conversation_id", "said_task = '' AND said_talk <> ''"),
    ("said_trace", "trace_id", "said_task = '' AND said_talk = '' AND said_trace <> ''"),
)
"""By what an outcome names its runs, one way each: an OR of them would compare all with all. Names are joined
as they are: to look a hash up for each run takes twice as long."""

# Most outcomes are told once. To find the others by a number, and of these alone what was told last, takes
# half as long as to do so of all.
QUALITY = Question(
    name="quality",
    help="How often tasks succeed, with 95 % Wilson intervals, and what one that does costs and is worth.",
    parameters=(*_PERIOD, "by", "limit"),
    sql=f"""
        WITH told AS MATERIALIZED (
            SELECT coalesce(task_id, '') AS said_task, coalesce(conversation_id, '') AS said_talk,
                coalesce(trace_id, '') AS said_trace, hash(said_task, said_talk, said_trace) AS said,
                success, score, value_usd, reported_at
            FROM outcomes WHERE reported_at >= {{from}}
        ),
        again AS MATERIALIZED (SELECT said FROM told GROUP BY said HAVING count(*) > 1),
        said AS (
            SELECT said_task, said_talk, said_trace, said, success, score, value_usd
            FROM told ANTI JOIN again USING (said)
            UNION ALL
            SELECT any_value(said_task), any_value(said_talk), any_value(said_trace), said,
                arg_max(success, reported_at), arg_max(score, reported_at), arg_max(value_usd, reported_at)
            FROM told SEMI JOIN again USING (said) GROUP BY said
        ),
        mine AS (SELECT * FROM runs WHERE {_WITHIN}),
        matched AS (
            {" UNION ALL ".join(_MATCHED.format(*way) for way in _WAYS)}
        ),
        ended AS (
            SELECT {{by_dearest}} any_value(success) AS success, any_value(score) AS score,
                any_value(value_usd) AS value_usd, sum(matched.usd) AS usd
            FROM matched GROUP BY said
        ),
        counted AS (
            SELECT {{by}} count(*) AS tasks, count(*) FILTER (WHERE success) AS successes,
                avg(score) AS score, {_SUM.format("usd")}, {_SUM.format("value_usd")},
                avg(CASE WHEN success THEN 1.0 ELSE 0.0 END) AS p, count(*)::DOUBLE AS n
            FROM ended GROUP BY ALL
        )
        SELECT {{by}} tasks, successes, p AS success_rate,
            greatest(0.0, {_middle} - {_half}) AS success_rate_low,
            least(1.0, {_middle} + {_half}) AS success_rate_high,
            score, usd AS effective_cost_usd, value_usd,
            CASE WHEN successes > 0 THEN usd::DOUBLE / successes END AS usd_per_success,
            CASE WHEN usd > 0 THEN value_usd::DOUBLE / usd::DOUBLE END AS value_per_usd
        FROM counted ORDER BY tasks DESC, {{by}} successes LIMIT $limit""",
)

INFERRED = Question(
    name="inferred_outcomes",
    help="Guesses at what went wrong where nobody said: user retries, repeated questions, abandoned runs.",
    parameters=(*_PERIOD, "signal", "limit"),
    sql=f"""
        SELECT *, true AS inferred FROM inferred_outcomes WHERE {_WITHIN}
        ORDER BY started_at DESC, call_id LIMIT $limit""",
)

# Written down, what there is of calls: DuckDB 2.0 never ends the recursion where it sees that there are none.
RUN = Question(
    name="run",
    help=(
        "One run as a waterfall: agents, tools and model calls, each with all that happened inside it;"
        " tools with what they cost themselves where that is declared."
    ),
    parameters=("since", "until", "tz", "tenant", "conversation_id", "trace_id"),
    sql=f"""
        WITH RECURSIVE own AS MATERIALIZED (
            SELECT * FROM calls WHERE {_WITHIN} ORDER BY started_at LIMIT 5000
        ),
        known AS (
            SELECT call_id, any_value(span_id) AS seen_as, any_value(trace_id) AS seen_in FROM span_calls
            WHERE started_at >= {{from}} - INTERVAL 1 HOUR AND started_at < {{to}} + INTERVAL 1 HOUR
                AND call_id IN (SELECT call_id FROM own)
            GROUP BY call_id
        ),
        traces AS (SELECT trace_id FROM own UNION SELECT seen_in FROM known),
        bars AS (
            SELECT 'model' AS kind, 'chat ' || request_model AS name, own.call_id AS id,
                coalesce(seen_as, parent_span_id) AS parent_id, trace_id, own.call_id, started_at,
                duration_ms, CASE WHEN error_type = '' THEN outcome ELSE error_type END AS status,
                input_tokens, output_tokens, cache_read_input_tokens, effective_cost_usd
            FROM own LEFT JOIN known USING (call_id)
            UNION ALL
            SELECT coalesce(nullif(role, ''), 'other'), coalesce(nullif(tool, ''), nullif(agent, ''), name),
                span_id, parent_span_id, trace_id, '', started_at, duration_ms,
                CASE WHEN error_type = '' THEN status ELSE error_type END, 0, 0, 0, CAST(0 AS DECIMAL(18,12))
            FROM spans_received
            WHERE trace_id IN (SELECT trace_id FROM traces) AND started_at >= {{from}} - INTERVAL 1 HOUR
                AND started_at < {{to}} + INTERVAL 1 HOUR
        ),
        up AS (
            SELECT id, id AS above, 0 AS depth FROM bars
            UNION ALL
            SELECT up.id, bars.parent_id, up.depth + 1 FROM up JOIN bars ON bars.id = up.above
            WHERE bars.parent_id <> '' AND up.depth < 24
        ),
        declared AS (
            SELECT bars.id, price_usd FROM bars JOIN tool_prices ON kind = 'tool' AND tool = name
            WHERE NOT EXISTS (
                SELECT 1 FROM up JOIN bars around ON around.id = up.above
                WHERE up.id = bars.id AND up.depth > 0 AND around.kind = 'tool' AND around.name = bars.name
            )
        ),
        sums AS (
            SELECT up.above AS id, count(*) FILTER (WHERE bars.call_id <> '') AS calls,
                {_SUM.format("effective_cost_usd")}, {_count("input_tokens")}, {_count("output_tokens")},
                {_count("cache_read_input_tokens")},
                CAST(coalesce(sum(price_usd), 0) AS DECIMAL(38,12)) AS declared_cost_usd
            FROM up JOIN bars ON bars.id = up.id LEFT JOIN declared ON declared.id = up.id GROUP BY up.above
        ),
        deep AS (
            SELECT up.id, max(up.depth) AS depth FROM up JOIN bars ON bars.id = up.above GROUP BY up.id
        )
        SELECT bars.kind, bars.name, bars.id, bars.parent_id, CAST(depth AS BIGINT) AS depth, bars.trace_id,
            bars.call_id, bars.started_at, bars.duration_ms, bars.status, sums.calls, sums.input_tokens,
            sums.output_tokens, sums.cache_read_input_tokens, sums.effective_cost_usd, sums.declared_cost_usd
        FROM bars JOIN sums USING (id) JOIN deep USING (id)
        ORDER BY bars.started_at, depth, bars.id LIMIT {MOST_ROWS}""",
)

AGENT_QUESTIONS: Final = (
    *(
        WASTE,
        WASTE_CALLS,
        CACHE_BREAKS,
        CACHE_BREAK_CALLS,
        RUNS,
        RUNS_BY,
        RUN,
        TURNS,
        TOOLS,
        QUALITY,
        INFERRED,
    ),
)
