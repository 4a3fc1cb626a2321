-- Counts of requests while Redis, which counts them otherwise, is away. They are worth nothing after a crash.
CREATE UNLOGGED TABLE platform.rate_limits (
    user_id    integer          NOT NULL,
    endpoint   text COLLATE "C" NOT NULL,
    count      integer          NOT NULL,
    reset_time timestamptz      NOT NULL,
    PRIMARY KEY (user_id, endpoint)
);
CREATE INDEX ON platform.rate_limits (reset_time);
