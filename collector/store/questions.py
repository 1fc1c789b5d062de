# ruff: noqa: S608  (the catalogue is SQL of our own; values are bound)
"""The questions that the ledger answers, as a catalogue.

Each has a name, a line of help, the parameters it takes, and its SQL. In the SQL

    {books}     stands for the calls asked about: whole days, hours and minutes where sums
                exist, single calls for the rest (`collector.store.rollups`)
    {calls}     for the same calls one by one
    {took}      for how long the same calls took, in each of the groups that are shown
    {dearest}   for the rows of the first groups, where there are very many and these are known before
    {ended}     for the calls that ended in the period, whenever they started
    {talked}    for the conversations of each group, where they were asked for
    {by}        for the dimensions asked for, each followed by a comma
    {bucket}    for the start of the bucket that a row of {books} belongs to
    {from}, {to}    for the period, of a table that is not of calls
    {narrowed}  for what its rows are narrowed down to

and every value is bound as a parameter. Another database answers the same questions by
bringing its own SQL under the same names.
"""

from collector.store.agent_questions import AGENT_QUESTIONS, JUDGED
from collector.store.cache_questions import CACHE_QUESTIONS
from collector.store.gpu_questions import GPU_QUESTIONS
from collector.store.levels import DIMENSIONS as SUMMED_DIMENSIONS
from collector.store.levels import LATENCY_BUCKET
from collector.store.question import Question
from collector.store.schema import MONEY

EXTRAS = ("conversations",)
"""Columns that cost so much that they come only when asked for."""
OMISSIBLE = ("latency",)
"""Columns that cost as much as all the others together: an asker may do without."""
DIMENSIONS = (*SUMMED_DIMENSIONS, "user_id", "conversation_id", "task_id", "tag")
"""What calls can be filtered by, and told apart by (a tag as ``tag:KEY``)."""

BUCKETS = ("auto", "minute", "hour", "day")
MOST_ROWS = 10_000
MOST_STEPS = 200_000
"""Rows of an answer over time; more are refused, for a part of them would not sum to the whole."""

_USD = "DECIMAL(38,12)"
_TOKENS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "reasoning_output_tokens",
)


def _count(expression: str, name: str) -> str:
    return f"CAST(coalesce({expression}, 0) AS BIGINT) AS {name}"


def _usd(column: str) -> str:
    # The zero has a type of its own: a bare 0.0 would be a DECIMAL(2,1).
    return f"coalesce(sum({column}), CAST(0 AS {_USD})) AS {column}"


_COST_COLUMNS = ("list_cost_usd", "effective_cost_usd", "avoided_cost_usd")
COSTS = ", ".join(_usd(column) for column in _COST_COLUMNS)
TOKENS = ", ".join(_count(f"sum({column})", column) for column in _TOKENS)
CALLS = _count("sum(calls)", "calls")
TRIED = _count("sum(attempts)", "attempts")
FAILED = _count("sum(calls) FILTER (WHERE outcome = 'failed')", "failed_calls")


PERIOD = ("since", "until", "tz", "filters")
NARROWING = (
    *("budget", "action", "tenant", "task_id", "conversation_id", "trace_id"),
    *("alertname", "severity", "upstream", "gpu"),
    *("waste", "cause", "signal"),
    *("model", "provider_name", "price_version"),
)
"""What rows of other tables than the calls' can be narrowed down by."""

