-- Sums by conversation and task. They begin empty and are filled from the calls, a step at a time, as every
-- level is; until a step is done the calls themselves answer. What only noted conversations is in them too.

CREATE TABLE calls_by_talk_hour (
    bucket TIMESTAMP,
    tenant VARCHAR,
    team VARCHAR,
    agent VARCHAR,
    request_model VARCHAR,
    response_model VARCHAR,
    upstream VARCHAR,
    provider_name VARCHAR,
    api VARCHAR,
    outcome VARCHAR,
    cache VARCHAR,
    key_id VARCHAR,
    usage_grade VARCHAR,
    price_grade VARCHAR,
    conversation_id VARCHAR,
    task_id VARCHAR,
    calls BIGINT,
    attempts BIGINT,
    input_tokens BIGINT,
    output_tokens BIGINT,
    cache_read_input_tokens BIGINT,
    cache_write_input_tokens BIGINT,
    cache_write_1h_input_tokens BIGINT,
    reasoning_output_tokens BIGINT,
    list_cost_usd DECIMAL(38,12),
    effective_cost_usd DECIMAL(38,12),
    avoided_cost_usd DECIMAL(38,12),
    first_at TIMESTAMP,
    last_at TIMESTAMP,
    latency_buckets TINYINT[]
);

DROP TABLE conversations_by_hour;
