-- The aggregates with the refresh policy that the document states.
SET LOCAL search_path = fks, public;

CREATE MATERIALIZED VIEW fks.daily_account_performance
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 day', time)                  AS day,
       account_id,
       count(*)                                             AS trades_count,
       sum(CASE WHEN realized_pnl > 0 THEN 1 ELSE 0 END)    AS winning_trades,
       sum(CASE WHEN realized_pnl < 0 THEN 1 ELSE 0 END)    AS losing_trades,
       sum(realized_pnl)                                    AS total_pnl,
       avg(realized_pnl)                                    AS avg_pnl,
       max(realized_pnl)                                    AS best_trade,
       min(realized_pnl)                                    AS worst_trade,
       sum(fee)                                             AS total_fees
FROM fks.trades
WHERE realized_pnl IS NOT NULL
GROUP BY 1, 2
WITH NO DATA;
SELECT add_continuous_aggregate_policy('fks.daily_account_performance', start_offset => INTERVAL '3 days',
                                       end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '1 hour');

-- Hours of the minutes that exchanges report. Of those from our trades there are public.candles_1h.
CREATE MATERIALIZED VIEW fks.hourly_exchange_ohlcv
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 hour', time) AS hour,
       exchange,
       symbol,
       first(open, time)                    AS open,
       round(max(high), max(scale(high)))   AS high,
       round(min(low), max(scale(low)))     AS low,
       last(close, time)                    AS close,
       sum(volume)                          AS volume
FROM public.ohlcv_data
WHERE timeframe = '1m'
GROUP BY 1, 2, 3
WITH NO DATA;
SELECT add_continuous_aggregate_policy('fks.hourly_exchange_ohlcv', start_offset => INTERVAL '3 days',
                                       end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '1 hour');
