DROP INDEX ohlcv_data_time;
DROP INDEX funding_time;
DROP INDEX oi_snapshots_time;
DROP INDEX order_book_time;
DROP INDEX trades_time;
DROP INDEX market_ticks_time;
