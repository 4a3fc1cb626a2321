DROP INDEX symbols_market_id;

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
           OR symbols.venue_name = ingestd_stored_symbol.name COLLATE "C")
    ORDER BY symbols.symbol <> ingestd_stored_symbol.name COLLATE "C",
             symbols.compact <> ingestd_stored_symbol.name COLLATE "C",
             symbols.dash <> ingestd_stored_symbol.name COLLATE "C"
    LIMIT 1
), name);
