-- Orders end in other ways than by being filled, and events name a market as the program that sent them does.

-- The name that the tables hold for a market (`symbol_style`), from any of its four names; the name itself if it is not
-- known. A name of two markets means the one that it is the unified symbol of, else the compact name, else the dash name.
CREATE FUNCTION ingestd_stored_symbol(exchange text, name text)
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

-- Reports that an order will not be filled further. Of several for one order the earliest counts.
CREATE TABLE order_endings (
    id              uuid             PRIMARY KEY,
    order_id        text COLLATE "C" NOT NULL,
    stated_exchange text COLLATE "C",
    stated_symbol   text COLLATE "C" NOT NULL,
    side            text             CHECK (side IN ('buy', 'sell')),
    ending          text             NOT NULL CHECK (ending IN ('REJECTED', 'CANCELLED', 'EXPIRED')),
    reason          text,
    ended_at        timestamptz      NOT NULL
);
CREATE INDEX order_endings_order_id ON order_endings (order_id);

-- What accounts held, as their exchanges reported it: a row for each asset of a snapshot.
CREATE TABLE balance_snapshots (
    id        uuid             NOT NULL,
    exchange  text COLLATE "C" NOT NULL,
    asset     text COLLATE "C" NOT NULL,
    available numeric          NOT NULL CHECK (available > '-Infinity' AND available < 'Infinity'),
    locked    numeric          NOT NULL CHECK (locked > '-Infinity' AND locked < 'Infinity'),
    taken_at  timestamptz      NOT NULL,
    PRIMARY KEY (id, asset)
);
CREATE INDEX balance_snapshots_asset ON balance_snapshots (exchange, asset, taken_at DESC);

-- `stated_…` is what the event itself said: `exchange` and `symbol` are computed from it again whenever more is known.
ALTER TABLE orders ADD COLUMN ended_at timestamptz;
ALTER TABLE orders ADD COLUMN error_message text;
ALTER TABLE orders ADD COLUMN stated_exchange text COLLATE "C";
ALTER TABLE orders ADD COLUMN stated_symbol text COLLATE "C";
ALTER TABLE orders DROP CONSTRAINT orders_status_check;
ALTER TABLE orders ADD CONSTRAINT orders_status_check
    CHECK (status IN ('PENDING', 'PARTIALLY_FILLED', 'FILLED', 'REJECTED', 'CANCELLED', 'EXPIRED'));
UPDATE orders SET stated_exchange = exchange, stated_symbol = symbol WHERE submitted_at IS NOT NULL;

ALTER TABLE executions ADD COLUMN fee_currency text COLLATE "C";
ALTER TABLE executions ADD COLUMN stated_exchange text COLLATE "C";
ALTER TABLE executions ADD COLUMN stated_symbol text COLLATE "C";
UPDATE executions SET stated_exchange = exchange, stated_symbol = symbol;
