-- What prompt tokens that an engine's cache supplied would have cost to compute, at the price of its window.

ALTER TABLE gpu_windows ADD COLUMN cache_saved_usd DECIMAL(18,12);
