-- Balances of accounts: what a snapshot said, and what fills, fees and open LIMIT orders have moved since.

-- What the daemon reports of itself and of what it finds wrong in events.
CREATE TABLE audit.system_events (
    id         uuid        PRIMARY KEY,
    timestamp  timestamptz NOT NULL,
    event_type text        NOT NULL,
    severity   text        NOT NULL CHECK (severity IN ('INFO', 'WARNING', 'ERROR', 'CRITICAL')),
    component  text,
    message    text,
    metadata   jsonb,
    created_at timestamptz DEFAULT now()
);
CREATE INDEX system_events_timestamp ON audit.system_events (timestamp);
CREATE INDEX system_events_type ON audit.system_events (event_type, timestamp DESC);

-- `is_negative` remembers that system_events has a row about it.
CREATE TABLE balances (
    asset       text COLLATE "C" NOT NULL,
    exchange    text COLLATE "C" NOT NULL,
    available   numeric          NOT NULL,
    locked      numeric          NOT NULL DEFAULT 0,
    snapshot_at timestamptz,
    snapshot_id uuid,
    is_negative boolean          NOT NULL DEFAULT false,
    updated_at  timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (asset, exchange)
);

-- The currencies that a fill moves, settled with the order; NULL: it moves none (a contract), or they are not known.
ALTER TABLE orders ADD COLUMN base_asset text COLLATE "C";
ALTER TABLE orders ADD COLUMN quote_asset text COLLATE "C";
ALTER TABLE executions ADD COLUMN base_asset text COLLATE "C";
ALTER TABLE executions ADD COLUMN quote_asset text COLLATE "C";

-- A snapshot is followed by a look for what happened after it.
CREATE INDEX orders_submitted_at ON orders (submitted_at);
CREATE INDEX executions_executed_at ON executions (executed_at);
CREATE INDEX order_endings_ended_at ON order_endings (ended_at);

-- Base and quote currency of a spot market, {NULL,NULL} of a contract. A market that is not known has them if its name
-- separates two words: BTC-USD.
CREATE FUNCTION ingestd_spot_pair(exchange text, name text)
RETURNS text[] LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce((
    SELECT CASE WHEN symbols.type = 'spot' THEN ARRAY[symbols.base_currency, symbols.quote_currency]
                ELSE ARRAY[NULL, NULL]::text[] END
    FROM symbols
    WHERE symbols.exchange = ingestd_spot_pair.exchange COLLATE "C"
      AND (symbols.symbol = ingestd_spot_pair.name COLLATE "C"
           OR symbols.compact = ingestd_spot_pair.name COLLATE "C"
           OR symbols.dash = ingestd_spot_pair.name COLLATE "C"
           OR symbols.venue_name = ingestd_spot_pair.name COLLATE "C")
    ORDER BY symbols.symbol <> ingestd_spot_pair.name COLLATE "C",
             symbols.compact <> ingestd_spot_pair.name COLLATE "C",
             symbols.dash <> ingestd_spot_pair.name COLLATE "C"
    LIMIT 1
), regexp_match(upper(name), '^([^-/_:.]+)[-/_](?!PERP|SWAP|FUT|[0-9])([^-/_:.]+)$'));

