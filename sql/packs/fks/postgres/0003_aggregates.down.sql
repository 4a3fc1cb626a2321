DROP VIEW fks.hourly_exchange_ohlcv;
DROP VIEW fks.daily_account_performance;
