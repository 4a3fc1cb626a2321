-- Our one-minute candles against the venue's own: a row for each minute that disagrees, and what was found.
CREATE TABLE candle_audit (
    id           bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    checked_at   timestamptz      NOT NULL DEFAULT now(),
    exchange     text COLLATE "C" NOT NULL,
    symbol       text COLLATE "C" NOT NULL,
    bucket_start timestamptz      NOT NULL,
    fields       text             NOT NULL, -- which differ, such as 'low, volume'; 'missing' where we have no candle
    open         numeric,
    high         numeric,
    low          numeric,
    close        numeric,
    volume       numeric,
    venue_open   numeric          NOT NULL,
    venue_high   numeric          NOT NULL,
    venue_low    numeric          NOT NULL,
    venue_close  numeric          NOT NULL,
    venue_volume numeric          NOT NULL,
    UNIQUE (exchange, symbol, bucket_start)
);
CREATE INDEX candle_audit_checked_at ON candle_audit (checked_at);

-- Venues that asked to be left alone, and until when: kept here so that a restart or another process does not ask.
CREATE TABLE venue_pauses (
    exchange text COLLATE "C" PRIMARY KEY,
    until    timestamptz      NOT NULL,
    reason   text             NOT NULL
);
