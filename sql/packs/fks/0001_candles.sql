-- The candles of FKS, which knows no exchange: `[packs.fks] exchange` says whose markets the view shows.
CREATE SCHEMA fks;
SET LOCAL search_path = fks, public;

\ir ../read_only.sql

-- `ingestd migrate` replaces both by ones that return the configured values.
CREATE FUNCTION fks.option_exchange() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ''::text;
CREATE FUNCTION fks.option_prefer() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'trades'::text;

-- Candles of every timeframe, one row for each symbol, timeframe and time: that of the exchange (`source` 0) or
-- ours (1), whichever is preferred, else the other. A query for one timeframe reads the two relations that have it.
-- Conditions on the three columns of DISTINCT ON reach the indexes of both. The one on the exchange is outside of the
-- union: only branches without a condition of their own are planned as the tables themselves.
-- A candle of ours is not received, so it counts as created at the end of its bucket.
CREATE VIEW fks.ohlcv_data AS
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

-- An INSERT stores a candle of the exchange: for what a team restores from its archive. A DELETE removes one. Candles
-- of ours cannot be deleted singly: their retention removes them.
-- With the owner's rights: who may write the view needs no right on the table behind it.
CREATE FUNCTION fks.write_candle() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO public.ohlcv_data (time, exchange, symbol, timeframe, open, high, low, close, volume, quote_volume,
                                       trades_count, taker_buy_base_volume, taker_buy_quote_volume, created_at)
        VALUES (NEW.time, fks.option_exchange(), NEW.symbol, NEW.timeframe, NEW.open, NEW.high, NEW.low, NEW.close,
                NEW.volume, NEW.quote_volume, NEW.trades_count, NEW.taker_buy_base_volume, NEW.taker_buy_quote_volume,
                coalesce(NEW.created_at, now()));
        RETURN NEW;
    END IF;
    DELETE FROM public.ohlcv_data
    WHERE exchange = fks.option_exchange() COLLATE "C"
      AND symbol = OLD.symbol AND timeframe = OLD.timeframe AND time = OLD.time;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the candle of % % at % is made from trades and is not deleted singly: '
                        '[retention] candles_%_days of ingestd removes such candles', OLD.symbol, OLD.timeframe, OLD.time,
                        CASE OLD.timeframe WHEN '1M' THEN '1month' ELSE OLD.timeframe END
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN OLD;
END
$$;
REVOKE ALL ON FUNCTION fks.write_candle() FROM PUBLIC;

CREATE TRIGGER write_candle INSTEAD OF INSERT OR DELETE ON fks.ohlcv_data
    FOR EACH ROW EXECUTE FUNCTION fks.write_candle();
CREATE TRIGGER read_only INSTEAD OF UPDATE ON fks.ohlcv_data
    FOR EACH ROW EXECUTE FUNCTION fks.read_only();
