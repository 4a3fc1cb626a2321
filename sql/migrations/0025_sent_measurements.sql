-- What becomes points of the line protocol without being in a journal.

-- The order in which events were stored, for whoever reads them one after the other. It never changes.
ALTER TABLE audit.trade_logs ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY;
CREATE UNIQUE INDEX trade_logs_seq ON audit.trade_logs (seq);

-- Values of indicators that were stored, or changed, and are not sent yet: by series, between these times of
-- indicators_cache. At most a row for each series, which grows while the server is away. Insert a row to have them sent.
CREATE TABLE indicator_changes (
    exchange   text COLLATE "C" NOT NULL,
    symbol     text COLLATE "C" NOT NULL,
    timeframe  text COLLATE "C" NOT NULL,
    started_at timestamptz      NOT NULL,
    ended_at   timestamptz      NOT NULL,
    version    bigint           NOT NULL DEFAULT 1,
    PRIMARY KEY (exchange, symbol, timeframe)
);
