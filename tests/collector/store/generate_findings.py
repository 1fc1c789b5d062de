"""What stands beside the calls of a generated ledger: findings, outcomes, spans, GPUs, incidents.

As `generate`, made inside DuckDB from fixed formulas, so that every question has as many rows to look through
as it would have at that size: a run for each conversation, a twentieth of the calls wasted, tools in every
conversation, an outcome for every fifth, two days' worth of GPU samples kept a second apart.
"""

from collector.store import machine_sums
from collector.store.duckdb import Database
from collector.store.levels import DAY_US

_WHO = (
    "tenant, team, user_id, agent, conversation_id, '' AS task_id, request_model, upstream, api, key_id, tags"
)
_TOOLS = "('search'), ('read_file'), ('bash')"
_BETWEEN = "started_at >= make_timestamp($1) AND started_at < make_timestamp($2)"
_RUN = f"""
    SELECT min(started_at) AS started_at, arg_max(call_id, started_at) AS call_id, {_WHO},
        any_value(trace_id) AS trace_id, max(started_at) AS ended_at, count(*) AS steps, 2 AS turns,
        sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
        sum(cache_read_input_tokens) AS cache_read_input_tokens,
        CAST(sum(effective_cost_usd) AS DECIMAL(18,12)) AS effective_cost_usd
    FROM calls WHERE {_BETWEEN}
    GROUP BY tenant, team, user_id, agent, conversation_id, request_model, upstream, api, key_id, tags"""
