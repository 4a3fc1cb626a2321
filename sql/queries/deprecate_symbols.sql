-- Markets that their venue no longer lists. A list may leave out a whole kind of markets, of which it then says nothing.
-- A name that the venue has given to another market is free, unless the tables hold that market under another one.
WITH listed AS (
    SELECT *
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[])
        AS market (exchange, symbol, venue_name, type, linear)
)
UPDATE symbols AS known
SET status = 'deprecated', updated_at = now(),
    venue_name = CASE WHEN EXISTS (
                          SELECT FROM listed
                          WHERE (listed.exchange, listed.venue_name) = (known.exchange, known.venue_name)
                            AND NOT EXISTS (SELECT FROM symbols AS other JOIN ingestd_settings ON name = 'symbol_style'
                                            WHERE (other.exchange, other.symbol) = (listed.exchange, listed.symbol)
                                              AND other.venue_name IS NOT NULL AND value = 'venue'))
                      THEN NULL ELSE known.venue_name END
WHERE known.status <> 'deprecated'
  AND EXISTS (SELECT FROM listed
              WHERE (listed.exchange, listed.type) = (known.exchange, known.type)
                AND listed.linear IS NOT DISTINCT FROM known.linear)
  AND NOT EXISTS (SELECT FROM listed WHERE (listed.exchange, listed.symbol) = (known.exchange, known.symbol))
