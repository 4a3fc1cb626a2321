-- The refresh as 0002 made it. No candle is dropped or made again. quote_volume may stay NULL: the older version does
-- not know better what a candle of contracts is worth.

CREATE OR REPLACE FUNCTION ingestd_refresh_candles(max_marks integer) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    taken     bigint;
    exchanges text[];
    symbols   text[];
    starts    timestamptz[];
    level     record;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('ingestd_refresh_candles')) THEN
        RETURN 0;
    END IF;

    WITH taken AS (
        DELETE FROM candles_marks
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM candles_marks LIMIT max_marks))
        RETURNING exchange, symbol, bucket_start
    ), distinct_marks AS (
        SELECT exchange, symbol, bucket_start, count(*) AS marks FROM taken GROUP BY 1, 2, 3
    )
    SELECT coalesce(sum(marks), 0), array_agg(exchange), array_agg(symbol), array_agg(bucket_start)
    INTO taken, exchanges, symbols, starts
    FROM distinct_marks;
    IF taken = 0 THEN
        RETURN 0;
    END IF;

    INSERT INTO candles_1m AS candle
    SELECT mark.bucket_start, mark.exchange, mark.symbol, made.*
    FROM unnest(exchanges, symbols, starts) AS mark (exchange, symbol, bucket_start)
    CROSS JOIN LATERAL (
        SELECT (array_agg(price ORDER BY time, seq, trade_id))[1],
               round(max(price), max(scale(price))),
               round(min(price), max(scale(price))),
               (array_agg(price ORDER BY time, seq, trade_id))[count(*)::integer],
               sum(quantity),
               sum(price * quantity),
               count(*),
               sum(CASE side WHEN 'buy' THEN quantity WHEN 'sell' THEN 0 END),
               sum(CASE side WHEN 'buy' THEN price * quantity WHEN 'sell' THEN 0 END)
        FROM trades
        WHERE trades.exchange = mark.exchange COLLATE "C"
          AND trades.symbol = mark.symbol COLLATE "C"
          AND trades.time >= mark.bucket_start
          AND trades.time < mark.bucket_start + INTERVAL '1 minute'
        HAVING count(*) > 0
    ) AS made
    ON CONFLICT (exchange, symbol, bucket_start) DO UPDATE
    SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        volume = excluded.volume, quote_volume = excluded.quote_volume, trades_count = excluded.trades_count,
        taker_buy_base_volume = excluded.taker_buy_base_volume,
        taker_buy_quote_volume = excluded.taker_buy_quote_volume
    WHERE excluded.trades_count >= candle.trades_count;

    FOR level IN
        SELECT *
        FROM (VALUES ('candles_5m',  'candles_1m', INTERVAL '5 minutes'),
                     ('candles_15m', 'candles_1m', INTERVAL '15 minutes'),
                     ('candles_30m', 'candles_1m', INTERVAL '30 minutes'),
                     ('candles_1h',  'candles_1m', INTERVAL '1 hour'),
                     ('candles_4h',  'candles_1h', INTERVAL '4 hours'),
                     ('candles_1d',  'candles_1h', INTERVAL '1 day'),
                     ('candles_1w',  'candles_1d', INTERVAL '7 days'),
                     ('candles_1M',  'candles_1d', INTERVAL '1 month')) AS levels (name, source, width)
    LOOP
        EXECUTE format(
            $statement$
            INSERT INTO %1$I AS candle
            SELECT mark.bucket_start, mark.exchange, mark.symbol, made.*
            FROM (SELECT DISTINCT exchange, symbol, ingestd_bucket(%3$L, bucket_start) AS bucket_start
                  FROM unnest($1, $2, $3) AS minute (exchange, symbol, bucket_start)) AS mark
            CROSS JOIN LATERAL (
                SELECT (array_agg(part.open ORDER BY part.bucket_start))[1],
                       round(max(part.high), max(scale(part.high))),
                       round(min(part.low), max(scale(part.low))),
                       (array_agg(part.close ORDER BY part.bucket_start))[count(*)::integer],
                       sum(part.volume),
                       sum(part.quote_volume),
                       sum(part.trades_count)::bigint,
                       sum(part.taker_buy_base_volume),
                       sum(part.taker_buy_quote_volume)
                FROM %2$I AS part
                WHERE part.exchange = mark.exchange COLLATE "C"
                  AND part.symbol = mark.symbol COLLATE "C"
                  AND part.bucket_start >= mark.bucket_start
                  AND part.bucket_start < mark.bucket_start + %3$L::interval
                HAVING count(*) > 0
            ) AS made
            ON CONFLICT (exchange, symbol, bucket_start) DO UPDATE
            SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
                volume = excluded.volume, quote_volume = excluded.quote_volume, trades_count = excluded.trades_count,
                taker_buy_base_volume = excluded.taker_buy_base_volume,
                taker_buy_quote_volume = excluded.taker_buy_quote_volume
            WHERE excluded.trades_count >= candle.trades_count
            $statement$,
            level.name, level.source, level.width)
        USING exchanges, symbols, starts;
    END LOOP;
    RETURN taken;
END
$$;