PARAMETERS = {
    "since": "start of the period: ISO 8601, seconds since 1970, or 15m, 24h, 7d ago (default 24h)",
    "until": "end of the period, exclusive; as since (default now)",
    "tz": "time zone of times that name none, and of days, such as Europe/Berlin (default UTC)",
    "filters": "any dimension by its name, repeatable: only calls with one of these values; tag=KEY=VALUE",
    "by": "dimensions to tell apart, separated by commas; a tag as tag:KEY",
    "bucket": f"length of a step: {', '.join(BUCKETS)} (default auto)",
    "budget": "only what befell this budget; repeatable",
    "action": "only this action, such as raise or cut; repeatable",
    "tenant": "only of this tenant; repeatable",
    "task_id": "only of this task; repeatable",
    "conversation_id": "only of this conversation; repeatable",
    "trace_id": "only of this trace; repeatable",
    "alertname": "only of this alert, such as SpendAnomaly; repeatable",
    "severity": "only as loud as this: page, warn or info; repeatable",
    "anomaly_id": "which incident",
    "upstream": "only of this upstream; repeatable",
    "gpu": "only this GPU, by its UUID; repeatable",
    "judged": f"any of {', '.join(JUDGED)}, repeatable: only of calls with one of these values",
    "waste": "only this class of the bill, such as looped; repeatable",
    "cause": "only what broke the cache for this reason; repeatable",
    "signal": "only this sign, such as abandoned run; repeatable",
    "model": "only this model, as the price book names it; repeatable",
    "provider_name": "only of this provider; repeatable",
    "price_version": "only of this version of the price book; repeatable",
    "limit": f"most rows to answer with, up to {MOST_ROWS}",
    "before": "a call_id: only calls that stand after it in the order asked for; for the next page",
    "search": (
        "only calls that have this text among their names (agent, team, tenant, user, models, provider,"
        " upstream, key, api, outcome, errors), or whose call, conversation, task, trace or response id"
        " begins with it"
    ),
    "order": "newest (default) or oldest or dearest or slowest",
    "call_id": "which call",
    "dimension": "which dimension",
    "with": f"further columns, separated by commas: {', '.join(EXTRAS)} (takes longer)",
    "without": f"columns to leave out, separated by commas: {', '.join(OMISSIBLE)} (takes half as long)",
}

TOTALS = Question(
    name="totals",
    help="What was asked, used and spent altogether; one row.",
    parameters=PERIOD,
    sql=f"""
        SELECT {CALLS}, {TRIED}, {FAILED},
            {_count("sum(calls) FILTER (WHERE price_grade = 'prior')", "unpriced_calls")},
            {_count("sum(calls) FILTER (WHERE usage_grade IN ('estimated', 'assumed'))", "estimated_calls")},
            {TOKENS}, {COSTS}, min(first_at) AS first_at, max(last_at) AS last_at
        FROM {{books}}""",
)

SPEND_OVER_TIME = Question(
    name="spend_over_time",
    help="Calls, attempts, tokens and cost for each step of the period; steps without calls are left out.",
    parameters=(*PERIOD, "bucket", "by"),
    sql=f"""
        SELECT {{bucket}} AS bucket, {{by}} {CALLS}, {TRIED}, {FAILED}, {TOKENS}, {COSTS}
        FROM {{books}} GROUP BY ALL ORDER BY ALL LIMIT {MOST_STEPS} + 1""",
)

_PART = f"CAST(part.value[{{}}] * CAST(0.000000000001 AS DECIMAL(13,12)) AS {MONEY})"

CHARGES = Question(
    name="charges",
    help=(
        "What was charged apart from tokens of text, for each step of the period: sound, images, searches,"
        " fees for calls, and what regions cost more; with how much of it there was."
    ),
    parameters=(*PERIOD, "bucket", "by"),
    sql=f"""
        WITH told AS (
            SELECT started_at AS instant, {{by}} coalesce(region, '') AS region,
                unnest(map_entries(CAST(charges AS MAP(VARCHAR, BIGINT[])))) AS part
            FROM {{calls}} WHERE length(CAST(charges AS VARCHAR)) > 2
        )
        SELECT {{bucket}} AS bucket, {{by}} region, part.key AS part,
            CAST(sum(part.value[1]) AS BIGINT) AS quantity,
            sum({_PART.format(2)}) AS list_cost_usd, sum({_PART.format(3)}) AS effective_cost_usd
        FROM told GROUP BY ALL ORDER BY ALL LIMIT {MOST_STEPS} + 1""",
)

