-- Minutes from trades, and those that were stored as they were reported. The last parameter says which counts where both
-- are. The other table is read only if the preferred one lacks a minute of the range.
WITH preferred AS MATERIALIZED (
    SELECT bucket_start, open, high, low, close, volume, quote_volume, trades_count, taker_buy_base_volume,
           taker_buy_quote_volume, 'trades' AS source, bucket_start + INTERVAL '1 minute' AS created_at
    FROM public.candles_1m
    WHERE $5::text = 'trades' AND exchange = $1::text AND symbol = $2::text
      AND bucket_start >= $3::timestamptz AND bucket_start <= $4::timestamptz
    UNION ALL
    SELECT time, open, high, low, close, volume, quote_volume, trades_count, taker_buy_base_volume,
           taker_buy_quote_volume, 'reported', created_at
    FROM public.ohlcv_data
    WHERE $5::text = 'reported' AND exchange = $1::text AND symbol = $2::text AND timeframe = '1m'
      AND time >= $3::timestamptz AND time <= $4::timestamptz
), known AS (
    SELECT count(*) < floor(extract(epoch FROM $4::timestamptz) / 60) - ceil(extract(epoch FROM $3::timestamptz) / 60) + 1
           AS lacks_minutes
    FROM preferred
)
SELECT *
FROM preferred
UNION ALL
SELECT *
FROM (
    SELECT time AS bucket_start, open, high, low, close, volume, quote_volume, trades_count, taker_buy_base_volume,
           taker_buy_quote_volume, 'reported', created_at
    FROM public.ohlcv_data
    WHERE $5::text = 'trades' AND (SELECT lacks_minutes FROM known)
      AND exchange = $1::text AND symbol = $2::text AND timeframe = '1m'
      AND time >= $3::timestamptz AND time <= $4::timestamptz
    UNION ALL
    SELECT bucket_start, open, high, low, close, volume, quote_volume, trades_count, taker_buy_base_volume,
           taker_buy_quote_volume, 'trades', bucket_start + INTERVAL '1 minute'
    FROM public.candles_1m
    WHERE $5::text = 'reported' AND (SELECT lacks_minutes FROM known)
      AND exchange = $1::text AND symbol = $2::text
      AND bucket_start >= $3::timestamptz AND bucket_start <= $4::timestamptz
) AS other
WHERE NOT EXISTS (SELECT FROM preferred WHERE preferred.bucket_start = other.bucket_start)
ORDER BY bucket_start
