-- What trading programs publish: orders, their executions, completed trades, and the audit log of all three.
-- Filled by the consumers of wolfinch.orders.submitted, wolfinch.orders.executed and wolfinch.trades.completed, in any
-- order and however often: every key comes from the event itself.

-- What is known of an order: its submission, and the sum of its executions. One that was executed before its submission
-- arrived has a row too; what only the submission can say is NULL in it.
CREATE TABLE orders (
    order_id        text COLLATE "C" PRIMARY KEY,
    exchange        text COLLATE "C",
    symbol          text COLLATE "C",
    side            text             CHECK (side IN ('buy', 'sell')),
    order_type      text,
    quantity        numeric          CHECK (quantity >= 0 AND quantity < 'Infinity'),
    price           numeric          CHECK (price > '-Infinity' AND price < 'Infinity'),
    filled_quantity numeric          NOT NULL DEFAULT 0 CHECK (filled_quantity >= 0 AND filled_quantity < 'Infinity'),
    avg_price       numeric          CHECK (avg_price > '-Infinity' AND avg_price < 'Infinity'),
    status          text             NOT NULL CHECK (status IN ('PENDING', 'PARTIALLY_FILLED', 'FILLED')),
    strategy        text,
    client_id       text,
    submitted_at    timestamptz,
    filled_at       timestamptz,
    submission_id   uuid,
    updated_at      timestamptz      NOT NULL DEFAULT now()
);
CREATE INDEX orders_symbol_submitted_at ON orders (symbol, submitted_at DESC);
CREATE INDEX orders_status ON orders (status) WHERE status <> 'FILLED';

CREATE TABLE executions (
    id          uuid             PRIMARY KEY,
    order_id    text COLLATE "C" NOT NULL,
    exchange    text COLLATE "C",
    symbol      text COLLATE "C" NOT NULL,
    side        text             CHECK (side IN ('buy', 'sell')),
    price       numeric          NOT NULL CHECK (price > '-Infinity' AND price < 'Infinity'),
    quantity    numeric          NOT NULL CHECK (quantity >= 0 AND quantity < 'Infinity'),
    fee         numeric          CHECK (fee > '-Infinity' AND fee < 'Infinity'),
    executed_at timestamptz      NOT NULL
);
CREATE INDEX executions_order_id ON executions (order_id);
CREATE INDEX executions_symbol_executed_at ON executions (symbol, executed_at DESC);

CREATE TABLE completed_trades (
    trade_id     text COLLATE "C" PRIMARY KEY,
    exchange     text COLLATE "C",
    symbol       text COLLATE "C" NOT NULL,
    side         text             CHECK (side IN ('buy', 'sell')),
    quantity     numeric          CHECK (quantity >= 0 AND quantity < 'Infinity'),
    entry_price  numeric          NOT NULL CHECK (entry_price > '-Infinity' AND entry_price < 'Infinity'),
    exit_price   numeric          NOT NULL CHECK (exit_price > '-Infinity' AND exit_price < 'Infinity'),
    pnl          numeric          NOT NULL CHECK (pnl > '-Infinity' AND pnl < 'Infinity'),
    strategy     text,
    completed_at timestamptz      NOT NULL,
    event_id     uuid             NOT NULL
);
CREATE INDEX completed_trades_strategy ON completed_trades (strategy, completed_at DESC);
CREATE INDEX completed_trades_symbol ON completed_trades (symbol, completed_at DESC);

CREATE SCHEMA audit;

-- One row an event; `id` is computed from the event, so a repeated one finds its row. Numbers keep all of their digits,
-- and texts are not cut.
CREATE TABLE audit.trade_logs (
    id         uuid        PRIMARY KEY,
    timestamp  timestamptz NOT NULL,
    exchange   text        NOT NULL,
    symbol     text        NOT NULL,
    action     text        NOT NULL,
    order_type text,
    quantity   numeric     CHECK (quantity > '-Infinity' AND quantity < 'Infinity'),
    price      numeric     CHECK (price > '-Infinity' AND price < 'Infinity'),
    status     text,
    order_id   text COLLATE "C",
    strategy   text,
    metadata   jsonb,
    created_at timestamptz DEFAULT now()
);
CREATE INDEX trade_logs_timestamp ON audit.trade_logs (timestamp);
CREATE INDEX trade_logs_order_id ON audit.trade_logs (order_id);
CREATE INDEX trade_logs_strategy ON audit.trade_logs (strategy, timestamp DESC);
