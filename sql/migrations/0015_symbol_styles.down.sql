-- Earlier versions know the unified style only, and would take what is stored for it.
DO $$
BEGIN
    IF EXISTS (SELECT FROM ingestd_settings WHERE name LIKE 'symbol_style%' AND value <> 'unified') THEN
        RAISE EXCEPTION 'symbols are stored in another style than unified: convert them first, with
database.symbol_style = "unified" and ingestd migrate --rename-symbols';
    END IF;
END
$$;
DROP TABLE ingestd_settings;
ALTER TABLE symbols DROP CONSTRAINT symbols_venue_name_unique;
ALTER TABLE symbols DROP COLUMN venue_name;
CREATE OR REPLACE FUNCTION ingestd_counted_base(exchange text, symbol text)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN symbol NOT LIKE '%:%'
       OR (exchange IN ('binance', 'binanceusdm', 'bybit') AND symbol ~ '/([^:/]+):\1(-|$)');
