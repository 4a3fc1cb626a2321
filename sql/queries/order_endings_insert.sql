INSERT INTO order_endings (id, order_id, stated_exchange, stated_symbol, side, ending, reason, ended_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $8::timestamptz[])
ON CONFLICT (id) DO NOTHING
