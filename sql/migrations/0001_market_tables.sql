-- The market tables. Prices and sizes are NUMERIC without a scale: what the exchange wrote is what is stored.
-- Names and trade ids compare byte by byte ("C"): the same order on every server, and cheaper indexes.
-- NaN and the infinities pass every other test of NUMERIC (NaN is greater than all), hence the finite checks.

CREATE TABLE market_ticks (
    time        timestamptz      NOT NULL,
    exchange    text COLLATE "C" NOT NULL,
    symbol      text COLLATE "C" NOT NULL,
    bid_price   numeric          CHECK (bid_price > '-Infinity' AND bid_price < 'Infinity'),
    bid_volume  numeric          CHECK (bid_volume >= 0 AND bid_volume < 'Infinity'),
    ask_price   numeric          CHECK (ask_price > '-Infinity' AND ask_price < 'Infinity'),
    ask_volume  numeric          CHECK (ask_volume >= 0 AND ask_volume < 'Infinity'),
    received_at timestamptz      NOT NULL
);
CREATE INDEX market_ticks_symbol_time ON market_ticks (exchange, symbol, time DESC);

CREATE TABLE trades (
    time        timestamptz      NOT NULL,
    exchange    text COLLATE "C" NOT NULL,
    symbol      text COLLATE "C" NOT NULL,
    trade_id    text COLLATE "C" NOT NULL,
    seq         bigint           NOT NULL,
    side        text             CHECK (side IN ('buy', 'sell')),
    price       numeric          NOT NULL CHECK (price > '-Infinity' AND price < 'Infinity'),
    quantity    numeric          NOT NULL CHECK (quantity >= 0 AND quantity < 'Infinity'),
    received_at timestamptz      NOT NULL
);
-- The time before the id: one index then answers both "is it there?" and "this symbol, this hour". With the id first a
-- second index by time is needed, and COPY loses a third of its rate.
CREATE UNIQUE INDEX trades_unique ON trades (exchange, symbol, time, trade_id);

CREATE TABLE order_book (
    time        timestamptz      NOT NULL,
    exchange    text COLLATE "C" NOT NULL,
    symbol      text COLLATE "C" NOT NULL,
    bids        jsonb            NOT NULL,
    asks        jsonb            NOT NULL,
    sequence    bigint,
    valid       boolean          NOT NULL,
    received_at timestamptz      NOT NULL
);
CREATE INDEX order_book_symbol_time ON order_book (exchange, symbol, time DESC);

CREATE TABLE oi_snapshots (
    time              timestamptz      NOT NULL,
    exchange          text COLLATE "C" NOT NULL,
    symbol            text COLLATE "C" NOT NULL,
    open_interest     numeric          NOT NULL CHECK (open_interest >= 0 AND open_interest < 'Infinity'),
    open_interest_usd numeric          CHECK (open_interest_usd >= 0 AND open_interest_usd < 'Infinity'),
    basis             numeric          CHECK (basis > '-Infinity' AND basis < 'Infinity'),
    received_at       timestamptz      NOT NULL
);
CREATE UNIQUE INDEX oi_snapshots_unique ON oi_snapshots (exchange, symbol, time);

CREATE TABLE funding (
    time              timestamptz      NOT NULL,
    exchange          text COLLATE "C" NOT NULL,
    symbol            text COLLATE "C" NOT NULL,
    funding_rate      numeric          NOT NULL CHECK (funding_rate > '-Infinity' AND funding_rate < 'Infinity'),
    next_funding_time timestamptz,
    annualised_rate   numeric          CHECK (annualised_rate > '-Infinity' AND annualised_rate < 'Infinity'),
    payment           numeric          CHECK (payment > '-Infinity' AND payment < 'Infinity'),
    mark_price        numeric          CHECK (mark_price > '-Infinity' AND mark_price < 'Infinity'),
    received_at       timestamptz      NOT NULL
);
CREATE UNIQUE INDEX funding_unique ON funding (exchange, symbol, time);

-- Candles as the exchange reports them; those made from our own trades are candles_1m and so on.
CREATE TABLE ohlcv_data (
    time                   timestamptz      NOT NULL,
    exchange               text COLLATE "C" NOT NULL,
    symbol                 text COLLATE "C" NOT NULL,
    timeframe              text COLLATE "C" NOT NULL,
    open                   numeric          NOT NULL CHECK (open > '-Infinity' AND open < 'Infinity'),
    high                   numeric          NOT NULL CHECK (high > '-Infinity' AND high < 'Infinity'),
    low                    numeric          NOT NULL CHECK (low > '-Infinity' AND low < 'Infinity'),
    close                  numeric          NOT NULL CHECK (close > '-Infinity' AND close < 'Infinity'),
    volume                 numeric          NOT NULL CHECK (volume >= 0 AND volume < 'Infinity'),
    quote_volume           numeric          CHECK (quote_volume >= 0 AND quote_volume < 'Infinity'),
    trades_count           integer          CHECK (trades_count >= 0),
    taker_buy_base_volume  numeric          CHECK (taker_buy_base_volume >= 0 AND taker_buy_base_volume < 'Infinity'),
    taker_buy_quote_volume numeric          CHECK (taker_buy_quote_volume >= 0 AND taker_buy_quote_volume < 'Infinity'),
    created_at             timestamptz      NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX ohlcv_data_unique ON ohlcv_data (exchange, symbol, timeframe, time);

CREATE TABLE symbols (
    exchange           text COLLATE "C" NOT NULL,
    symbol             text COLLATE "C" NOT NULL,
    market_id          text,
    compact            text COLLATE "C" NOT NULL,
    base_currency      text,
    quote_currency     text,
    type               text,
    status             text             NOT NULL DEFAULT 'active',
    min_order_size     numeric,
    max_order_size     numeric,
    price_precision    integer,
    quantity_precision integer,
    updated_at         timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (exchange, symbol)
);
CREATE INDEX symbols_compact ON symbols (compact);

-- What may be missing, and what became of it.
CREATE TABLE feed_gaps (
    id             bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    exchange       text COLLATE "C" NOT NULL,
    symbol         text COLLATE "C" NOT NULL,
    channel        text             NOT NULL,
    started_at     timestamptz      NOT NULL,
    ended_at       timestamptz,
    cause          text             NOT NULL,
    status         text             NOT NULL DEFAULT 'open',
    recovered_rows bigint           NOT NULL DEFAULT 0,
    detail         text,
    UNIQUE (exchange, symbol, channel, started_at)
);
CREATE INDEX feed_gaps_started_at ON feed_gaps (started_at);

-- Records that a table would not take, with the reason.
CREATE TABLE rejected_records (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    table_name text        NOT NULL,
    reason     text        NOT NULL,
    sqlstate   text,
    record     jsonb       NOT NULL,
    error      text
);
CREATE INDEX rejected_records_at ON rejected_records (at);

-- How far each source has been stored; written in the transaction that stores the rows.
CREATE TABLE ingest_positions (
    source     text        PRIMARY KEY,
    position   bigint      NOT NULL,
    epoch      bigint      NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
