-- In the order of the table's key, as the daemon writes, so that two writers cannot deadlock. Of several candles with
-- one key the last one counts.
WITH given AS (
    SELECT DISTINCT ON (exchange, symbol, time) *
    FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::numeric[], $5::numeric[], $6::numeric[], $7::numeric[],
                $8::numeric[], $9::numeric[], $10::integer[], $11::numeric[], $12::numeric[])
        WITH ORDINALITY AS candle (exchange, symbol, time, open, high, low, close, volume, quote_volume, trades_count,
                                   taker_buy_base_volume, taker_buy_quote_volume, place)
    ORDER BY exchange, symbol, time, place DESC
), stored AS (
    INSERT INTO public.ohlcv_data AS known (exchange, symbol, timeframe, time, open, high, low, close, volume,
                                            quote_volume, trades_count, taker_buy_base_volume, taker_buy_quote_volume)
    SELECT exchange, symbol, '1m', time, open, high, low, close, volume, quote_volume, trades_count,
           taker_buy_base_volume, taker_buy_quote_volume
    FROM given
    ORDER BY exchange COLLATE "C", symbol COLLATE "C", time
    ON CONFLICT (exchange, symbol, timeframe, time) DO UPDATE
    SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        volume = excluded.volume, quote_volume = excluded.quote_volume, trades_count = excluded.trades_count,
        taker_buy_base_volume = excluded.taker_buy_base_volume,
        taker_buy_quote_volume = excluded.taker_buy_quote_volume
    WHERE (known.open, known.high, known.low, known.close, known.volume, known.quote_volume, known.trades_count,
           known.taker_buy_base_volume, known.taker_buy_quote_volume)
       IS DISTINCT FROM
          (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.quote_volume,
           excluded.trades_count, excluded.taker_buy_base_volume, excluded.taker_buy_quote_volume)
    RETURNING 1
)
SELECT count(*) AS stored FROM stored
