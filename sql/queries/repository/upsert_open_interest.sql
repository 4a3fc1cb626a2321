WITH given AS (
    SELECT DISTINCT ON (exchange, symbol, time) *
    FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::numeric[], $5::numeric[], $6::numeric[], $7::text[])
        WITH ORDINALITY AS snapshot (exchange, symbol, time, open_interest, open_interest_usd, basis, unit, place)
    ORDER BY exchange, symbol, time, place DESC
), stored AS (
    INSERT INTO public.oi_snapshots AS known (exchange, symbol, time, open_interest, open_interest_usd, basis, unit,
                                              received_at)
    SELECT exchange, symbol, time, open_interest, open_interest_usd, basis, unit, now()
    FROM given
    ORDER BY exchange COLLATE "C", symbol COLLATE "C", time
    ON CONFLICT (exchange, symbol, time) DO UPDATE
    SET open_interest = excluded.open_interest, open_interest_usd = excluded.open_interest_usd,
        basis = excluded.basis, unit = coalesce(excluded.unit, known.unit)
    WHERE (known.open_interest, known.open_interest_usd, known.basis)
       IS DISTINCT FROM (excluded.open_interest, excluded.open_interest_usd, excluded.basis)
    RETURNING 1
)
SELECT count(*) AS stored FROM stored
