-- At what an exchange values a contract's positions, and its underlying where it says it.
CREATE TABLE mark_prices (
    time        timestamptz      NOT NULL,
    exchange    text COLLATE "C" NOT NULL,
    symbol      text COLLATE "C" NOT NULL,
    mark_price  numeric          NOT NULL CHECK (mark_price > '-Infinity' AND mark_price < 'Infinity'),
    index_price numeric          CHECK (index_price > '-Infinity' AND index_price < 'Infinity'),
    received_at timestamptz      NOT NULL
);
CREATE INDEX mark_prices_symbol_time ON mark_prices (exchange, symbol, time DESC);
