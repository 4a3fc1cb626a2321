-- The views of before, in which no option chooses the candles.
CREATE OR REPLACE VIEW fks.hourly_ohlcv_agg AS
SELECT DISTINCT ON (symbol, hour) hour, symbol, timeframe, open, high, low, close, volume
FROM (
    SELECT hour, exchange, symbol, '1m'::text COLLATE "C" AS timeframe, open, high, low, close, volume, 0 AS source
    FROM fks.hourly_exchange_ohlcv
    UNION ALL
    SELECT bucket_start, exchange, symbol, '1m'::text COLLATE "C", open, high, low, close, volume, 1
    FROM public.candles_1h
) AS hours
WHERE exchange = fks.option_exchange()
ORDER BY symbol, hour DESC, CASE fks.option_prefer() WHEN 'exchange' THEN source ELSE -source END;
DROP FUNCTION fks.options_changed();
DROP FUNCTION fks.option_candles();
