-- The market tables of kairos under their names: ticks, and their candles by the hour.
CREATE SCHEMA kairos;
SET LOCAL search_path = kairos, public;

\ir ../read_only.sql

-- Ticks have no number of their own. One counted while reading would read the whole table, so `id` is NULL.
CREATE VIEW kairos.market_ticks AS
SELECT NULL::bigint AS id, symbol, exchange, bid_price, ask_price, bid_volume, ask_volume, time AS "timestamp"
FROM public.market_ticks;

CREATE VIEW kairos.ohlcv_1h AS
SELECT symbol, exchange, bucket_start AS "timestamp", open, high, low, close, volume
FROM public.ohlcv_1h;

CREATE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON kairos.market_ticks
    FOR EACH ROW EXECUTE FUNCTION kairos.read_only();
CREATE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON kairos.ohlcv_1h
    FOR EACH ROW EXECUTE FUNCTION kairos.read_only();
