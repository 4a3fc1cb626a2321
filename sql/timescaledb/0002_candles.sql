-- Candles from our own trades, as continuous aggregates on continuous aggregates.
--
-- Open and close come from an ordered array, not from first() and last(): these break a tie in time by whichever row
-- is scanned first, and a row() as their ordering key fails as soon as the plan aggregates chunk by chunk
-- ("input of anonymous composite types is not implemented"). Both array_agg() calls are the same and run once.
--
-- The scale of high and low is that of the most precise price in the bucket: of 1.5 and 1.50 max() returns either.
-- taker_buy_*: 0 when every trade was a taker's sale, NULL when no trade says who the taker was.
-- materialized_only is said because its default is true: the bucket that is still open would be missing.

CREATE MATERIALIZED VIEW candles_1m
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

-- Few levels deep (1m, 1h, 1d, 1w): each level adds to the cost of reading the open bucket. Weeks start on Monday, UTC.
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
            level.name, level.source, level.width);
    END LOOP;
END
$$;

CREATE INDEX ON candles_1m   (exchange, symbol, bucket_start DESC);
CREATE INDEX ON candles_5m   (exchange, symbol, bucket_start DESC);
CREATE INDEX ON candles_15m  (exchange, symbol, bucket_start DESC);
CREATE INDEX ON candles_30m  (exchange, symbol, bucket_start DESC);
CREATE INDEX ON candles_1h   (exchange, symbol, bucket_start DESC);
CREATE INDEX ON candles_4h   (exchange, symbol, bucket_start DESC);
CREATE INDEX ON candles_1d   (exchange, symbol, bucket_start DESC);
CREATE INDEX ON candles_1w   (exchange, symbol, bucket_start DESC);

-- Ten times the source's interval, the default, would make hundreds of chunks of a few candles each.
ALTER MATERIALIZED VIEW candles_1m   SET (timescaledb.chunk_interval = '7 days');
ALTER MATERIALIZED VIEW candles_5m   SET (timescaledb.chunk_interval = '30 days');
ALTER MATERIALIZED VIEW candles_15m  SET (timescaledb.chunk_interval = '30 days');
ALTER MATERIALIZED VIEW candles_30m  SET (timescaledb.chunk_interval = '30 days');
ALTER MATERIALIZED VIEW candles_1h   SET (timescaledb.chunk_interval = '90 days');
ALTER MATERIALIZED VIEW candles_4h   SET (timescaledb.chunk_interval = '90 days');
ALTER MATERIALIZED VIEW candles_1d   SET (timescaledb.chunk_interval = '365 days');
ALTER MATERIALIZED VIEW candles_1w   SET (timescaledb.chunk_interval = '365 days');

-- Months are a plain view. As a continuous aggregate (2.26.4) a month goes stale: a late write whose newest row lies
-- exactly on the first of a month, as every daily candle of the first does, and whose oldest lies in the month before,
-- leaves the newer month out of the refresh. A month is at most 31 daily candles, so reading them costs little.
CREATE VIEW "candles_1M" AS
SELECT time_bucket(INTERVAL '1 month', part.bucket_start) AS bucket_start,
       part.exchange,
       part.symbol,
       first(part.open, part.bucket_start)                AS open,
       round(max(part.high), max(scale(part.high)))       AS high,
       round(min(part.low), max(scale(part.low)))         AS low,
       last(part.close, part.bucket_start)                AS close,
       sum(part.volume)                                   AS volume,
       sum(part.quote_volume)                             AS quote_volume,
       sum(part.trades_count)::bigint                     AS trades_count,
       sum(part.taker_buy_base_volume)                    AS taker_buy_base_volume,
       sum(part.taker_buy_quote_volume)                   AS taker_buy_quote_volume
FROM candles_1d AS part
GROUP BY 1, 2, 3;

-- Written without quotes, candles_1M is candles_1m: months have a second name that cannot be mistaken.
CREATE VIEW candles_1month AS SELECT * FROM "candles_1M";

-- Quotes by the hour. Ticks have no sequence of their own, so the time we received them and then the quote itself
-- break ties. An empty side of the book counts as no volume. Half the sum is a product: it is exact, a quotient rounds.
CREATE MATERIALIZED VIEW ohlcv_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '1 hour', time)           AS bucket_start,
       exchange,
       symbol,
       (array_agg(bid_price ORDER BY time, received_at, bid_price, ask_price, bid_volume, ask_volume)
           FILTER (WHERE bid_price IS NOT NULL))[1]   AS open,
       round(max(ask_price), max(scale(ask_price)))   AS high,
       round(min(bid_price), max(scale(bid_price)))   AS low,
       (array_agg(ask_price ORDER BY time, received_at, bid_price, ask_price, bid_volume, ask_volume)
           FILTER (WHERE ask_price IS NOT NULL))[count(ask_price)::integer] AS close,
       sum(coalesce(bid_volume, 0) + coalesce(ask_volume, 0)) * 0.5 AS volume,
       count(*)                                       AS ticks_count
FROM market_ticks
GROUP BY 1, 2, 3
WITH NO DATA;

CREATE INDEX ON ohlcv_1h (exchange, symbol, bucket_start DESC);
ALTER MATERIALIZED VIEW ohlcv_1h SET (timescaledb.chunk_interval = '90 days');
