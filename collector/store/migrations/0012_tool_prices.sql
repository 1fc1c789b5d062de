-- What one use of a tool costs, as the configuration says now.
CREATE TABLE tool_prices (
    tool VARCHAR,
    price_usd DECIMAL(18,12)
);
