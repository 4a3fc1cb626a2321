-- The latest snapshot of each of these assets ($1 exchanges, $2 assets), and what was moved after it. What happened at
-- the very time of a snapshot is in it.
WITH latest AS (
    SELECT DISTINCT ON (exchange, asset) snapshot.*
    FROM balance_snapshots AS snapshot
    JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS told (exchange, asset)) AS told USING (exchange, asset)
    ORDER BY exchange, asset, taken_at DESC, id DESC
), newer AS (
    SELECT latest.*
    FROM latest LEFT JOIN balances USING (exchange, asset)
    WHERE balances.snapshot_id IS DISTINCT FROM latest.id
), begin AS (
    SELECT min(taken_at) AS at FROM newer
), touched AS (
    SELECT array_agg(DISTINCT order_id) AS ids
    FROM (
        SELECT order_id FROM executions WHERE executed_at > (SELECT at FROM begin)
        UNION ALL SELECT order_id FROM orders WHERE submitted_at > (SELECT at FROM begin)
        UNION ALL SELECT order_id FROM order_endings WHERE ended_at > (SELECT at FROM begin)
    ) AS later
), moved AS (
    SELECT newer.exchange, newer.asset, sum(move.total) AS total, sum(move.locked) AS locked
    FROM touched CROSS JOIN LATERAL ingestd_balance_moves(touched.ids) AS move JOIN newer USING (exchange, asset)
    WHERE move.at > newer.taken_at
    GROUP BY newer.exchange, newer.asset
)
INSERT INTO balances (exchange, asset, available, locked, snapshot_at, snapshot_id)
SELECT exchange, asset,
       newer.available + coalesce(moved.total - moved.locked, 0),
       newer.locked + coalesce(moved.locked, 0),
       newer.taken_at, newer.id
FROM newer LEFT JOIN moved USING (exchange, asset)
ON CONFLICT (asset, exchange) DO UPDATE
SET available = EXCLUDED.available, locked = EXCLUDED.locked, snapshot_at = EXCLUDED.snapshot_at,
    snapshot_id = EXCLUDED.snapshot_id, updated_at = now()
