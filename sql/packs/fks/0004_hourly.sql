-- One row for each symbol and hour, by the rule of ohlcv_data: ours, or the exchange's, whichever is preferred.
CREATE VIEW fks.hourly_ohlcv_agg AS
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

SET LOCAL search_path = fks, public;
CREATE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON fks.hourly_ohlcv_agg
    FOR EACH ROW EXECUTE FUNCTION fks.read_only();
