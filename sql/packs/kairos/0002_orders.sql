-- Orders as kairos reads them: a table of its own, kept by a trigger on the orders that events fill, so that both change
-- in one transaction. Numbers keep all of their digits. What only a submission says (side, type, quantity) is NULL while
-- just executions of the order are known.
SET LOCAL search_path = kairos, public;

\ir ../uuid_v5.sql

CREATE TABLE kairos.orders (
    id              uuid             PRIMARY KEY,
    symbol          text COLLATE "C" NOT NULL,
    exchange        text COLLATE "C" NOT NULL,
    side            text             CHECK (side IN ('BUY', 'SELL')),
    order_type      text,
    quantity        numeric,
    price           numeric,
    filled_quantity numeric          DEFAULT 0,
    avg_price       numeric,
    status          text             NOT NULL,
    created_at      timestamptz      NOT NULL DEFAULT now(),
    filled_at       timestamptz,
    client_id       uuid,
    error_message   text,
    order_id        text COLLATE "C"
);
CREATE INDEX idx_orders_symbol ON kairos.orders (symbol);
CREATE INDEX idx_orders_created_at ON kairos.orders (created_at DESC);
CREATE INDEX idx_orders_status ON kairos.orders (status);

-- With the owner's rights: who may write an order needs no right on this schema.
CREATE FUNCTION kairos.keep_order() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kairos, public, pg_temp AS $$
BEGIN
    IF NEW.symbol IS NULL THEN
        RETURN NULL; -- a row that is made first and filled in the same transaction
    END IF;
    INSERT INTO kairos.orders AS known
    VALUES (kairos.uuid_of(NEW.order_id), NEW.symbol, coalesce(NEW.exchange, 'unknown'), upper(NEW.side),
            upper(NEW.order_type), NEW.quantity, NEW.price, NEW.filled_quantity, NEW.avg_price, NEW.status,
            coalesce(NEW.submitted_at,
                     (SELECT min(executed_at) FROM public.executions WHERE executions.order_id = NEW.order_id),
                     NEW.ended_at, NEW.updated_at),
            NEW.filled_at, kairos.uuid_of(NEW.client_id), NEW.error_message, NEW.order_id)
    ON CONFLICT (id) DO UPDATE
    SET symbol = excluded.symbol, exchange = excluded.exchange, side = excluded.side,
        order_type = excluded.order_type, quantity = excluded.quantity, price = excluded.price,
        filled_quantity = excluded.filled_quantity, avg_price = excluded.avg_price, status = excluded.status,
        created_at = excluded.created_at, filled_at = excluded.filled_at, client_id = excluded.client_id,
        error_message = excluded.error_message, order_id = excluded.order_id;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION kairos.keep_order() FROM PUBLIC;

CREATE TRIGGER ingestd_kairos_orders AFTER INSERT OR UPDATE ON public.orders
    FOR EACH ROW EXECUTE FUNCTION kairos.keep_order();

-- The orders that are there already. No order changes meanwhile: the trigger's creation has locked the table.
UPDATE public.orders SET updated_at = updated_at;
