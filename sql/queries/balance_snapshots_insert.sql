INSERT INTO balance_snapshots (id, exchange, asset, available, locked, taken_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::numeric[], $5::numeric[], $6::timestamptz[])
ON CONFLICT (id, asset) DO NOTHING
RETURNING id
