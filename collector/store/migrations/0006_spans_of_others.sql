-- What a received span says, in one vocabulary (collector/ingest/otlp/vocabulary.py).
ALTER TABLE spans_received ADD COLUMN producer VARCHAR;
ALTER TABLE spans_received ADD COLUMN role VARCHAR;
ALTER TABLE spans_received ADD COLUMN operation VARCHAR;
ALTER TABLE spans_received ADD COLUMN provider_name VARCHAR;
ALTER TABLE spans_received ADD COLUMN request_model VARCHAR;
ALTER TABLE spans_received ADD COLUMN response_model VARCHAR;
ALTER TABLE spans_received ADD COLUMN response_id VARCHAR;
ALTER TABLE spans_received ADD COLUMN input_tokens BIGINT;
ALTER TABLE spans_received ADD COLUMN output_tokens BIGINT;
ALTER TABLE spans_received ADD COLUMN cache_read_input_tokens BIGINT;
ALTER TABLE spans_received ADD COLUMN cache_write_input_tokens BIGINT;
ALTER TABLE spans_received ADD COLUMN reasoning_output_tokens BIGINT;
ALTER TABLE spans_received ADD COLUMN conversation_id VARCHAR;
ALTER TABLE spans_received ADD COLUMN user_id VARCHAR;
ALTER TABLE spans_received ADD COLUMN agent VARCHAR;
ALTER TABLE spans_received ADD COLUMN tool VARCHAR;
ALTER TABLE spans_received ADD COLUMN task VARCHAR;
ALTER TABLE spans_received ADD COLUMN step VARCHAR;
ALTER TABLE spans_received ADD COLUMN stream BOOLEAN;
ALTER TABLE spans_received ADD COLUMN finish_reasons VARCHAR[];
ALTER TABLE spans_received ADD COLUMN time_to_first_chunk_ms DOUBLE;
ALTER TABLE spans_received ADD COLUMN queue_ms DOUBLE;
ALTER TABLE spans_received ADD COLUMN foreign_cost_usd DOUBLE;

-- Model calls that spans of others tell of, and which call of ours each of them is;
-- call_id is empty for one that never passed the sidecar.
CREATE TABLE span_calls (
    trace_id VARCHAR,
    span_id VARCHAR,
    started_at TIMESTAMP,
    call_id VARCHAR,
    matched_by VARCHAR,
    noted_at TIMESTAMP
);

-- What the spans around a call say of it: the nearest agent, tool, task and step.
CREATE TABLE call_contexts (
    call_id VARCHAR,
    started_at TIMESTAMP,
    trace_id VARCHAR,
    agent VARCHAR,
    tool VARCHAR,
    task VARCHAR,
    step VARCHAR,
    conversation_id VARCHAR,
    user_id VARCHAR
);

-- Model calls that bypassed the sidecar: seen in spans, and in no record of ours.
CREATE VIEW bypass_calls AS
SELECT s.* FROM spans_received s JOIN span_calls m
    ON s.trace_id = m.trace_id AND s.span_id = m.span_id AND s.started_at = m.started_at
WHERE m.call_id = '';

-- What was read out of a received span's attributes stands in columns; here it has its name again.
CREATE OR REPLACE VIEW spans AS
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
    status, error_type,
    json_merge_patch(
        '{}',
        json_object(
            'gen_ai.operation.name', nullif(operation, ''),
            'gen_ai.provider.name', nullif(provider_name, ''),
            'gen_ai.request.model', nullif(request_model, ''),
            'gen_ai.response.model', nullif(response_model, ''),
            'gen_ai.response.id', nullif(response_id, ''),
            'gen_ai.response.finish_reasons', finish_reasons,
            'gen_ai.usage.input_tokens', input_tokens,
            'gen_ai.usage.output_tokens', output_tokens,
            'gen_ai.usage.cache_read.input_tokens', cache_read_input_tokens,
            'gen_ai.usage.cache_write.input_tokens', cache_write_input_tokens,
            'gen_ai.conversation.id', nullif(conversation_id, ''),
            'gen_ai.agent.name', nullif(agent, ''),
            'gen_ai.tool.name', nullif(tool, ''),
            'user.id', nullif(user_id, '')
        ),
        coalesce(attributes, '{}')
    )
FROM spans_received;
