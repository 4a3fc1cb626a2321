-- The audit log tells facts apart, so that counting its rows counts one thing; and what its
-- documented statements ask for, from the table that has each completed trade once.

-- BUY and SELL are completed trades only. Rows of orders say so: of three rows about one sale (the order, its execution,
-- the trade) all were SELL, and a rate of winners among them was a third of the true one.
UPDATE audit.trade_logs SET action = CASE action WHEN 'UNKNOWN' THEN 'ORDER' ELSE 'ORDER_' || action END
WHERE order_id IS NOT NULL;

-- Profit and loss of the trades that were completed on each day (UTC), in the currency of their `pnl`.
CREATE VIEW audit.daily_pnl AS
SELECT (completed_at AT TIME ZONE 'UTC')::date AS date, strategy, sum(pnl) AS daily_pnl, count(*) AS trades
FROM public.completed_trades
GROUP BY 1, 2;

-- Of each strategy's completed trades, the percentage with a profit. A trade without profit or loss is no winner.
CREATE VIEW audit.win_rate AS
SELECT strategy, count(*) FILTER (WHERE pnl > 0) * 100.0 / count(*) AS win_rate, count(*) AS trades
FROM public.completed_trades
GROUP BY strategy;
