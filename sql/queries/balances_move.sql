-- Move balances by what these orders ($1) move now, less what they had moved before ($2 to $5).
INSERT INTO balances AS held (exchange, asset, available, locked)
SELECT exchange, asset, sum(total) - sum(locked), sum(locked)
FROM (
    SELECT moved.exchange, moved.asset, moved.total, moved.locked
    FROM ingestd_balance_moves($1::text[]) AS moved LEFT JOIN balances USING (exchange, asset)
    WHERE balances.snapshot_at IS NULL OR moved.at > balances.snapshot_at
    UNION ALL
    SELECT exchange, asset, -total, -locked
    FROM unnest($2::text[], $3::text[], $4::numeric[], $5::numeric[]) AS before (exchange, asset, total, locked)
) AS difference
GROUP BY exchange, asset
ON CONFLICT (asset, exchange) DO UPDATE
SET available = held.available + EXCLUDED.available, locked = held.locked + EXCLUDED.locked, updated_at = now()
WHERE EXCLUDED.available <> 0 OR EXCLUDED.locked <> 0
