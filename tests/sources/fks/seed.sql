-- Two trades of one minute; candles that exchanges report, for that hour and others; two accounts and what they did.
INSERT INTO public.trades (time, exchange, symbol, trade_id, seq, side, price, quantity, received_at)
SELECT date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + at, exchange, 'BTCUSDT', seq::text, seq, side, price,
       quantity, now()
FROM (VALUES (INTERVAL '10:00:01', 'binance', 1, 'buy', 64000.10, 1),
             (INTERVAL '10:00:31', 'binance', 2, 'sell', 64100.50, 0.5),
             (INTERVAL '09:00:30', 'kraken', 3, 'buy', 70000, 9))
    AS trades (at, exchange, seq, side, price, quantity);

INSERT INTO public.ohlcv_data (time, exchange, symbol, timeframe, open, high, low, close, volume, quote_volume,
                               trades_count, taker_buy_base_volume, taker_buy_quote_volume, created_at)
SELECT date_trunc('day', now(), 'UTC') + at, exchange, symbol, timeframe, open, high, low, close, volume, NULL, 7, NULL,
       NULL, TIMESTAMPTZ '2024-01-01 00:00:00+00'
FROM (VALUES (INTERVAL '-2 days 10:00', 'binance', 'BTCUSDT', '1h', 1, 4, 1, 3, 20),
             (INTERVAL '-2 days 09:00', 'binance', 'BTCUSDT', '1h', 63950, 64020, 63900, 63999.50, 21),
             (INTERVAL '-3 days 09:00', 'binance', 'BTCUSDT', '1h', 63000, 63100, 62900, 63050.25, 22),
             (INTERVAL '-2 days 09:00', 'kraken', 'BTCUSDT', '1h', 5, 5, 5, 5, 5),
             (INTERVAL '-2 days 09:01', 'binance', 'BTCUSDT', '1m', 63950, 63960, 63940, 63955, 2),
             (INTERVAL '-2 days 09:00', 'binance', 'BTCUSDT', '1m', 63940.5, 63955, 63935, 63950, 1.5),
             (INTERVAL '-3 days', 'binance', 'ETHUSDT', '1d', 3000.1, 3100, 2990, 3050.5, 900))
    AS candles (at, exchange, symbol, timeframe, open, high, low, close, volume);
INSERT INTO public.ohlcv_data (time, exchange, symbol, timeframe, open, high, low, close, volume, created_at)
SELECT at::timestamptz, exchange, 'BTCUSDT', timeframe, 30000, 30100, 29900, 30050, 10, TIMESTAMPTZ '2024-01-01 00:00:00+00'
FROM (VALUES ('2023-06-01 00:00:00+00', 'binance', '1m'), ('2023-06-01 00:01:00+00', 'binance', '1m'),
             ('2023-06-01 00:00:00+00', 'kraken', '1m'), ('2023-06-01 00:00:00+00', 'binance', '1d'))
    AS candles (at, exchange, timeframe);

INSERT INTO fks.accounts (id, name, exchange) VALUES (1, 'main', 'binance'), (2, 'test', 'binance');
INSERT INTO fks.trades (id, time, account_id, symbol, trade_type, quantity, price, fee, realized_pnl, order_id,
                        trade_metadata, created_at)
SELECT id, date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + at, account_id, symbol, trade_type, quantity, price, fee,
       realized_pnl, id::text, '{"setup": "breakout"}', TIMESTAMPTZ '2024-01-01 00:00:00+00'
FROM (VALUES (1, INTERVAL '08:00', 1, 'BTCUSDT', 'BUY', 0.5, 63000, 1.50, NULL),
             (2, INTERVAL '09:00', 1, 'BTCUSDT', 'SELL', 0.2, 63900.25, 0.60, 180.05),
             (3, INTERVAL '10:00', 1, 'ETHUSDT', 'SELL', 1, 2990, 0.40, -10.50),
             (4, INTERVAL '10:00', 2, 'ETHUSDT', 'BUY', 3, 2990, 0.10, NULL))
    AS trades (id, at, account_id, symbol, trade_type, quantity, price, fee, realized_pnl);
INSERT INTO fks.balance_history (time, account_id, balance, equity, daily_pnl, cumulative_pnl)
VALUES (date_trunc('day', now(), 'UTC') - INTERVAL '2 days', 1, 10000, 10169.55, 169.55, 169.55);

INSERT INTO public.indicators_cache (time, exchange, symbol, timeframe, indicator_name, value, created_at)
SELECT date_trunc('day', now(), 'UTC') - INTERVAL '2 days' + INTERVAL '10 hours', exchange, 'BTCUSDT', '1h', 'sma_20@1h',
       value, TIMESTAMPTZ '2024-01-01 00:00:00+00'
FROM (VALUES ('binance', 64000.25), ('kraken', 70000)) AS indicators (exchange, value);
