-- What a call was charged apart from tokens of text, and where it was processed. Empty, or nothing said, in
-- rows that are older than this.

ALTER TABLE calls ADD COLUMN image_input_tokens BIGINT;
ALTER TABLE calls ADD COLUMN image_output_tokens BIGINT;
ALTER TABLE calls ADD COLUMN region VARCHAR;
-- By part of the bill: [quantity, pico-USD at list price, pico-USD owed].
ALTER TABLE calls ADD COLUMN charges JSON;
ALTER TABLE attempts ADD COLUMN region VARCHAR;
ALTER TABLE attempts ADD COLUMN charges JSON;
