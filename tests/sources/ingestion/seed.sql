-- Four trades of one minute, two snapshots of open interest, two funding rates; and the same markets elsewhere.
INSERT INTO public.trades (time, exchange, symbol, trade_id, seq, side, price, quantity, received_at)
SELECT date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + at, exchange, 'BTCUSDT', seq::text, seq, side, price,
       quantity, date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + at + INTERVAL '1 second'
FROM (VALUES (INTERVAL '10:00:01', 'binance', 1, 'sell', 64000.12, 1),
             (INTERVAL '10:00:11', 'binance', 2, 'buy', 64120.55, 0.5),
             (INTERVAL '10:00:21', 'binance', 3, NULL, 63950.02, 1.5),
             (INTERVAL '10:00:59', 'binance', 4, 'buy', 64080.10, 1.0),
             (INTERVAL '10:00:30', 'kraken', 5, 'buy', 70000, 9))
    AS trades (at, exchange, seq, side, price, quantity);

INSERT INTO public.oi_snapshots (time, exchange, symbol, open_interest, open_interest_usd, basis, received_at)
SELECT date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + at, exchange, 'BTCUSDT', open_interest, usd, basis,
       date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + at + INTERVAL '1 second'
FROM (VALUES (INTERVAL '10:00:00', 'binance', 100.5, NULL, NULL),
             (INTERVAL '11:00:00', 'binance', 101.25, 6480000, 0.0012),
             (INTERVAL '12:00:00', 'bybit', 7, NULL, NULL))
    AS snapshots (at, exchange, open_interest, usd, basis);

INSERT INTO public.funding (time, exchange, symbol, funding_rate, annualised_rate, received_at)
SELECT date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + INTERVAL '8 hours', exchange, symbol, rate, annualised,
       date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + INTERVAL '08:00:01'
FROM (VALUES ('binance', 'BTCUSDT', 0.0001, 0.1095), ('binance', 'ETHUSDT', -0.00005, NULL),
             ('bybit', 'BTCUSDT', 0.0002, NULL)) AS rates (exchange, symbol, rate, annualised);
