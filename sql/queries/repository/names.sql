-- For each name of a market that was asked for: the market that has it, and the style in which the tables hold symbols.
-- If it is a name of several markets, the one counts that has it in that style.
WITH style AS (
    SELECT max(value) FILTER (WHERE name = 'symbol_style')      AS recorded,
           max(value) FILTER (WHERE name = 'symbol_style_next') AS following
    FROM public.ingestd_settings
)
SELECT asked.exchange, asked.name, style.recorded, style.following, market.symbol, market.venue_name, market.linear,
       market.contract_size, market.quantity_unit, market.open_interest_unit
FROM unnest($1::text[], $2::text[]) AS asked (exchange, name)
CROSS JOIN style
LEFT JOIN LATERAL (
    SELECT *
    FROM public.symbols AS known
    WHERE (known.exchange = asked.exchange COLLATE "C" AND known.symbol = asked.name COLLATE "C")
       OR (known.exchange = asked.exchange COLLATE "C" AND known.compact = asked.name COLLATE "C")
       OR (known.exchange = asked.exchange COLLATE "C" AND known.dash = asked.name COLLATE "C")
       OR (known.exchange = asked.exchange COLLATE "C" AND known.venue_name = asked.name COLLATE "C")
       OR (known.exchange = asked.exchange COLLATE "C" AND known.market_id = asked.name COLLATE "C")
    ORDER BY CASE style.recorded WHEN 'compact' THEN known.compact WHEN 'dash' THEN known.dash
                                 WHEN 'venue' THEN coalesce(known.venue_name, '') ELSE known.symbol END
                 = asked.name COLLATE "C" DESC,
             known.symbol = asked.name COLLATE "C" DESC,
             known.compact = asked.name COLLATE "C" DESC,
             known.dash = asked.name COLLATE "C" DESC,
             coalesce(known.venue_name = asked.name COLLATE "C", false) DESC,
             known.status = 'deprecated',
             known.type IS DISTINCT FROM 'spot'
    LIMIT 1
) AS market ON true
