DROP VIEW fks.hourly_ohlcv_agg;
