-- Candles without TimescaleDB: tables of the same names, brought up to date by ingestd_refresh_candles(), which the
-- daemon calls every few seconds.
--
-- Which minutes have to be made again is known exactly: a statement-level trigger marks the minutes a COPY or INSERT
-- touched, in the same transaction. A mark is a plain row without any key, so writers never wait for each other.
-- A refresh takes marks away in one statement and reads the trades in a later one, whose snapshot is newer: it sees
-- every trade whose mark it took. A trade committed after that has a mark of its own, which the next refresh finds.

CREATE TABLE candles_1m (
    bucket_start           timestamptz      NOT NULL,
    exchange               text COLLATE "C" NOT NULL,
    symbol                 text COLLATE "C" NOT NULL,
    open                   numeric          NOT NULL,
    high                   numeric          NOT NULL,
    low                    numeric          NOT NULL,
    close                  numeric          NOT NULL,
    volume                 numeric          NOT NULL,
    quote_volume           numeric          NOT NULL,
    trades_count           bigint           NOT NULL,
    taker_buy_base_volume  numeric,
    taker_buy_quote_volume numeric,
    PRIMARY KEY (exchange, symbol, bucket_start)
) WITH (fillfactor = 80); -- the last candles are written many times: room for heap-only updates
CREATE TABLE candles_5m   (LIKE candles_1m INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE candles_15m  (LIKE candles_1m INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE candles_30m  (LIKE candles_1m INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE candles_1h   (LIKE candles_1m INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE candles_4h   (LIKE candles_1m INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE candles_1d   (LIKE candles_1m INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE candles_1w   (LIKE candles_1m INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE "candles_1M" (LIKE candles_1m INCLUDING ALL) WITH (fillfactor = 80);

-- Written without quotes, candles_1M is candles_1m: months have a second name that cannot be mistaken.
CREATE VIEW candles_1month AS SELECT * FROM "candles_1M";

CREATE TABLE ohlcv_1h (
    bucket_start timestamptz      NOT NULL,
    exchange     text COLLATE "C" NOT NULL,
    symbol       text COLLATE "C" NOT NULL,
    open         numeric,
    high         numeric,
    low          numeric,
    close        numeric,
    volume       numeric          NOT NULL,
    ticks_count  bigint           NOT NULL,
    PRIMARY KEY (exchange, symbol, bucket_start)
) WITH (fillfactor = 80);

-- The minutes ohlcv_1h is made of: reading an hour of ticks again every few seconds would not do.
-- Here volume is the whole sum; the hour halves it.
CREATE TABLE ohlcv_1h_minutes (LIKE ohlcv_1h INCLUDING ALL) WITH (fillfactor = 80);

CREATE TABLE candles_marks (
    exchange     text COLLATE "C" NOT NULL,
    symbol       text COLLATE "C" NOT NULL,
    bucket_start timestamptz      NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE TABLE ohlcv_1h_marks (LIKE candles_marks) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Buckets count from Monday 2000-01-03 00:00 UTC, months from the first of the month, UTC: as in TimescaleDB.
CREATE FUNCTION ingestd_bucket(width interval, at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN width = INTERVAL '1 month' THEN date_trunc('month', at, 'UTC')
            ELSE date_bin(width, at, TIMESTAMPTZ '2000-01-03 00:00:00+00') END;

-- Owner's rights: who may insert a trade needs no right on the marks.
CREATE FUNCTION ingestd_mark_candles() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO candles_marks
    SELECT DISTINCT exchange, symbol, date_bin(INTERVAL '1 minute', time, TIMESTAMPTZ '2000-01-03 00:00:00+00')
    FROM inserted;
    RETURN NULL;
END
$$;

CREATE FUNCTION ingestd_mark_ohlcv_1h() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO ohlcv_1h_marks
    SELECT DISTINCT exchange, symbol, date_bin(INTERVAL '1 minute', time, TIMESTAMPTZ '2000-01-03 00:00:00+00')
    FROM inserted;
    RETURN NULL;
END
$$;

CREATE TRIGGER trades_mark_candles AFTER INSERT ON trades
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION ingestd_mark_candles();
CREATE TRIGGER market_ticks_mark_ohlcv_1h AFTER INSERT ON market_ticks
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION ingestd_mark_ohlcv_1h();

-- Make the candles of up to max_marks marks again; how many marks were taken. 0 too when another session is at it.
--
-- A candle is never replaced by one of fewer trades: that is what a bucket looks like after retention took its
-- oldest part. The session's time zone must not matter where days are added, hence UTC.
CREATE FUNCTION ingestd_refresh_candles(max_marks integer) RETURNS bigint
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

-- The same for the hours of quotes.
CREATE FUNCTION ingestd_refresh_ohlcv_1h(max_marks integer) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    taken     bigint;
    exchanges text[];
    symbols   text[];
    starts    timestamptz[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('ingestd_refresh_ohlcv_1h')) THEN
        RETURN 0;
    END IF;

    WITH taken AS (
        DELETE FROM ohlcv_1h_marks
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM ohlcv_1h_marks LIMIT max_marks))
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

    INSERT INTO ohlcv_1h_minutes AS candle
    SELECT mark.bucket_start, mark.exchange, mark.symbol, made.*
    FROM unnest(exchanges, symbols, starts) AS mark (exchange, symbol, bucket_start)
    CROSS JOIN LATERAL (
        SELECT (array_agg(bid_price ORDER BY time, received_at, bid_price, ask_price, bid_volume, ask_volume)
                   FILTER (WHERE bid_price IS NOT NULL))[1],
               round(max(ask_price), max(scale(ask_price))),
               round(min(bid_price), max(scale(bid_price))),
               (array_agg(ask_price ORDER BY time, received_at, bid_price, ask_price, bid_volume, ask_volume)
                   FILTER (WHERE ask_price IS NOT NULL))[count(ask_price)::integer],
               sum(coalesce(bid_volume, 0) + coalesce(ask_volume, 0)),
               count(*)
        FROM market_ticks
        WHERE market_ticks.exchange = mark.exchange COLLATE "C"
          AND market_ticks.symbol = mark.symbol COLLATE "C"
          AND market_ticks.time >= mark.bucket_start
          AND market_ticks.time < mark.bucket_start + INTERVAL '1 minute'
        HAVING count(*) > 0
    ) AS made
    ON CONFLICT (exchange, symbol, bucket_start) DO UPDATE
    SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        volume = excluded.volume, ticks_count = excluded.ticks_count
    WHERE excluded.ticks_count >= candle.ticks_count;

    INSERT INTO ohlcv_1h AS candle
    SELECT mark.bucket_start, mark.exchange, mark.symbol, made.*
    FROM (SELECT DISTINCT exchange, symbol, ingestd_bucket(INTERVAL '1 hour', bucket_start) AS bucket_start
          FROM unnest(exchanges, symbols, starts) AS minute (exchange, symbol, bucket_start)) AS mark
    CROSS JOIN LATERAL (
        SELECT (array_agg(part.open ORDER BY part.bucket_start) FILTER (WHERE part.open IS NOT NULL))[1],
               round(max(part.high), max(scale(part.high))),
               round(min(part.low), max(scale(part.low))),
               (array_agg(part.close ORDER BY part.bucket_start)
                   FILTER (WHERE part.close IS NOT NULL))[count(part.close)::integer],
               sum(part.volume) * 0.5,
               sum(part.ticks_count)::bigint
        FROM ohlcv_1h_minutes AS part
        WHERE part.exchange = mark.exchange COLLATE "C"
          AND part.symbol = mark.symbol COLLATE "C"
          AND part.bucket_start >= mark.bucket_start
          AND part.bucket_start < mark.bucket_start + INTERVAL '1 hour'
        HAVING count(*) > 0
    ) AS made
    ON CONFLICT (exchange, symbol, bucket_start) DO UPDATE
    SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        volume = excluded.volume, ticks_count = excluded.ticks_count
    WHERE excluded.ticks_count >= candle.ticks_count;
    RETURN taken;
END
$$;