-- What these orders have moved, and when: `total` is what the account has of the asset, `locked` the part of it that an
-- open LIMIT order holds (its quantity of the base currency to sell, or the quote currency to buy for).
-- An execution before the order's submission, by its time, counts as one at the submission where the lock is concerned;
-- an execution after the order's end unlocks nothing.
CREATE FUNCTION ingestd_balance_moves(order_ids text[])
RETURNS TABLE (exchange text, asset text, at timestamptz, total numeric, locked numeric)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH placed AS (
        SELECT orders.order_id, orders.exchange, orders.side, orders.submitted_at, orders.quantity, ended.ended_at,
               CASE orders.side WHEN 'buy' THEN orders.quote_asset ELSE orders.base_asset END AS asset,
               CASE WHEN upper(orders.order_type) = 'LIMIT' AND orders.submitted_at IS NOT NULL
                    THEN CASE orders.side WHEN 'buy' THEN orders.price WHEN 'sell' THEN 1 END END AS each_locks
        FROM orders LEFT JOIN LATERAL (
            SELECT min(order_endings.ended_at) AS ended_at
            FROM order_endings WHERE order_endings.order_id = orders.order_id
        ) AS ended ON true
        WHERE orders.order_id = ANY (order_ids)
    ), filled AS (
        SELECT executions.*, placed.exchange AS order_exchange, placed.asset, placed.submitted_at, placed.each_locks,
               coalesce(executions.side, placed.side) AS taken_side,
               placed.quantity AS ordered,
               placed.ended_at IS NULL OR executions.executed_at <= placed.ended_at AS in_time,
               sum(executions.quantity) OVER (PARTITION BY executions.order_id
                                              ORDER BY executions.executed_at, executions.id) AS filled_quantity
        FROM executions JOIN placed USING (order_id)
    ), left_over AS (
        SELECT placed.*, greatest(placed.quantity - coalesce(sum(filled.quantity) FILTER (WHERE filled.in_time), 0), 0)
                         AS remaining
        FROM placed LEFT JOIN filled USING (order_id)
        GROUP BY placed.order_id, placed.exchange, placed.side, placed.submitted_at, placed.quantity, placed.ended_at,
                 placed.asset, placed.each_locks
    ), moved AS (
        SELECT filled.exchange, filled.base_asset AS asset, filled.executed_at AS at,
               CASE filled.taken_side WHEN 'buy' THEN filled.quantity WHEN 'sell' THEN -filled.quantity END AS total,
               0 AS locked
        FROM filled
        UNION ALL
        SELECT filled.exchange, filled.quote_asset, filled.executed_at,
               CASE filled.taken_side WHEN 'buy' THEN -1 WHEN 'sell' THEN 1 END * filled.quantity * filled.price, 0
        FROM filled
        UNION ALL
        SELECT filled.exchange, coalesce(filled.fee_currency, filled.quote_asset), filled.executed_at, -filled.fee, 0
        FROM filled
        UNION ALL
        SELECT placed.exchange, placed.asset, placed.submitted_at, 0, placed.each_locks * placed.quantity
        FROM placed
        UNION ALL
        SELECT filled.order_exchange, filled.asset, greatest(filled.executed_at, filled.submitted_at), 0,
               -filled.each_locks * (least(filled.ordered, filled.filled_quantity)
                                     - least(filled.ordered, filled.filled_quantity - filled.quantity))
        FROM filled WHERE filled.in_time
        UNION ALL
        SELECT left_over.exchange, left_over.asset, greatest(left_over.ended_at, left_over.submitted_at), 0,
               -left_over.each_locks * left_over.remaining
        FROM left_over WHERE left_over.ended_at IS NOT NULL
    )
    SELECT moved.exchange, moved.asset, moved.at, moved.total, moved.locked FROM moved
    WHERE moved.exchange IS NOT NULL AND moved.asset IS NOT NULL AND moved.total IS NOT NULL
      AND moved.locked IS NOT NULL;
END;

-- What was stored before is counted too.
UPDATE orders SET base_asset = pair[1], quote_asset = pair[2]
FROM (SELECT order_id, ingestd_spot_pair(exchange, symbol) AS pair FROM orders) AS known
WHERE known.order_id = orders.order_id;
UPDATE executions SET base_asset = pair[1], quote_asset = pair[2]
FROM (SELECT id, ingestd_spot_pair(exchange, symbol) AS pair FROM executions) AS known
WHERE known.id = executions.id;
INSERT INTO balances (asset, exchange, available, locked)
SELECT asset, exchange, sum(total) - sum(locked), sum(locked)
FROM ingestd_balance_moves(ARRAY(SELECT order_id FROM orders))
GROUP BY asset, exchange;
