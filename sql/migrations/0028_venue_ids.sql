-- Programs name a market by the id that its venue has now, also where the tables hold the one that it had before.
CREATE INDEX symbols_market_id ON symbols (exchange, market_id COLLATE "C");

-- As in 0016, and also by the venue's present id, which counts last: two markets may have the same.
CREATE OR REPLACE FUNCTION ingestd_stored_symbol(exchange text, name text)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce((
    SELECT CASE (SELECT value FROM ingestd_settings WHERE ingestd_settings.name = 'symbol_style')
               WHEN 'compact' THEN symbols.compact WHEN 'dash' THEN symbols.dash WHEN 'venue' THEN symbols.venue_name
               ELSE symbols.symbol END
    FROM symbols
    WHERE symbols.exchange = ingestd_stored_symbol.exchange COLLATE "C"
      AND (symbols.symbol = ingestd_stored_symbol.name COLLATE "C"
           OR symbols.compact = ingestd_stored_symbol.name COLLATE "C"
           OR symbols.dash = ingestd_stored_symbol.name COLLATE "C"
           OR symbols.venue_name = ingestd_stored_symbol.name COLLATE "C"
           OR symbols.market_id = ingestd_stored_symbol.name COLLATE "C")
    ORDER BY symbols.symbol <> ingestd_stored_symbol.name COLLATE "C",
             symbols.compact <> ingestd_stored_symbol.name COLLATE "C",
             symbols.dash <> ingestd_stored_symbol.name COLLATE "C",
             symbols.venue_name IS DISTINCT FROM ingestd_stored_symbol.name COLLATE "C",
             symbols.status = 'deprecated',
             symbols.type IS DISTINCT FROM 'spot'
    LIMIT 1
), name);
