SELECT time AS funding_ts, funding_rate, annualised_rate, payment, received_at AS created_at
FROM public.funding
WHERE exchange = $1::text AND symbol = $2::text
ORDER BY time DESC
LIMIT 1
