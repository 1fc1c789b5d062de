-- On which days each agent had calls of a conversation: one row a day, with the day before on which it had some.
-- Conversations of a period are then counted, not told apart. It begins empty and is filled from the sums by
-- hour, a step at a time; until then those answer. `talk` stands for tenant, agent and conversation
-- (`collector/store/talks.py`).

CREATE TABLE talks_by_day (
    bucket TIMESTAMP,
    tenant VARCHAR,
    agent VARCHAR,
    talk UBIGINT,
    before TIMESTAMP
);
