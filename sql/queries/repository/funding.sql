SELECT time AS funding_ts, funding_rate, annualised_rate, payment, received_at AS created_at
FROM public.funding
WHERE exchange = $1::text AND symbol = $2::text AND time >= $3::timestamptz AND time <= $4::timestamptz
ORDER BY time
