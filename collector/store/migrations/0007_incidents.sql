-- What alerts found, a row each time it changed: one incident has one anomaly_id from its beginning to its end.

ALTER TABLE anomalies ADD COLUMN anomaly_id VARCHAR;
-- Of the sender; a row that is sent again has the same.
ALTER TABLE anomalies ADD COLUMN event_id VARCHAR;
ALTER TABLE anomalies ADD COLUMN alertname VARCHAR;
ALTER TABLE anomalies ADD COLUMN severity VARCHAR;
ALTER TABLE anomalies ADD COLUMN usd_per_hour DECIMAL(38,12);
