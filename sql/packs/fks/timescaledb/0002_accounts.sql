-- Chunks as the document has them. Its retention (7 years of trades, 5 of balances) is for the operator to add: nothing
-- here is deleted by itself.
SELECT create_hypertable('fks.trades', by_range('time', INTERVAL '7 days'), create_default_indexes => false);
SELECT create_hypertable('fks.balance_history', by_range('time', INTERVAL '30 days'), create_default_indexes => false);