_COUNTED = ("calls", "attempts", "failed_calls", *_TOKENS)

ENDED_OVER_TIME = Question(
    name="ended_over_time",
    help=(
        "Calls by the minute they ended in, whenever they started; latency is BUCKET:CALLS of what was"
        " served, where bucket n holds what took from 2^(n/2) ms on."
    ),
    parameters=(*PERIOD, "by"),
    sql=f"""
        WITH counted AS (
            SELECT CAST(date_trunc('minute', ended_at) AS TIMESTAMP) AS bucket, {{by}}
                CASE WHEN outcome = 'served' THEN {LATENCY_BUCKET} END AS latency_bucket,
                count(*) AS calls, sum(attempt_count) AS attempts,
                count(*) FILTER (WHERE outcome = 'failed') AS failed_calls,
                {", ".join(f"sum({column}) AS {column}" for column in (*_TOKENS, *_COST_COLUMNS))}
            FROM {{ended}} GROUP BY ALL
        )
        SELECT bucket, {{by}}
            {", ".join(f"CAST(sum({column}) AS BIGINT) AS {column}" for column in _COUNTED)},
            {", ".join(f"sum({column}) AS {column}" for column in _COST_COLUMNS)},
            coalesce(string_agg(latency_bucket || ':' || calls, ' ' ORDER BY latency_bucket)
                FILTER (WHERE latency_bucket IS NOT NULL), '') AS latency
        FROM counted GROUP BY ALL ORDER BY ALL LIMIT {MOST_STEPS} + 1""",
)

SPEND_BY = Question(
    name="spend_by",
    help="Who or what the money went on, dearest first, with how long calls took.",
    parameters=(*PERIOD, "by", "limit", "with", "without"),
    sql=f"""
        WITH {{dearest}} spent AS MATERIALIZED (
            SELECT {{by}} {CALLS}, {TRIED}, {FAILED}, {TOKENS}, {COSTS} FROM {{books}}
            GROUP BY ALL ORDER BY effective_cost_usd DESC, {{by_key}} LIMIT $limit
        ){{took}}
        SELECT spent.*{{took_columns}}{{talked_column}} FROM spent {{took_join}} {{talked}}
        ORDER BY effective_cost_usd DESC, {{by_key}}""",
)

CALLS_LISTED = Question(
    name="calls",
    help="Single calls with everything that is known of them.",
    parameters=(*PERIOD, "limit", "before", "order", "search"),
    sql="SELECT * FROM {calls} {page} ORDER BY {order} LIMIT $limit",
)

CALL = Question(
    name="call",
    help="One call.",
    parameters=("call_id",),
    sql="SELECT * FROM calls WHERE call_id = $call_id {near} LIMIT 1",
)

ATTEMPTS = Question(
    name="attempts",
    help="The attempts of one call, in order.",
    parameters=("call_id",),
    sql="SELECT * FROM attempts WHERE call_id = $call_id {near} ORDER BY attempt LIMIT 1000",
)

VALUES = Question(
    name="values",
    help="The values that a dimension took in the period, most calls first.",
    parameters=(*PERIOD, "dimension", "limit"),
    sql=f"""
        WITH {{dearest}} counted AS (SELECT {{value}} AS value, {CALLS} FROM {{books}} GROUP BY ALL)
        SELECT * FROM counted ORDER BY calls DESC, value LIMIT $limit""",
)

BUDGET_EVENTS = Question(
    name="budget_events",
    help="What was done to budgets, and by them: thresholds, raises, directives, cuts; newest first.",
    parameters=("since", "until", "tz", "budget", "action", "tenant", "limit"),
    sql="""
        SELECT * FROM budget_events WHERE happened_at >= {from} AND happened_at < {to}{narrowed}
        ORDER BY happened_at DESC, event_id DESC LIMIT $limit""",
)

