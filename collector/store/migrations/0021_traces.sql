-- Ids of traces, by the number that their first digits are: a few digits of one say where to look as all of them do.
-- It begins empty and is filled from the calls, a step at a time; until then the calls themselves are looked at.
-- Those of providers' answers stay where they are (`collector/store/noted.py`).

CREATE TABLE traces_by_hour (bucket TIMESTAMP, begun UINTEGER);
