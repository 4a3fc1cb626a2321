-- The market tables of the trading platform under their names.
CREATE SCHEMA platform;
SET LOCAL search_path = platform, public;

\ir ../read_only.sql

-- `ingestd migrate` replaces it by one that returns the configured interval.
CREATE FUNCTION platform.option_interval() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '1m'::text;

-- Candles of one interval, from trades. The condition is outside of the union: only branches without one of their own
-- are planned as the tables themselves. Of them the one stays whose interval it is.
CREATE VIEW platform.market_data AS
SELECT bucket_start AS time, symbol, exchange, open, high, low, close, volume, trades_count AS trades
FROM (
    SELECT '1m'::text AS timeframe, bucket_start, symbol, exchange, open, high, low, close, volume, trades_count
    FROM public.candles_1m
    UNION ALL
    SELECT '5m'::text, bucket_start, symbol, exchange, open, high, low, close, volume, trades_count
    FROM public.candles_5m
    UNION ALL
    SELECT '15m'::text, bucket_start, symbol, exchange, open, high, low, close, volume, trades_count
    FROM public.candles_15m
    UNION ALL
    SELECT '30m'::text, bucket_start, symbol, exchange, open, high, low, close, volume, trades_count
    FROM public.candles_30m
    UNION ALL
    SELECT '1h'::text, bucket_start, symbol, exchange, open, high, low, close, volume, trades_count
    FROM public.candles_1h
    UNION ALL
    SELECT '4h'::text, bucket_start, symbol, exchange, open, high, low, close, volume, trades_count
    FROM public.candles_4h
    UNION ALL
    SELECT '1d'::text, bucket_start, symbol, exchange, open, high, low, close, volume, trades_count
    FROM public.candles_1d
    UNION ALL
    SELECT '1w'::text, bucket_start, symbol, exchange, open, high, low, close, volume, trades_count
    FROM public.candles_1w
    UNION ALL
    SELECT '1M'::text, bucket_start, symbol, exchange, open, high, low, close, volume, trades_count
    FROM public."candles_1M"
) AS candles
WHERE timeframe = platform.option_interval();

-- Books that are known to be wrong are left out, since the document has no column that could say so.
CREATE VIEW platform.order_book AS
SELECT time, symbol, exchange, bids, asks
FROM public.order_book
WHERE valid;

CREATE VIEW platform.trades AS
SELECT time, symbol, exchange, trade_id, side, price, quantity
FROM public.trades;

-- With the name of a market that the other tables hold.
CREATE VIEW platform.symbols AS
SELECT CASE (SELECT value FROM public.ingestd_settings WHERE name = 'symbol_style')
            WHEN 'compact' THEN compact WHEN 'dash' THEN dash WHEN 'venue' THEN venue_name ELSE symbol END AS symbol,
       exchange, base_currency, quote_currency, status, min_order_size, max_order_size, price_precision,
       quantity_precision
FROM public.symbols;

CREATE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON platform.market_data
    FOR EACH ROW EXECUTE FUNCTION platform.read_only();
CREATE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON platform.order_book
    FOR EACH ROW EXECUTE FUNCTION platform.read_only();
CREATE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON platform.trades
    FOR EACH ROW EXECUTE FUNCTION platform.read_only();
CREATE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON platform.symbols
    FOR EACH ROW EXECUTE FUNCTION platform.read_only();
