SELECT create_hypertable('indicators_cache', by_range('time', INTERVAL '7 days'), create_default_indexes => false);
ALTER TABLE indicators_cache SET (timescaledb.enable_columnstore,
                                  timescaledb.segmentby = 'exchange, symbol, indicator_name',
                                  timescaledb.orderby = 'time DESC');