OUTCOMES = Question(
    name="outcomes",
    help="How tasks ended, as agents and people said; newest first.",
    parameters=("since", "until", "tz", "tenant", "task_id", "conversation_id", "trace_id", "limit"),
    sql="""
        SELECT * FROM outcomes WHERE reported_at >= {from} AND reported_at < {to}{narrowed}
        ORDER BY reported_at DESC, task_id, conversation_id, trace_id LIMIT $limit""",
)

_LATEST_OF_EACH = """
        SELECT * EXCLUDE (place, tenant) FROM (
            SELECT *, coalesce(map_extract(scope, 'tenant')[1], '') AS tenant, row_number() OVER (
                PARTITION BY anomaly_id ORDER BY detected_at DESC, state DESC
            ) AS place
            FROM anomalies WHERE state <> 'seen'
        )
        WHERE place = 1{narrowed} AND (state = 'open' OR (detected_at >= {from} AND detected_at < {to}))"""

INCIDENTS = Question(
    name="incidents",
    help="Alerts and anomalies as they stand: those that are open, and those that ended in the period.",
    parameters=("since", "until", "tz", "alertname", "severity", "tenant", "limit"),
    sql=f"""
        {_LATEST_OF_EACH} ORDER BY state DESC, detected_at DESC, anomaly_id LIMIT $limit""",
)

INCIDENT = Question(
    name="incident",
    help="Everything that was told of one incident, oldest first.",
    parameters=("anomaly_id", "tenant"),
    sql="""
        SELECT * EXCLUDE (tenant) FROM (
            SELECT *, coalesce(map_extract(scope, 'tenant')[1], '') AS tenant FROM anomalies
            WHERE anomaly_id = $anomaly_id
        )
        WHERE true{narrowed} ORDER BY detected_at, state DESC LIMIT 1000""",
)

INJECTIONS = Question(
    name="injections",
    help="Calls whose new texts read like a prompt injection, newest first; a reason to look, no verdict.",
    parameters=("since", "until", "tz", "tenant", "limit"),
    sql="""
        SELECT detected_at, scope, score, json_extract_string(detail, '$.call_id') AS call_id,
            CAST(json_extract(detail, '$.text') AS BIGINT) AS text
        FROM (SELECT *, coalesce(map_extract(scope, 'tenant')[1], '') AS tenant FROM anomalies)
        WHERE detector = 'injection' AND state = 'seen'
            AND detected_at >= {from} AND detected_at < {to}{narrowed}
        ORDER BY detected_at DESC, event_id LIMIT $limit""",
)

PRICES = Question(
    name="prices",
    help="What models cost, in each version of the price book: USD a token; newest version first.",
    parameters=("model", "provider_name", "price_version", "limit"),
    sql="""
        SELECT * FROM prices WHERE true{narrowed}
        ORDER BY first_seen_at DESC, price_version, provider_name, model, effective_from LIMIT $limit""",
)

_RATES = ("input_usd", "output_usd", "cache_read_usd", "cache_write_usd", "reasoning_usd", "per_request_usd")
_BEFORE = ", ".join(f"lag({rate}) OVER before AS {rate}_before" for rate in _RATES)
_CHANGED = ", ".join(f"{rate}_before, {rate}" for rate in _RATES)
_MOVED = " OR ".join(f"{rate} <> {rate}_before" for rate in _RATES)

