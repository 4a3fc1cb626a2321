SELECT create_hypertable('mark_prices', by_range('time', INTERVAL '1 day'), create_default_indexes => false);
ALTER TABLE mark_prices SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'exchange, symbol',
                             timescaledb.orderby = 'time DESC');
