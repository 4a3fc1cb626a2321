INSERT INTO executions (id, order_id, exchange, symbol, side, price, quantity, fee, executed_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[], $7::numeric[],
                     $8::numeric[], $9::timestamptz[])
ON CONFLICT (id) DO NOTHING
