-- Which columns make a compressed batch. When chunks are compressed comes from the configuration.
-- Segments are what queries select by; the trade id is part of the order so that the check for a duplicate can skip
-- batches. Candles are segmented by timeframe too: retention deletes one timeframe, which then is whole batches.

ALTER TABLE market_ticks SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'exchange, symbol',
                              timescaledb.orderby = 'time DESC');
ALTER TABLE trades       SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'exchange, symbol',
                              timescaledb.orderby = 'time DESC, seq DESC, trade_id DESC');
ALTER TABLE order_book   SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'exchange, symbol',
                              timescaledb.orderby = 'time DESC');
ALTER TABLE oi_snapshots SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'exchange, symbol',
                              timescaledb.orderby = 'time DESC');
ALTER TABLE funding      SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'exchange, symbol',
                              timescaledb.orderby = 'time DESC');
ALTER TABLE ohlcv_data   SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'exchange, symbol, timeframe',
                              timescaledb.orderby = 'time DESC');
