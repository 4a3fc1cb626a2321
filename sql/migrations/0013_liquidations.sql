-- Orders with which an exchange closes a position by force. Few exchanges give them ids: two are the same if they agree
-- in all that is said of them.
CREATE TABLE liquidations (
    time        timestamptz      NOT NULL,
    exchange    text COLLATE "C" NOT NULL,
    symbol      text COLLATE "C" NOT NULL,
    side        text COLLATE "C" NOT NULL CHECK (side IN ('buy', 'sell')),
    price       numeric          NOT NULL CHECK (price > '-Infinity' AND price < 'Infinity'),
    quantity    numeric          NOT NULL CHECK (quantity >= 0 AND quantity < 'Infinity'),
    order_id    text COLLATE "C",
    received_at timestamptz      NOT NULL
);
CREATE UNIQUE INDEX liquidations_unique ON liquidations (exchange, symbol, time, side, price, quantity);
