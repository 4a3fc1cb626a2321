-- Who captures: one row a term. The newest epoch of a lease is the one that counts; the others are its history, which
-- says whose records of which stretch are in the tables. All times by this server's clock.
CREATE TABLE ingest_leases (
    lease      text        NOT NULL,
    epoch      bigint      NOT NULL,
    holder     text        NOT NULL,
    taken_at   timestamptz NOT NULL,
    renewed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (lease, epoch)
) WITH (fillfactor = 50);
