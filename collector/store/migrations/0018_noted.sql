-- What stands in calls by the hour, without how often: a search asks where an id or a word can be at all before
-- it looks at calls. Both begin empty and are filled from the calls, a step at a time; until then the calls
-- themselves are looked at (`collector/store/noted.py`).

-- By what ids of others begin with: of traces, and of providers' answers.
CREATE TABLE foreign_ids_by_hour (bucket TIMESTAMP, begun UINTEGER);

CREATE TABLE reasons_by_hour (bucket TIMESTAMP, outcome_reason VARCHAR, error_type VARCHAR);
