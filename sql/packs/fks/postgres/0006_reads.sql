-- The view of 0001, sorted by time first: for one symbol and timeframe that is the order of the tables' keys read backwards,
-- for more it compares numbers before texts. `place` 0 is the preferred candle of each pair. Only branches without a
-- condition of their own are planned as the tables themselves.
CREATE VIEW fks.ohlcv_of_both AS
SELECT DISTINCT ON (symbol, timeframe, time)
       time, symbol, timeframe, open, high, low, close, volume, quote_volume, trades_count, taker_buy_base_volume,
       taker_buy_quote_volume, created_at
FROM (
    SELECT time, exchange, symbol, timeframe, open, high, low, close, volume, quote_volume,
           trades_count::bigint AS trades_count, taker_buy_base_volume, taker_buy_quote_volume, created_at,
           CASE fks.option_prefer() WHEN 'exchange' THEN 0 ELSE 1 END AS place
    FROM public.ohlcv_data
    UNION ALL
    SELECT bucket_start, exchange, symbol, '1m'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '1 minute',
           CASE fks.option_prefer() WHEN 'exchange' THEN 1 ELSE 0 END
    FROM public.candles_1m
    UNION ALL
    SELECT bucket_start, exchange, symbol, '5m'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '5 minutes',
           CASE fks.option_prefer() WHEN 'exchange' THEN 1 ELSE 0 END
    FROM public.candles_5m
    UNION ALL
    SELECT bucket_start, exchange, symbol, '15m'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '15 minutes',
           CASE fks.option_prefer() WHEN 'exchange' THEN 1 ELSE 0 END
    FROM public.candles_15m
    UNION ALL
    SELECT bucket_start, exchange, symbol, '30m'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '30 minutes',
           CASE fks.option_prefer() WHEN 'exchange' THEN 1 ELSE 0 END
    FROM public.candles_30m
    UNION ALL
    SELECT bucket_start, exchange, symbol, '1h'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '1 hour',
           CASE fks.option_prefer() WHEN 'exchange' THEN 1 ELSE 0 END
    FROM public.candles_1h
    UNION ALL
    SELECT bucket_start, exchange, symbol, '4h'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '4 hours',
           CASE fks.option_prefer() WHEN 'exchange' THEN 1 ELSE 0 END
    FROM public.candles_4h
    UNION ALL
    SELECT bucket_start, exchange, symbol, '1d'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '24 hours',
           CASE fks.option_prefer() WHEN 'exchange' THEN 1 ELSE 0 END
    FROM public.candles_1d
    UNION ALL
    SELECT bucket_start, exchange, symbol, '1w'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, bucket_start + INTERVAL '168 hours',
           CASE fks.option_prefer() WHEN 'exchange' THEN 1 ELSE 0 END
    FROM public.candles_1w
    UNION ALL
    SELECT bucket_start, exchange, symbol, '1M'::text COLLATE "C", open, high, low, close, volume, quote_volume,
           trades_count, taker_buy_base_volume, taker_buy_quote_volume, (bucket_start AT TIME ZONE 'UTC' + INTERVAL '1 month') AT TIME ZONE 'UTC',
           CASE fks.option_prefer() WHEN 'exchange' THEN 1 ELSE 0 END
    FROM public."candles_1M"
) AS candles
WHERE exchange = fks.option_exchange()
ORDER BY time DESC, symbol, timeframe, place;

CREATE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON fks.ohlcv_of_both
    FOR EACH ROW EXECUTE FUNCTION fks.read_only();

SELECT fks.options_changed();
