-- What judging conversations found; what has no row here was useful, broke nothing, says nothing.

CREATE TABLE waste (
    started_at TIMESTAMP,
    call_id VARCHAR,
    tenant VARCHAR, team VARCHAR, user_id VARCHAR, agent VARCHAR, conversation_id VARCHAR, task_id VARCHAR,
    request_model VARCHAR, upstream VARCHAR, api VARCHAR, key_id VARCHAR, tags MAP(VARCHAR, VARCHAR),
    waste VARCHAR,
    effective_cost_usd DECIMAL(18,12),
    -- All of what the call cost, or a part of it.
    whole BOOLEAN,
    because VARCHAR[],
    detail VARCHAR
);

CREATE TABLE cache_breaks (
    started_at TIMESTAMP,
    call_id VARCHAR,
    tenant VARCHAR, team VARCHAR, user_id VARCHAR, agent VARCHAR, conversation_id VARCHAR, task_id VARCHAR,
    request_model VARCHAR, upstream VARCHAR, api VARCHAR, key_id VARCHAR, tags MAP(VARCHAR, VARCHAR),
    after_call_id VARCHAR,
    cause VARCHAR,
    block VARCHAR,
    lost_tokens BIGINT,
    effective_cost_usd DECIMAL(18,12)
);

-- Guesses, one row for each signal of a conversation; never mixed with what somebody reported.
CREATE TABLE inferred_outcomes (
    started_at TIMESTAMP,
    call_id VARCHAR,
    tenant VARCHAR, team VARCHAR, user_id VARCHAR, agent VARCHAR, conversation_id VARCHAR, task_id VARCHAR,
    request_model VARCHAR, upstream VARCHAR, api VARCHAR, key_id VARCHAR, tags MAP(VARCHAR, VARCHAR),
    signal VARCHAR
);

-- Conversations of more than a question and its answer, as they stood when they were judged last.
-- Who and what they are for is told by their last call.
CREATE TABLE runs (
    started_at TIMESTAMP,
    call_id VARCHAR,
    tenant VARCHAR, team VARCHAR, user_id VARCHAR, agent VARCHAR, conversation_id VARCHAR, task_id VARCHAR,
    request_model VARCHAR, upstream VARCHAR, api VARCHAR, key_id VARCHAR, tags MAP(VARCHAR, VARCHAR),
    trace_id VARCHAR,
    ended_at TIMESTAMP,
    steps BIGINT,
    turns BIGINT,
    retries BIGINT,
    looped BIGINT,
    tool_calls BIGINT,
    tool_errors BIGINT,
    input_tokens BIGINT,
    output_tokens BIGINT,
    cache_read_input_tokens BIGINT,
    effective_cost_usd DECIMAL(18,12),
    wasted_usd DECIMAL(18,12)
);

-- Tools that a conversation's model asked for; what asking for them cost, and what they cost themselves.
CREATE TABLE tool_uses (
    started_at TIMESTAMP,
    call_id VARCHAR,
    tenant VARCHAR, team VARCHAR, user_id VARCHAR, agent VARCHAR, conversation_id VARCHAR, task_id VARCHAR,
    request_model VARCHAR, upstream VARCHAR, api VARCHAR, key_id VARCHAR, tags MAP(VARCHAR, VARCHAR),
    tool VARCHAR,
    uses BIGINT,
    repeats BIGINT,
    errors BIGINT,
    effective_cost_usd DECIMAL(18,12),
    declared_cost_usd DECIMAL(18,12)
);

-- Who said how a task ended: 'reported', or the name of an evaluation.
ALTER TABLE outcomes ADD COLUMN source VARCHAR;
