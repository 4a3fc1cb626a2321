-- Minutes from trades, and those that were stored as they were reported. The last parameter says which counts where both are.
SELECT DISTINCT ON (bucket_start)
       bucket_start, open, high, low, close, volume, quote_volume, trades_count, taker_buy_base_volume,
       taker_buy_quote_volume, source, created_at
FROM (
    SELECT bucket_start, open, high, low, close, volume, quote_volume, trades_count, taker_buy_base_volume,
           taker_buy_quote_volume, 'trades' AS source, bucket_start + INTERVAL '1 minute' AS created_at
    FROM public.candles_1m
    WHERE exchange = $1::text AND symbol = $2::text
      AND bucket_start >= $3::timestamptz AND bucket_start <= $4::timestamptz
    UNION ALL
    SELECT time, open, high, low, close, volume, quote_volume, trades_count, taker_buy_base_volume,
           taker_buy_quote_volume, 'reported', created_at
    FROM public.ohlcv_data
    WHERE exchange = $1::text AND symbol = $2::text AND timeframe = '1m'
      AND time >= $3::timestamptz AND time <= $4::timestamptz
) AS candle
ORDER BY bucket_start, source = $5::text DESC
