-- What each conversation cost on a day, by a number that stands for it: the dearest of a million are found by
-- numbers, of which names are then looked up. It begins empty and is filled from the sums by hour, a step at a
-- time; until then those answer (`collector/store/talk_sums.py`).

CREATE TABLE talk_sums_by_day (
    bucket TIMESTAMP,
    number UBIGINT,
    conversation_id VARCHAR,
    calls BIGINT,
    effective_cost_usd DECIMAL(38,12)
);
