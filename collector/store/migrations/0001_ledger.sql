-- The ledger: one row a call, one row an attempt, and how far each journal has been read.
-- Instants are UTC. No primary key on ids: it makes an insert twenty times slower, and the
-- journal's (source, sequence) already gives each row once.

CREATE TABLE calls (
    call_id VARCHAR,
    started_at TIMESTAMP,
    duration_ms DOUBLE,
    time_to_first_chunk_ms DOUBLE,
    tenant VARCHAR,
    team VARCHAR,
    user_id VARCHAR,
    agent VARCHAR,
    conversation_id VARCHAR,
    conversation_source VARCHAR,
    task_id VARCHAR,
    tags MAP(VARCHAR, VARCHAR),
    key_id VARCHAR,
    trace_id VARCHAR,
    span_id VARCHAR,
    parent_span_id VARCHAR,
    gen_ai_span_id VARCHAR,
    api VARCHAR,
    stream BOOLEAN,
    request_model VARCHAR,
    response_model VARCHAR,
    provider_name VARCHAR,
    upstream VARCHAR,
    outcome VARCHAR,
    outcome_reason VARCHAR,
    http_status INTEGER,
    error_type VARCHAR,
    cache VARCHAR,
    downgraded_from VARCHAR,
    input_tokens BIGINT,
    output_tokens BIGINT,
    cache_read_input_tokens BIGINT,
    cache_write_input_tokens BIGINT,
    cache_write_1h_input_tokens BIGINT,
    reasoning_output_tokens BIGINT,
    audio_input_tokens BIGINT,
    audio_output_tokens BIGINT,
    usage_grade VARCHAR,
    price_grade VARCHAR,
    price_version VARCHAR,
    list_cost_usd DECIMAL(18,12),
    effective_cost_usd DECIMAL(18,12),
    avoided_cost_usd DECIMAL(18,12),
    provider_cost_usd DECIMAL(18,12),
    overhead_us BIGINT,
    response_id VARCHAR,
    finish_reasons VARCHAR[],
    tool_names VARCHAR[],
    request_bytes BIGINT,
    response_bytes BIGINT,
    chunks BIGINT,
    path VARCHAR,
    server_address VARCHAR,
    server_port INTEGER,
    client_address VARCHAR,
    user_agent VARCHAR,
    request_attributes JSON,
    response_attributes JSON,
    message_hashes BIGINT[],
    last_message_hash BIGINT,
    attempt_count BIGINT
);

CREATE TABLE attempts (
    call_id VARCHAR,
    attempt BIGINT,
    upstream VARCHAR,
    replica VARCHAR,
    provider_name VARCHAR,
    request_model VARCHAR,
    span_id VARCHAR,
    started_at TIMESTAMP,
    duration_ms DOUBLE,
    time_to_first_chunk_ms DOUBLE,
    http_status INTEGER,
    error_type VARCHAR,
    input_tokens BIGINT,
    output_tokens BIGINT,
    cache_read_input_tokens BIGINT,
    cache_write_input_tokens BIGINT,
    cache_write_1h_input_tokens BIGINT,
    reasoning_output_tokens BIGINT,
    usage_grade VARCHAR,
    price_grade VARCHAR,
    price_version VARCHAR,
    list_cost_usd DECIMAL(18,12),
    effective_cost_usd DECIMAL(18,12),
    gpu_ms DOUBLE,
    energy_j DOUBLE
);

-- Captured content, only where a key opted in; apart, so that it can be dropped alone.
CREATE TABLE contents (
    call_id VARCHAR,
    started_at TIMESTAMP,
    input VARCHAR,
    output VARCHAR
);

-- One row a journal source: everything up to `sequence` is in the tables.
CREATE TABLE sources (
    source VARCHAR NOT NULL,
    remote BOOLEAN NOT NULL,
    sequence BIGINT NOT NULL,
    segment BIGINT NOT NULL,
    position BIGINT NOT NULL,
    ended BOOLEAN NOT NULL,
    seen_at TIMESTAMP NOT NULL
);

-- Intents whose record has not come yet, as they stand in the journal.
CREATE TABLE pending (
    call_id VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL,
    intent BLOB NOT NULL
);

-- Calls booked from their intent alone. If their record comes after all, it takes their place.
CREATE TABLE presumed (
    call_id VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL
);

-- What could not be read or was set aside: gaps, torn and damaged segments, rebuilt databases.
CREATE TABLE quarantined (
    noted_at TIMESTAMP NOT NULL,
    source VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    detail VARCHAR NOT NULL,
    frames BIGINT NOT NULL
);
