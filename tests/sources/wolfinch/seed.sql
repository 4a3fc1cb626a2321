-- What ingestd stores of five completed trades of two strategies, one without a quantity, and of one execution.
INSERT INTO public.completed_trades (trade_id, exchange, symbol, side, quantity, entry_price, exit_price, pnl, strategy,
                                     completed_at, event_id)
SELECT trade_id, 'coinbase', 'BTC-USD', 'buy', quantity, entry_price, exit_price, pnl, strategy,
       date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + at, md5(trade_id)::uuid
FROM (VALUES ('67890', 0.1, 50000, 51000, 100, 'momentum', INTERVAL '18:05:00'),
             ('67891', 0.5, 50000, 49900, -50, 'momentum', INTERVAL '19:00:00'),
             ('67892', 0.1, 50000, 51000, 100, 'momentum', INTERVAL '20:00:00'),
             ('67893', 0.5, 50000, 49949, -25.5, 'mean_reversion', INTERVAL '18:30:00'),
             ('67894', NULL, 50000, 49990, -10, 'momentum', INTERVAL '26:00:00'))
    AS trades (trade_id, quantity, entry_price, exit_price, pnl, strategy, at);

INSERT INTO audit.trade_logs (id, timestamp, exchange, symbol, action, quantity, price, status, strategy, metadata)
SELECT event_id, completed_at, exchange, symbol, 'SELL', quantity, exit_price, 'completed', strategy,
       jsonb_build_object('trade_id', trade_id, 'entry_price', entry_price, 'exit_price', exit_price, 'pnl', pnl)
FROM public.completed_trades;

INSERT INTO audit.trade_logs (id, timestamp, exchange, symbol, action, quantity, price, status, order_id, strategy, metadata)
SELECT md5('execution')::uuid, date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + INTERVAL '18:04:59', 'coinbase',
       'BTC-USD', 'ORDER_SELL', 0.1, 51000, 'filled', '12345', 'momentum', '{"order_id": "12345", "executed_price": 51000}';
