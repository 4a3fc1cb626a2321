SELECT time AS trade_ts, trade_id, price, quantity, side = 'sell' AS is_buyer_maker, side, received_at AS created_at
FROM public.trades
WHERE exchange = $1::text AND symbol = $2::text
ORDER BY time DESC, seq DESC, trades.trade_id DESC
LIMIT $3::bigint
