-- All columns of the unique index are in the order, so that the check for a duplicate can skip compressed batches.
SELECT create_hypertable('liquidations', by_range('time', INTERVAL '1 day'), create_default_indexes => false);
ALTER TABLE liquidations SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'exchange, symbol',
                              timescaledb.orderby = 'time DESC, side, price, quantity');
