-- The Apache edition has no columnstore.
SELECT create_hypertable('mark_prices', by_range('time', INTERVAL '1 day'), create_default_indexes => false);
