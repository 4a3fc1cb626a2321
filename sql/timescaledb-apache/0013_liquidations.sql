-- The Apache edition has no columnstore.
SELECT create_hypertable('liquidations', by_range('time', INTERVAL '1 day'), create_default_indexes => false);
