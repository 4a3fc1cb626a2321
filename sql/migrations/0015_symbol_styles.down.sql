CREATE OR REPLACE FUNCTION ingestd_counted_base(exchange text, symbol text)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN symbol NOT LIKE '%:%'
       OR (exchange IN ('binance', 'binanceusdm', 'bybit') AND symbol ~ '/([^:/]+):\1(-|$)');
ALTER TABLE symbols DROP CONSTRAINT symbols_venue_name_unique;
ALTER TABLE symbols DROP COLUMN venue_name;
DROP TABLE ingestd_settings;
