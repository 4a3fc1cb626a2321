-- Trades of an hour, a right and a wrong book, a market; an order in two executions, two completed trades; a user.
INSERT INTO public.trades (time, exchange, symbol, trade_id, seq, side, price, quantity, received_at)
SELECT date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + at, 'binance', 'BTCUSDT', seq::text, seq, side, price, quantity,
       now()
FROM (VALUES (INTERVAL '10:00:01', 1, 'buy', 64000.10, 1), (INTERVAL '10:30:00', 2, 'sell', 63900.50, 0.5))
    AS trades (at, seq, side, price, quantity);

INSERT INTO public.order_book (time, exchange, symbol, bids, asks, valid, received_at)
SELECT date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + at, 'binance', 'BTCUSDT',
       jsonb_build_array(jsonb_build_object('price', bid, 'amount', '1.5')), '[]', valid, now()
FROM (VALUES (INTERVAL '10:00:00', '64000.00', true), (INTERVAL '10:00:01', '70000.00', false)) AS books (at, bid, valid);

INSERT INTO public.symbols (exchange, symbol, market_id, compact, dash, venue_name, base_currency, quote_currency, status,
                            min_order_size, price_precision, quantity_precision)
VALUES ('binance', 'BTC/USDT', 'BTCUSDT', 'BTCUSDT', 'BTC-USDT', 'BTCUSDT', 'BTC', 'USDT', 'active', 0.00001, 2, 5);

INSERT INTO public.executions (id, order_id, exchange, symbol, side, price, quantity, fee, executed_at)
SELECT id::uuid, 'o-1', 'binance', 'BTCUSDT', 'buy', price, quantity, fee,
       date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + at
FROM (VALUES ('00000000-0000-0000-0000-000000000001', 64000.10, 0.3, 0.01, INTERVAL '10:00'),
             ('00000000-0000-0000-0000-000000000002', 64001.10, 0.2, 0.02, INTERVAL '11:00'))
    AS executions (id, price, quantity, fee, at);
INSERT INTO public.orders (order_id, exchange, symbol, side, order_type, quantity, price, filled_quantity, avg_price, status,
                           strategy, submitted_at)
VALUES ('o-1', 'binance', 'BTCUSDT', 'buy', 'LIMIT', 1, 64002, 0.5, 64000.5, 'PARTIALLY_FILLED', 'breakout', now()),
       ('o-2', 'binance', 'BTCUSDT', 'buy', 'LIMIT', 1, 60000, 0, NULL, 'PENDING', 'breakout', now());

INSERT INTO public.completed_trades (trade_id, exchange, symbol, side, quantity, entry_price, exit_price, pnl, strategy,
                                     completed_at, event_id)
SELECT trade_id, 'binance', 'BTCUSDT', 'sell', 0.5, 64000, exit_price, pnl, strategy,
       date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + at, gen_random_uuid()
FROM (VALUES ('t-1', 64100, 50.00, 'breakout', INTERVAL '12:00'), ('t-2', 63950, -25.50, 'breakout', INTERVAL '13:00'),
             ('t-3', 64160, 80, NULL, INTERVAL '14:00'))
    AS trades (trade_id, exit_price, pnl, strategy, at);

INSERT INTO platform.users (id, username, email, password_hash) VALUES (1, 'ada', 'ada@example.org', 'x');

-- The tables hold compact names.
UPDATE public.ingestd_settings SET value = 'compact' WHERE name = 'symbol_style';
SELECT platform.options_changed();  -- as the first `migrate` does, which knows the style
