-- The view of 0001.
CREATE OR REPLACE VIEW fks.ohlcv_data AS
SELECT DISTINCT ON (symbol, timeframe, time)
       time, symbol, timeframe, open, high, low, close, volume, quote_volume, trades_count, taker_buy_base_volume,
       taker_buy_quote_volume, created_at
FROM (
    SELECT time, exchange, symbol, timeframe, open, high, low, close, volume, quote_volume,
           trades_count::bigint AS trades_count, taker_buy_base_volume, taker_buy_quote_volume, created_at, 0 AS source
    FROM public.ohlcv_data
    UNION ALL
    SELECT bucket_start, exchange, symbol, '1m'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '1 minute', 1
    FROM public.candles_1m
    UNION ALL
    SELECT bucket_start, exchange, symbol, '5m'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '5 minutes', 1
    FROM public.candles_5m
    UNION ALL
    SELECT bucket_start, exchange, symbol, '15m'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '15 minutes', 1
    FROM public.candles_15m
    UNION ALL
    SELECT bucket_start, exchange, symbol, '30m'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '30 minutes', 1
    FROM public.candles_30m
    UNION ALL
    SELECT bucket_start, exchange, symbol, '1h'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '1 hour', 1
    FROM public.candles_1h
    UNION ALL
    SELECT bucket_start, exchange, symbol, '4h'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '4 hours', 1
    FROM public.candles_4h
    UNION ALL
    SELECT bucket_start, exchange, symbol, '1d'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '24 hours', 1
    FROM public.candles_1d
    UNION ALL
    SELECT bucket_start, exchange, symbol, '1w'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '168 hours', 1
    FROM public.candles_1w
    UNION ALL
    SELECT bucket_start, exchange, symbol, '1M'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume,
           (bucket_start AT TIME ZONE 'UTC' + INTERVAL '1 month') AT TIME ZONE 'UTC', 1
    FROM public."candles_1M"
) AS candles
WHERE exchange = fks.option_exchange()
ORDER BY symbol, timeframe, time DESC,
         CASE fks.option_prefer() WHEN 'exchange' THEN source ELSE -source END;
DROP VIEW fks.ohlcv_of_both;
