-- Without continuous aggregates both are computed when they are read.
SET LOCAL search_path = fks, public;

CREATE VIEW fks.daily_account_performance AS
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
GROUP BY 1, 2;

CREATE VIEW fks.hourly_exchange_ohlcv AS
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
GROUP BY 1, 2, 3;
