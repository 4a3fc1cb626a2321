-- The check goes with its column.
ALTER TABLE trades DROP COLUMN in_candles;
ALTER TABLE trades DROP COLUMN kind;
