-- The views of 0001.
DROP FUNCTION platform.options_changed();
CREATE OR REPLACE VIEW platform.market_data AS
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

CREATE OR REPLACE VIEW platform.symbols AS
SELECT CASE (SELECT value FROM public.ingestd_settings WHERE name = 'symbol_style')
            WHEN 'compact' THEN compact WHEN 'dash' THEN dash WHEN 'venue' THEN venue_name ELSE symbol END AS symbol,
       exchange, base_currency, quote_currency, status, min_order_size, max_order_size, price_precision,
       quantity_precision
FROM public.symbols;
