SELECT time AS snapshot_ts, open_interest, open_interest_usd, basis, unit, received_at AS created_at
FROM public.oi_snapshots
WHERE exchange = $1::text AND symbol = $2::text
ORDER BY time DESC
LIMIT 1
