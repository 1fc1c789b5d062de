-- What a call did, as digests: the tools it was offered and asked for, what it was told last.

ALTER TABLE calls ADD COLUMN tool_call_hashes BIGINT[];
ALTER TABLE calls ADD COLUMN input_role VARCHAR;
ALTER TABLE calls ADD COLUMN input_hash BIGINT;
ALTER TABLE calls ADD COLUMN tool_errors BIGINT;
ALTER TABLE calls ADD COLUMN tools_hash BIGINT;
ALTER TABLE calls ADD COLUMN system_hash BIGINT;
