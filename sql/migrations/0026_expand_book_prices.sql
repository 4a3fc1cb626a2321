-- The best prices of a book as columns: to read a spread, a query need not unpack the levels of both sides.
-- The statement beside this file (.backfill.sql) fills them in the rows that are there. See docs/operations.md, "Changing
-- the schema while it runs".

ALTER TABLE order_book ADD COLUMN bid_price numeric;
ALTER TABLE order_book ADD COLUMN ask_price numeric;

-- NULL: an empty side, or one that another program wrote in a form of its own.
CREATE FUNCTION ingestd_best_price(levels jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(levels -> 0 -> 'price') = 'number' THEN (levels -> 0 -> 'price')::numeric END;

-- A daemon of the version before does not know the columns: this fills them for it, until 0027.
CREATE FUNCTION ingestd_fill_book_prices() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.bid_price := public.ingestd_best_price(NEW.bids);
    NEW.ask_price := public.ingestd_best_price(NEW.asks);
    RETURN NEW;
END
$$;
CREATE TRIGGER ingestd_book_prices BEFORE INSERT ON order_book FOR EACH ROW
    WHEN (NEW.bid_price IS NULL AND NEW.ask_price IS NULL) EXECUTE FUNCTION ingestd_fill_book_prices();

-- Which migration the writer of a position knows: that of its last move, if `schema_position` is the position.
ALTER TABLE ingest_positions ADD COLUMN schema_version integer;
ALTER TABLE ingest_positions ADD COLUMN schema_position bigint;

-- How far backfills have come: one row a stretch of time, which is a chunk on TimescaleDB. `exchange`, `symbol` and
-- `until`: where it goes on; `done_at`: when the stretch was finished.
CREATE TABLE ingestd_backfills (
    version    integer          NOT NULL,
    started_at timestamptz      NOT NULL,
    exchange   text COLLATE "C" NOT NULL,
    symbol     text COLLATE "C" NOT NULL,
    until      timestamptz      NOT NULL,
    rows       bigint           NOT NULL,
    done_at    timestamptz,
    PRIMARY KEY (version, started_at)
);
