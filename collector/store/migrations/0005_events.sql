-- What befell a budget, told once, by whom it befell; a budget may hold more than a call costs.

ALTER TABLE budget_events ALTER COLUMN limit_usd TYPE DECIMAL(38,12);
ALTER TABLE budget_events ALTER COLUMN spent_usd TYPE DECIMAL(38,12);
ALTER TABLE budget_events ALTER COLUMN held_usd TYPE DECIMAL(38,12);
ALTER TABLE budget_events ADD COLUMN tenant VARCHAR;
-- Of the sender, or source and sequence of the journal's frame.
ALTER TABLE budget_events ADD COLUMN event_id VARCHAR;
