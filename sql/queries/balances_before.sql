-- What these orders ($1) have moved so far, of what the balances' snapshots do not include.
SELECT moved.exchange, moved.asset, sum(moved.total) AS total, sum(moved.locked) AS locked
FROM ingestd_balance_moves($1::text[]) AS moved LEFT JOIN balances USING (exchange, asset)
WHERE balances.snapshot_at IS NULL OR moved.at > balances.snapshot_at
GROUP BY moved.exchange, moved.asset
