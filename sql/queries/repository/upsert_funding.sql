WITH given AS (
    SELECT DISTINCT ON (exchange, symbol, time) *
    FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::numeric[], $5::numeric[], $6::numeric[])
        WITH ORDINALITY AS rate (exchange, symbol, time, funding_rate, annualised_rate, payment, place)
    ORDER BY exchange, symbol, time, place DESC
), stored AS (
    INSERT INTO public.funding AS known (exchange, symbol, time, funding_rate, annualised_rate, payment, received_at)
    SELECT exchange, symbol, time, funding_rate, annualised_rate, payment, now()
    FROM given
    ORDER BY exchange COLLATE "C", symbol COLLATE "C", time
    ON CONFLICT (exchange, symbol, time) DO UPDATE
    SET funding_rate = excluded.funding_rate, annualised_rate = excluded.annualised_rate, payment = excluded.payment
    WHERE (known.funding_rate, known.annualised_rate, known.payment)
       IS DISTINCT FROM (excluded.funding_rate, excluded.annualised_rate, excluded.payment)
    RETURNING 1
)
SELECT count(*) AS stored FROM stored
