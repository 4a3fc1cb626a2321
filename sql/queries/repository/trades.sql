SELECT time AS trade_ts, trade_id, price, quantity, side = 'sell' AS is_buyer_maker, side, received_at AS created_at
FROM public.trades
WHERE exchange = $1::text AND symbol = $2::text AND time >= $3::timestamptz AND time <= $4::timestamptz
ORDER BY time, seq, trades.trade_id
