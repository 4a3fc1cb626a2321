-- Hypertables. The intervals here are the defaults; `ingestd migrate` converges them to the configuration.
-- No index on time alone: chunks already exclude by time, and every index costs each insert.

SELECT create_hypertable('market_ticks', by_range('time', INTERVAL '1 day'),  create_default_indexes => false);
SELECT create_hypertable('trades',       by_range('time', INTERVAL '1 day'),  create_default_indexes => false);
SELECT create_hypertable('order_book',   by_range('time', INTERVAL '1 day'),  create_default_indexes => false);
SELECT create_hypertable('oi_snapshots', by_range('time', INTERVAL '7 days'), create_default_indexes => false);
SELECT create_hypertable('funding',      by_range('time', INTERVAL '30 days'), create_default_indexes => false);
SELECT create_hypertable('ohlcv_data',   by_range('time', INTERVAL '7 days'), create_default_indexes => false);
