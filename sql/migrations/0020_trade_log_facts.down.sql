DROP VIEW audit.win_rate;
DROP VIEW audit.daily_pnl;
UPDATE audit.trade_logs SET action = CASE action WHEN 'ORDER' THEN 'UNKNOWN' ELSE substr(action, 7) END
WHERE order_id IS NOT NULL;
