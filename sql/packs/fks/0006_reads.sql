-- Which candles the views show, `[packs.fks] candles`: `exchange` is a view of one table, as fast as that; `both` chooses
-- between two at each read. `ingestd migrate` sets it, and calls options_changed().
CREATE FUNCTION fks.option_candles() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'both'::text;

CREATE FUNCTION fks.options_changed() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF fks.option_candles() = 'exchange' THEN
        CREATE OR REPLACE VIEW fks.ohlcv_data AS
        SELECT time, symbol, timeframe, open, high, low, close, volume, quote_volume,
               trades_count::bigint AS trades_count, taker_buy_base_volume, taker_buy_quote_volume, created_at
        FROM public.ohlcv_data
        WHERE exchange = fks.option_exchange();
    ELSE
        EXECUTE 'CREATE OR REPLACE VIEW fks.ohlcv_data AS ' || pg_get_viewdef('fks.ohlcv_of_both'::regclass);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION fks.options_changed() FROM PUBLIC;

CREATE OR REPLACE VIEW fks.hourly_ohlcv_agg AS
SELECT DISTINCT ON (symbol, hour) hour, symbol, timeframe, open, high, low, close, volume
FROM (
    SELECT hour, exchange, symbol, '1m'::text COLLATE "C" AS timeframe, open, high, low, close, volume, 0 AS source
    FROM fks.hourly_exchange_ohlcv
    UNION ALL
    SELECT bucket_start, exchange, symbol, '1m'::text COLLATE "C", open, high, low, close, volume, 1
    FROM public.candles_1h
) AS hours
WHERE exchange = fks.option_exchange() AND (source = 0 OR fks.option_candles() = 'both')
ORDER BY symbol, hour DESC, CASE fks.option_prefer() WHEN 'exchange' THEN source ELSE -source END;