PRICE_CHANGES = Question(
    name="price_changes",
    help=(
        "Prices that changed in the period, USD a token, before and after: dated ones of the newest price"
        " book, and those that a newer book or configuration states otherwise; newest first."
    ),
    parameters=("since", "until", "tz", "model", "provider_name", "limit"),
    sql=f"""
        WITH versions AS (
            SELECT price_version, dense_rank() OVER (ORDER BY min(first_seen_at)) AS place
            FROM prices GROUP BY price_version
        ),
        listed AS (
            SELECT * EXCLUDE (terms) FROM prices JOIN versions USING (price_version) WHERE true{{narrowed}}
        ),
        revised AS (
            SELECT *, first_seen_at AS changed_at, 'revised' AS kind, {_BEFORE},
                lag(place) OVER before AS place_before
            FROM listed WINDOW before AS (
                PARTITION BY provider_name, model, effective_from ORDER BY place, price_version)
        ),
        dated AS (
            SELECT *, CAST(try_cast(effective_from AS DATE) AS TIMESTAMP) AS changed_at, 'dated' AS kind,
                {_BEFORE}, 1 AS place_before
            FROM listed WHERE place = (SELECT max(place) FROM versions) AND effective_from NOT LIKE '%:%'
            WINDOW before AS (PARTITION BY provider_name, model ORDER BY effective_from)
        )
        SELECT changed_at, kind, provider_name, model, effective_from, price_grade, source, price_version,
            {_CHANGED}
        FROM (SELECT * FROM revised UNION ALL BY NAME SELECT * FROM dated)
        WHERE changed_at >= {{from}} AND changed_at < {{to}}
            AND ({_MOVED} OR (place_before IS NULL AND place > 1 AND price_grade = 'configured'))
        ORDER BY changed_at DESC, provider_name, model LIMIT $limit""",
)

_LATELY = "10 MINUTE"
"""Of the calls that came last: what they say of our overhead is of today."""

HEALTH = Question(
    name="health",
    help=(
        "How Bursar is: what it adds to a call (of the last ten minutes that had any), how far the ledger is"
        " behind the journal, what it holds, what was lost or set aside, versions."
    ),
    parameters=(),
    sql=f"""
        WITH lately AS (
            SELECT overhead_us FROM calls
            WHERE started_at > (SELECT max(started_at) FROM calls) - INTERVAL {_LATELY}
                AND outcome = 'served' AND overhead_us IS NOT NULL
            LIMIT 100000
        ),
        added AS (
            SELECT count(*) AS measured_calls, quantile_cont(overhead_us, [0.5, 0.95, 0.99]) AS us FROM lately
        )
        SELECT (SELECT count(*) FROM calls) AS calls, (SELECT count(*) FROM attempts) AS attempts,
            (SELECT count(*) FROM pending) AS open_calls, (SELECT count(*) FROM presumed) AS presumed_calls,
            (SELECT coalesce(sum(frames), 0)::BIGINT FROM quarantined) AS lost_frames,
            (SELECT count(*) FROM quarantined) AS notes,
            (SELECT max(version) FROM schema_version) AS schema_version, version() AS duckdb_version,
            measured_calls, us[1] AS overhead_p50_us, us[2] AS overhead_p95_us, us[3] AS overhead_p99_us
        FROM added""",
)

LOSSES = Question(
    name="losses",
    help="What was lost or set aside on the way into the ledger, by reason, the latest first.",
    parameters=("limit",),
    sql="""
        SELECT reason, source, count(*) AS notes, CAST(sum(frames) AS BIGINT) AS frames,
            min(noted_at) AS first_at, max(noted_at) AS last_at, arg_max(detail, noted_at) AS detail
        FROM quarantined GROUP BY ALL ORDER BY last_at DESC, reason, source LIMIT $limit""",
)

CATALOGUE = {
    question.name: question
    for question in (
        *(TOTALS, SPEND_OVER_TIME, CHARGES, ENDED_OVER_TIME, SPEND_BY, CALLS_LISTED, CALL, ATTEMPTS, VALUES),
        *(BUDGET_EVENTS, OUTCOMES, INCIDENTS, INCIDENT, INJECTIONS, PRICES, PRICE_CHANGES, HEALTH, LOSSES),
        *GPU_QUESTIONS,
        *AGENT_QUESTIONS,
        *CACHE_QUESTIONS,
    )
}
