DROP FUNCTION ingestd_balance_moves(text[]);
DROP FUNCTION ingestd_spot_pair(text, text);
DROP INDEX orders_submitted_at, executions_executed_at, order_endings_ended_at;
ALTER TABLE executions DROP COLUMN base_asset, DROP COLUMN quote_asset;
ALTER TABLE orders DROP COLUMN base_asset, DROP COLUMN quote_asset;
DROP TABLE balances;
DROP TABLE audit.system_events;
