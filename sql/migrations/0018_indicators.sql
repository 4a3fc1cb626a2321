-- Technical indicators over closed candles, computed by the daemon. `time` is when the candle opens, as in candles_*.
CREATE TABLE indicators_cache (
    time               timestamptz      NOT NULL,
    exchange           text COLLATE "C" NOT NULL,
    symbol             text COLLATE "C" NOT NULL,
    timeframe          text COLLATE "C" NOT NULL,
    indicator_name     text COLLATE "C" NOT NULL,
    value              numeric          CHECK (value > '-Infinity' AND value < 'Infinity'),
    indicator_metadata jsonb,
    created_at         timestamptz      NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX indicators_cache_unique ON indicators_cache (exchange, symbol, indicator_name, time);

-- Candles that a backfill may have changed: the daemon computes their values, and those that follow from them, again.
CREATE TABLE indicator_marks (
    id         bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    exchange   text COLLATE "C" NOT NULL,
    symbol     text COLLATE "C" NOT NULL,
    started_at timestamptz      NOT NULL,
    ended_at   timestamptz      NOT NULL,
    marked_at  timestamptz      NOT NULL DEFAULT now()
);
