INSERT INTO audit.trade_logs
    (id, timestamp, exchange, symbol, action, order_type, quantity, price, status, order_id, strategy, metadata)
SELECT DISTINCT ON (id)
    id, timestamp, exchange, ingestd_stored_symbol(exchange, symbol), action, order_type, quantity, price, status,
    order_id, strategy, metadata
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::numeric[], $8::numeric[],
            $9::text[], $10::text[], $11::text[], $12::text[]::jsonb[])
     AS row (id, timestamp, exchange, symbol, action, order_type, quantity, price, status, order_id, strategy, metadata)
ORDER BY id
ON CONFLICT (id) DO NOTHING
RETURNING id
