-- The Apache edition has no columnstore.
SELECT create_hypertable('indicators_cache', by_range('time', INTERVAL '7 days'), create_default_indexes => false);
