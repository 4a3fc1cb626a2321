-- Three ticks of one hour, one of another market, two orders, and two balances.
INSERT INTO public.market_ticks (time, exchange, symbol, bid_price, bid_volume, ask_price, ask_volume, received_at)
SELECT date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + at, 'binance', symbol, bid_price, bid_volume, ask_price,
       ask_volume, now()
FROM (VALUES (INTERVAL '22:00:00', 'BTCUSDT', 50000.50, 1, 50001.00, 2),
             (INTERVAL '22:30:00', 'BTCUSDT', 49990.00, 3, 50010.00, 1),
             (INTERVAL '22:59:59', 'BTCUSDT', 50005.10, 0.5, 50006.30, 0.5),
             (INTERVAL '22:15:00', 'ETHUSDT', 3000.1, 1, 3000.2, 1))
    AS ticks (at, symbol, bid_price, bid_volume, ask_price, ask_volume);

INSERT INTO public.orders (order_id, exchange, symbol, side, order_type, quantity, price, filled_quantity, avg_price,
                           status, client_id, submitted_at, filled_at)
SELECT order_id, exchange, 'BTCUSDT', side, order_type, quantity, price, filled_quantity, avg_price, status, client_id,
       date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + at,
       date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + filled_at
FROM (VALUES ('123E4567-e89b-12d3-a456-426614174000', 'binance', 'buy', 'MARKET', 0.5, NULL, 0.5, 50001.00, 'FILLED',
              '00000000-0000-0000-0000-000000000007', INTERVAL '22:00:00', INTERVAL '22:00:01'),
             ('12345', NULL, 'sell', 'LIMIT', 0.10000000000000000001, 51000, 0, NULL, 'PENDING', NULL,
              INTERVAL '23:00:00', NULL))
    AS orders (order_id, exchange, side, order_type, quantity, price, filled_quantity, avg_price, status, client_id, at,
               filled_at);

INSERT INTO public.balances (asset, exchange, available, locked, updated_at)
SELECT asset, 'binance', available, locked, date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + INTERVAL '22:00:01'
FROM (VALUES ('BTC', 0.5, 0.1), ('USDT', 1000.00000001, 0)) AS held (asset, available, locked);
