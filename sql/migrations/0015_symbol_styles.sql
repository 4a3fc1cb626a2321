-- Symbols may be stored in other styles than the unified one: BTCUSDT, BTC-USDT, or the venue's own name.

-- What the database was set up with. Only `ingestd migrate` changes it.
CREATE TABLE ingestd_settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- The venue's own name of a market, unique within the venue: market_id, with `.P` or the like behind it where the venue
-- calls its spot market the same. NULL until the daemon lists the venue's markets again (at its start).
ALTER TABLE symbols ADD COLUMN venue_name text COLLATE "C";
ALTER TABLE symbols ADD CONSTRAINT symbols_venue_name_unique UNIQUE (exchange, venue_name)
    DEFERRABLE INITIALLY IMMEDIATE;

-- As in 0009, but a colon makes a contract only behind a slash: some venues' own names have one. In another style than
-- the unified one every trade of a contract says what it counts.
CREATE OR REPLACE FUNCTION ingestd_counted_base(exchange text, symbol text)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN symbol NOT LIKE '%/%:%'
       OR (exchange IN ('binance', 'binanceusdm', 'bybit') AND symbol ~ '/([^:/]+):\1(-|$)');
