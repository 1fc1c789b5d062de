-- Kept answers to similar questions that were compared with what the model said.
CREATE TABLE similar_checks (
    happened_at TIMESTAMP,
    tenant VARCHAR,
    call_id VARCHAR,
    request_model VARCHAR,
    likeness VARCHAR,
    distance DOUBLE,
    serving BOOLEAN,
    is_right BOOLEAN,
    event_id VARCHAR
);
