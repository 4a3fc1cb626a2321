UPDATE executions SET exchange = stated_exchange, symbol = coalesce(stated_symbol, symbol);
ALTER TABLE executions DROP COLUMN fee_currency, DROP COLUMN stated_exchange, DROP COLUMN stated_symbol;
UPDATE orders SET exchange = stated_exchange, symbol = coalesce(stated_symbol, symbol) WHERE submitted_at IS NOT NULL;
UPDATE orders SET status = CASE WHEN filled_quantity > 0 THEN 'PARTIALLY_FILLED' ELSE 'PENDING' END
WHERE status IN ('REJECTED', 'CANCELLED', 'EXPIRED');
ALTER TABLE orders DROP CONSTRAINT orders_status_check;
ALTER TABLE orders ADD CONSTRAINT orders_status_check CHECK (status IN ('PENDING', 'PARTIALLY_FILLED', 'FILLED'));
ALTER TABLE orders DROP COLUMN ended_at, DROP COLUMN error_message, DROP COLUMN stated_exchange,
    DROP COLUMN stated_symbol;
DROP TABLE balance_snapshots;
DROP TABLE order_endings;
DROP FUNCTION ingestd_stored_symbol(text, text);
