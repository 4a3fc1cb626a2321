-- `exchange` and `symbol` are settled with the order.
INSERT INTO executions (id, order_id, exchange, symbol, stated_exchange, stated_symbol, side, price, quantity, fee,
                        fee_currency, executed_at)
SELECT id, order_id, exchange, symbol, exchange, symbol, side, price, quantity, fee, fee_currency, executed_at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[], $7::numeric[], $8::numeric[],
            $9::text[], $10::timestamptz[])
     AS row (id, order_id, exchange, symbol, side, price, quantity, fee, fee_currency, executed_at)
ON CONFLICT (id) DO NOTHING