_FINDINGS = (
    f"""
    INSERT INTO runs BY NAME SELECT *, 0 AS retries, 0 AS looped, steps // 2 AS tool_calls, 0 AS tool_errors,
        CAST(effective_cost_usd * 0.05 AS DECIMAL(18,12)) AS wasted_usd FROM ({_RUN})""",
    f"""
    INSERT INTO tool_uses BY NAME SELECT started_at, call_id, {_WHO}, tool, 2 AS uses, 0 AS repeats,
        0 AS errors, CAST(effective_cost_usd * 0.3 AS DECIMAL(18,12)) AS effective_cost_usd,
        CAST(0 AS DECIMAL(18,12)) AS declared_cost_usd
    FROM (SELECT * FROM runs WHERE {_BETWEEN}), (VALUES {_TOOLS}) AS tools(tool)""",
    f"""
    INSERT INTO waste BY NAME SELECT started_at, call_id, {_WHO},
        ['failed', 'retried', 'looped', 'abandoned', 'cache-broken', 'duplicate'][
            (hash(call_id) // 20 % 6)::BIGINT + 1] AS waste,
        effective_cost_usd, true AS whole, [call_id] AS because, 'generated' AS detail
    FROM calls WHERE {_BETWEEN} AND hash(call_id) % 20 = 0""",
    f"""
    INSERT INTO cache_breaks BY NAME SELECT started_at, call_id, {_WHO}, call_id AS after_call_id,
        ['ttl lapsed', 'system prompt', 'tools', 'model switch'][
            (hash(call_id) // 100 % 4)::BIGINT + 1] AS cause,
        'message ' || hash(call_id) // 7 % 30 AS block, input_tokens AS lost_tokens,
        CAST(effective_cost_usd * 0.4 AS DECIMAL(18,12)) AS effective_cost_usd
    FROM calls WHERE {_BETWEEN} AND hash(call_id) % 100 = 1""",
    f"""
    INSERT INTO inferred_outcomes BY NAME SELECT started_at, call_id, {_WHO}, 'user retry' AS signal
    FROM runs WHERE {_BETWEEN} AND hash(call_id) % 10 = 0""",
    f"""
    INSERT INTO outcomes BY NAME SELECT ended_at AS reported_at, tenant, '' AS task_id, conversation_id,
        '' AS trace_id, hash(call_id) // 5 % 4 > 0 AS success, 0.8::DOUBLE AS score,
        CAST(1.25 AS DECIMAL(18,12)) AS value_usd, '' AS note, 'reported' AS source
    FROM runs WHERE {_BETWEEN} AND hash(call_id) % 5 = 0""",
    f"""
    INSERT INTO budget_events BY NAME SELECT started_at AS happened_at, team AS budget, team AS counter,
        'notify' AS action, call_id, 25 AS limit_usd, 20 AS spent_usd, 1 AS held_usd, '' AS detail, tenant,
        call_id AS event_id
    FROM calls WHERE {_BETWEEN} AND hash(call_id) % 100 = 2""",
    f"""
    INSERT INTO spans_received BY NAME SELECT started_at AS received_at, trace_id, span AS span_id,
        '' AS parent_span_id, 'invoke_agent' AS name, 'INTERNAL' AS kind, 'agents' AS service,
        started_at, duration_ms, 'OK' AS status, '' AS error_type, '{{}}' AS attributes,
        'otel' AS producer, 'agent' AS role, agent
    FROM (SELECT trace_id, started_at, duration_ms, agent, printf('%016x', hash(call_id) + place) AS span
        FROM calls, range(3) AS places(place) WHERE {_BETWEEN} AND hash(call_id) % 30 = 3)""",
    f"""
    INSERT INTO span_calls BY NAME SELECT trace_id, span_id, started_at, call_id, 'trace' AS matched_by,
        started_at AS noted_at FROM calls WHERE {_BETWEEN} AND hash(call_id) % 30 = 3""",
    f"""
    INSERT INTO gpu_charges BY NAME SELECT started_at AS window_start, call_id, 1 AS attempt, upstream,
        'gpu' AS replica, CAST(0.001 AS DECIMAL(18,12)) AS busy_usd, CAST(0 AS DECIMAL(18,12))
            AS idle_share_usd, 10.0 AS gpu_ms, 1.0 AS energy_j, 'measured' AS method, 0.0 AS residual
    FROM calls WHERE {_BETWEEN} AND hash(call_id) % 10 = 4""",
    """
    INSERT INTO anomalies BY NAME SELECT make_timestamp($1 + n * ($2 - $1) // 120) AS detected_at,
        make_timestamp($1) AS since_at, 'spend' AS detector, 'cost' AS signal,
        MAP {'agent': 'agent1'} AS scope, 5.0 AS score, 2.0 AS observed, 1.0 AS expected,
        ['open', 'ended', 'seen'][n % 3 + 1] AS state,
        '{}' AS detail, printf('%d-%d', $1, n // 3) AS anomaly_id, printf('%d-%d', $1, n) AS event_id,
        'SpendAnomaly' AS alertname, 'warn' AS severity, 3 AS usd_per_hour
    FROM range(120) AS numbers(n)""",
    """
    INSERT INTO gpu_windows BY NAME SELECT make_timestamp($1 + n * 10000000) AS window_start,
        make_timestamp($1 + n * 10000000 + 10000000) AS window_end, 'local' AS upstream, replica,
        'model-1' AS model, 'window' AS kind, CAST(0.007 AS DECIMAL(18,12)) AS meter_usd,
        CAST(0.004 AS DECIMAL(18,12)) AS charged_usd, CAST(0.003 AS DECIMAL(18,12)) AS idle_usd,
        CAST(0 AS DECIMAL(18,12)) AS unobserved_usd, 10000.0 AS gpu_ms, 6000.0 AS charged_gpu_ms,
        4000.0 AS idle_gpu_ms, 3000.0 AS energy_j, 2000.0 AS charged_energy_j, 1000.0 AS idle_energy_j,
        6000.0 AS busy_ms, 5000 AS prompt_tokens, 1000 AS cached_tokens, 800 AS output_tokens,
        'openai/gpt-5-mini' AS alternative, 'listed' AS alternative_grade,
        CAST(0.01 AS DECIMAL(18,12)) AS alternative_usd, 'work' AS method, 0.01 AS residual
    FROM range(($2 - $1) // 10000000) AS numbers(n), (VALUES ('gpu1:8000'), ('gpu2:8000')) AS two(replica)""",
)
_SAMPLES = (
    """
    INSERT INTO gpu_samples BY NAME SELECT make_timestamp($1 + n * 1000000) AS sampled_at, 'host' AS host,
        'GPU-' || g AS gpu, 'H200' AS name, 0.5 AS utilisation_ratio, 70000000000 AS memory_used_bytes,
        150000000000 AS memory_total_bytes, 400.0 AS power_watts, 0.0 AS energy_joules,
        60.0 AS temperature_celsius, 1900000000 AS sm_clock_hz, 2600000000 AS memory_clock_hz,
        ['gpu_idle'] AS throttle_reasons, '{"state":"ok"}' AS attributes
    FROM range(($2 - $1) // 1000000) AS numbers(n), range(4) AS gpus(g)""",
    """
    INSERT INTO engine_samples BY NAME SELECT make_timestamp($1 + n * 1000000) AS sampled_at,
        'local' AS upstream, replica, 'model-1' AS model, 'ok' AS state, false AS restarted,
        1000.0 AS interval_ms, 8 AS running, 0 AS waiting, 0.4 AS kv_cache_usage_ratio,
        500 AS computed_prompt_tokens, 100 AS cached_prompt_tokens, 80 AS generation_tokens, 50 AS steps,
        0 AS preemptions, '{}' AS attributes
    FROM range(($2 - $1) // 1000000) AS numbers(n), (VALUES ('gpu1:8000'), ('gpu2:8000')) AS two(replica)""",
)
_SAMPLED_DAYS = 9
_LARGEST_LOG = 32 << 20


def generate_findings(database: Database, days: int, until_s: int) -> None:
    """Fill the tables beside ``calls`` from the calls that are there, and the sums of machines with them."""
    end = (until_s * 10**6 // DAY_US + 1) * DAY_US
    for start in range(end - (days + 2) * DAY_US, end, DAY_US):
        period = [start, start + DAY_US]
        statements = (*_FINDINGS, *(_SAMPLES if start >= end - _SAMPLED_DAYS * DAY_US else ()))
        for statement in statements:
            database.connection.execute(statement, period)
        database.checkpoint()
    while machine_sums.advance(database.connection, until_s * 10**6):
        if database.wal_bytes > _LARGEST_LOG:
            database.checkpoint()
    database.checkpoint()
