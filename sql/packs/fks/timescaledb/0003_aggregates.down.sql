DROP MATERIALIZED VIEW fks.hourly_exchange_ohlcv;
DROP MATERIALIZED VIEW fks.daily_account_performance;
