-- The schema `analytics`. (`audit` is filled whether or not there is this pack.)
--
-- A row of ours is one UTC day of one strategy in one symbol, computed from its completed trades and computed again when
-- one of them arrives late or is corrected. Other programs may add rows with ids of their own.
--
--   timestamp     the beginning of the day
--   pnl           the sum of the trades' pnl, in the quote currency
--   return_pct    pnl in percent of what the trades bought or sold at their entry (entry_price x quantity); NULL if the
--                 quantity of one is not known
--   sharpe_ratio  mean by standard deviation (of a sample) of the trades' returns, not annualised; NULL for fewer than two
--                 trades, for returns that do not differ, and where return_pct is NULL
--   max_drawdown  the deepest fall of the running pnl below its highest value before, which is at least 0; quote currency
--   win_rate      percent of the trades with a pnl above 0
CREATE SCHEMA analytics;

CREATE TABLE analytics.performance_metrics (
    id           uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    timestamp    timestamptz NOT NULL,
    strategy     text        NOT NULL,
    symbol       text        NOT NULL,
    pnl          numeric,
    return_pct   numeric,
    sharpe_ratio numeric,
    max_drawdown numeric,
    win_rate     numeric,
    total_trades integer,
    metadata     jsonb,
    created_at   timestamptz DEFAULT now()
);
CREATE INDEX performance_metrics_timestamp ON analytics.performance_metrics (timestamp);
CREATE INDEX performance_metrics_strategy ON analytics.performance_metrics (strategy, timestamp DESC);

-- With the owner's rights, as the functions below: who may store a trade needs no right on this schema.
CREATE FUNCTION analytics.measure(strategies text[], symbols text[], days timestamptz[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    -- First the lock of every row, in one order: the statements after it see the trades of whoever held one.
    INSERT INTO analytics.performance_metrics AS known (id, timestamp, strategy, symbol)
    SELECT DISTINCT md5(jsonb_build_array(strategy, symbol, day)::text)::uuid, day, strategy, symbol
    FROM unnest(strategies, symbols, days) AS keys (strategy, symbol, day)
    ORDER BY 1
    ON CONFLICT (id) DO UPDATE SET timestamp = excluded.timestamp;

    WITH keys AS (
        SELECT DISTINCT md5(jsonb_build_array(strategy, symbol, day)::text)::uuid AS id, strategy, symbol, day
        FROM unnest(strategies, symbols, days) AS keys (strategy, symbol, day)
    ), trades AS (
        SELECT keys.id, completed_at, trade_id, pnl, entry_price * quantity AS invested,
               sum(pnl) OVER (PARTITION BY keys.id ORDER BY completed_at, trade_id) AS running
        FROM keys JOIN public.completed_trades AS trade
          ON trade.symbol = keys.symbol COLLATE "C" AND coalesce(trade.strategy, 'unknown') = keys.strategy
         AND trade.completed_at >= keys.day AND trade.completed_at < keys.day + INTERVAL '1 day'
    ), steps AS (
        SELECT trades.*, pnl / nullif(invested, 0) AS return_of_one,
               greatest(max(running) OVER (PARTITION BY id ORDER BY completed_at, trade_id), 0) - running AS drawdown
        FROM trades
    ), measured AS (
        SELECT keys.id, sum(pnl) AS pnl, count(steps.id)::integer AS total_trades, max(drawdown) AS max_drawdown,
               100.0 * count(*) FILTER (WHERE pnl > 0) / nullif(count(steps.id), 0) AS win_rate,
               CASE WHEN count(return_of_one) = count(*) THEN 100 * sum(pnl) / nullif(sum(invested), 0) END AS return_pct,
               CASE WHEN count(return_of_one) = count(*)
                    THEN avg(return_of_one) / nullif(stddev_samp(return_of_one), 0) END AS sharpe_ratio
        FROM keys LEFT JOIN steps USING (id)
        GROUP BY keys.id
    )
    UPDATE analytics.performance_metrics AS known
    SET pnl = measured.pnl, return_pct = measured.return_pct, sharpe_ratio = measured.sharpe_ratio,
        max_drawdown = measured.max_drawdown, win_rate = measured.win_rate, total_trades = measured.total_trades
    FROM measured
    WHERE measured.id = known.id;

    -- A corrected trade may have left its day, symbol or strategy without any.
    DELETE FROM analytics.performance_metrics
    WHERE total_trades = 0
      AND id IN (SELECT md5(jsonb_build_array(strategy, symbol, day)::text)::uuid
                 FROM unnest(strategies, symbols, days) AS keys (strategy, symbol, day));
END
$$;

CREATE FUNCTION analytics.measure_added() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM analytics.measure(array_agg(coalesce(strategy, 'unknown')), array_agg(symbol::text),
                              array_agg(date_trunc('day', completed_at, 'UTC')))
    FROM added;
    RETURN NULL;
END
$$;

CREATE FUNCTION analytics.measure_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM analytics.measure(array_agg(coalesce(strategy, 'unknown')), array_agg(symbol::text),
                              array_agg(date_trunc('day', completed_at, 'UTC')))
    FROM (SELECT strategy, symbol, completed_at FROM added
          UNION ALL SELECT strategy, symbol, completed_at FROM removed) AS changed;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION analytics.measure(text[], text[], timestamptz[]), analytics.measure_added(),
    analytics.measure_changed() FROM PUBLIC;

CREATE TRIGGER ingestd_wolfinch_added AFTER INSERT ON public.completed_trades
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION analytics.measure_added();
CREATE TRIGGER ingestd_wolfinch_changed AFTER UPDATE ON public.completed_trades
    REFERENCING NEW TABLE AS added OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION analytics.measure_changed();

-- The trades that are there already. None is added meanwhile: the triggers' creation has locked the table.
SELECT analytics.measure(array_agg(coalesce(strategy, 'unknown')), array_agg(symbol::text),
                         array_agg(date_trunc('day', completed_at, 'UTC')))
FROM public.completed_trades;
