-- What stands beside the calls: budgets, GPUs, spans of others, outcomes, anomalies, prices.

CREATE TABLE budget_events (
    happened_at TIMESTAMP,
    budget VARCHAR,
    counter VARCHAR,
    action VARCHAR,
    call_id VARCHAR,
    limit_usd DECIMAL(18,12),
    spent_usd DECIMAL(18,12),
    held_usd DECIMAL(18,12),
    detail VARCHAR
);

CREATE TABLE gpu_samples (
    sampled_at TIMESTAMP,
    host VARCHAR,
    gpu VARCHAR,
    name VARCHAR,
    utilisation_ratio DOUBLE,
    memory_used_bytes BIGINT,
    memory_total_bytes BIGINT,
    power_watts DOUBLE,
    energy_joules DOUBLE,
    temperature_celsius DOUBLE,
    sm_clock_hz BIGINT,
    memory_clock_hz BIGINT,
    throttle_reasons VARCHAR[],
    attributes JSON
);

CREATE TABLE outcomes (
    reported_at TIMESTAMP,
    tenant VARCHAR,
    task_id VARCHAR,
    conversation_id VARCHAR,
    trace_id VARCHAR,
    success BOOLEAN,
    score DOUBLE,
    value_usd DECIMAL(18,12),
    note VARCHAR
);

CREATE TABLE anomalies (
    detected_at TIMESTAMP,
    since_at TIMESTAMP,
    until_at TIMESTAMP,
    detector VARCHAR,
    signal VARCHAR,
    scope MAP(VARCHAR, VARCHAR),
    score DOUBLE,
    observed DOUBLE,
    expected DOUBLE,
    state VARCHAR,
    detail JSON
);

-- The price book, as its versions were: USD per token, or per request.
CREATE TABLE prices (
    price_version VARCHAR,
    provider_name VARCHAR,
    model VARCHAR,
    effective_from VARCHAR,
    price_grade VARCHAR,
    source VARCHAR,
    input_usd DECIMAL(18,12),
    output_usd DECIMAL(18,12),
    cache_read_usd DECIMAL(18,12),
    cache_write_usd DECIMAL(18,12),
    cache_write_1h_usd DECIMAL(18,12),
    reasoning_usd DECIMAL(18,12),
    per_request_usd DECIMAL(18,12),
    terms JSON,
    first_seen_at TIMESTAMP
);

CREATE TABLE spans_received (
    received_at TIMESTAMP,
    trace_id VARCHAR,
    span_id VARCHAR,
    parent_span_id VARCHAR,
    name VARCHAR,
    kind VARCHAR,
    service VARCHAR,
    started_at TIMESTAMP,
    duration_ms DOUBLE,
    status VARCHAR,
    error_type VARCHAR,
    attributes JSON
);

-- Every GenAI span that we know: our own, made from calls, and those taken in by OTLP.
CREATE VIEW spans AS
SELECT
    'bursar' AS origin, trace_id, gen_ai_span_id AS span_id, span_id AS parent_span_id,
    CASE api
        WHEN 'openai.embeddings' THEN 'embeddings'
        WHEN 'openai.completions' THEN 'text_completion'
        ELSE 'chat'
    END || ' ' || request_model AS name,
    'CLIENT' AS kind, 'bursar' AS service, started_at, duration_ms,
    CASE WHEN error_type = '' THEN 'UNSET' ELSE 'ERROR' END AS status, error_type,
    json_object(
        'gen_ai.provider.name', provider_name,
        'gen_ai.request.model', request_model,
        'gen_ai.response.model', response_model,
        'gen_ai.response.id', response_id,
        'gen_ai.response.finish_reasons', finish_reasons,
        'gen_ai.usage.input_tokens', input_tokens,
        'gen_ai.usage.output_tokens', output_tokens,
        'gen_ai.usage.cache_read.input_tokens', cache_read_input_tokens,
        'gen_ai.usage.cache_write.input_tokens', cache_write_input_tokens,
        'bursar.call_id', call_id
    ) AS attributes
FROM calls
WHERE gen_ai_span_id <> ''
UNION ALL
SELECT
    'otlp', trace_id, span_id, parent_span_id, name, kind, service, started_at, duration_ms,
    status, error_type, attributes
FROM spans_received;
