INSERT INTO symbols AS known (exchange, symbol, market_id, compact, dash, venue_name, base_currency, quote_currency,
                              type, status, min_order_size, max_order_size, price_precision, quantity_precision, linear,
                              contract_size, quantity_unit, open_interest_unit)
SELECT market.exchange, market.symbol, market_id, compact, dash, coalesce(stored.venue_name, market.venue_name),
       base_currency, quote_currency, type, status, min_order_size, max_order_size, price_precision, quantity_precision,
       linear, contract_size, quantity_unit, open_interest_unit
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::numeric[], $12::numeric[], $13::integer[], $14::integer[], $15::boolean[], $16::numeric[],
            $17::text[], $18::text[])
    AS market (exchange, symbol, market_id, compact, dash, venue_name, base_currency, quote_currency, type, status,
               min_order_size, max_order_size, price_precision, quantity_precision, linear, contract_size,
               quantity_unit, open_interest_unit)
LEFT JOIN LATERAL (
    -- Where the tables hold the venue's own names, a market keeps the one that its rows have.
    SELECT venue_name FROM symbols
    WHERE (symbols.exchange, symbols.symbol) = (market.exchange COLLATE "C", market.symbol COLLATE "C")
      AND EXISTS (SELECT FROM ingestd_settings WHERE name = 'symbol_style' AND value = 'venue')
) AS stored ON true
ON CONFLICT (exchange, symbol) DO UPDATE
SET market_id = excluded.market_id, compact = excluded.compact, dash = excluded.dash,
    venue_name = excluded.venue_name, base_currency = excluded.base_currency,
    quote_currency = excluded.quote_currency, type = excluded.type, status = excluded.status,
    min_order_size = excluded.min_order_size, max_order_size = excluded.max_order_size,
    price_precision = excluded.price_precision, quantity_precision = excluded.quantity_precision,
    linear = excluded.linear, contract_size = excluded.contract_size, quantity_unit = excluded.quantity_unit,
    open_interest_unit = excluded.open_interest_unit, updated_at = now()
WHERE (known.market_id, known.compact, known.dash, known.venue_name, known.base_currency, known.quote_currency,
       known.type, known.status, known.min_order_size, known.max_order_size, known.price_precision,
       known.quantity_precision, known.linear, known.contract_size, known.quantity_unit, known.open_interest_unit)
   IS DISTINCT FROM
      (excluded.market_id, excluded.compact, excluded.dash, excluded.venue_name, excluded.base_currency,
       excluded.quote_currency, excluded.type, excluded.status, excluded.min_order_size, excluded.max_order_size,
       excluded.price_precision, excluded.quantity_precision, excluded.linear, excluded.contract_size,
       excluded.quantity_unit, excluded.open_interest_unit)
