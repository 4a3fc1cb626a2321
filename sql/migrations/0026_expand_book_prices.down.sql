DROP TABLE ingestd_backfills;
ALTER TABLE ingest_positions DROP COLUMN schema_version, DROP COLUMN schema_position;
DROP TRIGGER ingestd_book_prices ON order_book;
DROP FUNCTION ingestd_fill_book_prices();
DROP FUNCTION ingestd_best_price(jsonb);
ALTER TABLE order_book DROP COLUMN bid_price;
ALTER TABLE order_book DROP COLUMN ask_price;
