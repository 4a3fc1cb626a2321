-- The way back: the hierarchy as 0002 made it, beside the one of 0010, and filled by the same steps. Nothing is dropped
-- before its candles are kept. A quote volume that is NULL stays so where its trades are gone.

CREATE MATERIALIZED VIEW ingestd_next_candles_1m
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '1 minute', time)                                   AS bucket_start,
       exchange,
       symbol,
       (array_agg(price ORDER BY time, seq, trade_id))[1]                       AS open,
       round(max(price), max(scale(price)))                                     AS high,
       round(min(price), max(scale(price)))                                     AS low,
       (array_agg(price ORDER BY time, seq, trade_id))[count(*)::integer]       AS close,
       sum(quantity)                                                            AS volume,
       sum(price * quantity)                                                    AS quote_volume,
       count(*)                                                                 AS trades_count,
       sum(CASE side WHEN 'buy' THEN quantity WHEN 'sell' THEN 0 END)           AS taker_buy_base_volume,
       sum(CASE side WHEN 'buy' THEN price * quantity WHEN 'sell' THEN 0 END)   AS taker_buy_quote_volume
FROM trades
GROUP BY 1, 2, 3
WITH NO DATA;

DO $$
DECLARE
    level record;
BEGIN
    FOR level IN
        SELECT *
        FROM (VALUES ('candles_5m',  'candles_1m', INTERVAL '5 minutes'),
                     ('candles_15m', 'candles_1m', INTERVAL '15 minutes'),
                     ('candles_30m', 'candles_1m', INTERVAL '30 minutes'),
                     ('candles_1h',  'candles_1m', INTERVAL '1 hour'),
                     ('candles_4h',  'candles_1h', INTERVAL '4 hours'),
                     ('candles_1d',  'candles_1h', INTERVAL '1 day'),
                     ('candles_1w',  'candles_1d', INTERVAL '1 week')) AS levels (name, source, width)
    LOOP
        EXECUTE format(
            $view$
            CREATE MATERIALIZED VIEW %1$I
            WITH (timescaledb.continuous, timescaledb.materialized_only = false,
                  timescaledb.create_group_indexes = false) AS
            SELECT time_bucket(%3$L::interval, part.bucket_start) AS bucket_start,
                   part.exchange,
                   part.symbol,
                   first(part.open, part.bucket_start)            AS open,
                   round(max(part.high), max(scale(part.high)))   AS high,
                   round(min(part.low), max(scale(part.low)))     AS low,
                   last(part.close, part.bucket_start)            AS close,
                   sum(part.volume)                               AS volume,
                   sum(part.quote_volume)                         AS quote_volume,
                   sum(part.trades_count)::bigint                 AS trades_count,
                   sum(part.taker_buy_base_volume)                AS taker_buy_base_volume,
                   sum(part.taker_buy_quote_volume)               AS taker_buy_quote_volume
            FROM %2$I AS part
            GROUP BY 1, 2, 3
            WITH NO DATA
            $view$,
            'ingestd_next_' || level.name, 'ingestd_next_' || level.source, level.width);
    END LOOP;
END
$$;

-- Months are a plain view of days, for the reason 0002 gives.
CREATE VIEW "ingestd_next_candles_1M" AS
SELECT time_bucket(INTERVAL '1 month', part.bucket_start) AS bucket_start,
       part.exchange,
       part.symbol,
       first(part.open, part.bucket_start)                AS open,
       round(max(part.high), max(scale(part.high)))       AS high,
       round(min(part.low), max(scale(part.low)))         AS low,
       last(part.close, part.bucket_start)                AS close,
       sum(part.volume)                                   AS volume,
       sum(part.quote_volume)                         AS quote_volume,
       sum(part.trades_count)::bigint                     AS trades_count,
       sum(part.taker_buy_base_volume)                    AS taker_buy_base_volume,
       sum(part.taker_buy_quote_volume)               AS taker_buy_quote_volume
FROM ingestd_next_candles_1d AS part
GROUP BY 1, 2, 3;
