-- Open positions: what the executions of one exchange, symbol and strategy leave, kept in the transaction that stores one.
--
-- A buy adds to a position and a sale takes from it; one that takes more than there is turns it round. entry_price is the
-- average of what was added, which taking away does not change. fees are those that the executions state since the one
-- that opened the position, whose id is the position_id; it counts as a whole if it turned a position round. Executions
-- whose side is not known count from when it is.
-- A position that nothing is left of is open no longer; closed ones are those of completed trades.

ALTER TABLE platform.positions ADD COLUMN open_key text COLLATE "C" UNIQUE;

-- The position after each execution, so that a late one is counted from its place on. `quantity` is below 0 for sold ones,
-- `cost` what it was entered for.
CREATE TABLE platform.position_steps (
    execution_id uuid             PRIMARY KEY,
    open_key     text COLLATE "C" NOT NULL,
    executed_at  timestamptz      NOT NULL,
    moved        numeric          NOT NULL,
    quantity     numeric          NOT NULL,
    cost         numeric          NOT NULL,
    fees         numeric,
    opened_by    uuid,
    opened_at    timestamptz
);
CREATE INDEX ON platform.position_steps (open_key, executed_at, execution_id);

-- The executions whose side is known, as positions see them.
CREATE VIEW platform.position_moves AS
SELECT id, jsonb_build_array(executions.exchange, executions.symbol, strategy)::text COLLATE "C" AS open_key,
       executions.exchange, executions.symbol, strategy, executed_at, executions.price, fee, order_id,
       CASE coalesce(executions.side, orders.side) WHEN 'buy' THEN executions.quantity ELSE -executions.quantity END AS moved
FROM public.executions JOIN public.orders USING (order_id)
WHERE coalesce(executions.side, orders.side) IS NOT NULL;

CREATE FUNCTION platform.step(before platform.position_steps, move platform.position_moves)
RETURNS platform.position_steps
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    after platform.position_steps;
BEGIN
    after.execution_id := move.id;
    after.open_key := move.open_key;
    after.executed_at := move.executed_at;
    after.moved := move.moved;
    after.quantity := coalesce(before.quantity, 0) + move.moved;
    IF after.quantity = 0 THEN
        after.cost := 0;
    ELSIF before.quantity IS NULL OR sign(before.quantity) <> sign(after.quantity) THEN
        after.cost := abs(after.quantity) * move.price;
        after.fees := move.fee;
        after.opened_by := move.id;
        after.opened_at := move.executed_at;
    ELSE
        after.cost := CASE WHEN abs(after.quantity) >= abs(before.quantity)
                           THEN before.cost + abs(move.moved) * move.price
                           ELSE before.cost * after.quantity / before.quantity END;
        after.fees := CASE WHEN move.fee IS NULL THEN before.fees ELSE coalesce(before.fees, 0) + move.fee END;
        after.opened_by := before.opened_by;
        after.opened_at := before.opened_at;
    END IF;
    RETURN after;
END
$$;

-- Show the position that the last step of it leaves.
CREATE FUNCTION platform.show_position(move platform.position_moves, last platform.position_steps) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(last.quantity, 0) = 0 THEN
        DELETE FROM platform.positions WHERE open_key = move.open_key;
        RETURN;
    END IF;
    PERFORM platform.know_strategies(ARRAY[move.strategy]);
    INSERT INTO platform.positions AS known
        (position_id, symbol, exchange, side, quantity, entry_price, fees, opened_at, strategy_id, open_key)
    VALUES (last.opened_by::text, move.symbol, move.exchange, CASE WHEN last.quantity > 0 THEN 'buy' ELSE 'sell' END,
            abs(last.quantity), last.cost / abs(last.quantity), last.fees, last.opened_at,
            platform.strategy_id(move.strategy), move.open_key)
    ON CONFLICT (open_key) DO UPDATE
    SET position_id = excluded.position_id, side = excluded.side, quantity = excluded.quantity,
        entry_price = excluded.entry_price, fees = excluded.fees, opened_at = excluded.opened_at,
        strategy_id = excluded.strategy_id;
END
$$;

-- Bring the positions up to date with these executions, of which some may be counted already.
CREATE FUNCTION platform.keep_open(executions uuid[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    from_here platform.position_moves;
    move      platform.position_moves;
    last      platform.position_steps;
BEGIN
    FOR from_here IN
        WITH is_now AS MATERIALIZED (
            SELECT * FROM platform.position_moves WHERE id = ANY (executions)
        ), was AS (
            DELETE FROM platform.position_steps AS step
            WHERE execution_id = ANY (executions)
              AND NOT EXISTS (SELECT FROM is_now WHERE (is_now.id, is_now.open_key, is_now.moved)
                                                       = (step.execution_id, step.open_key, step.moved))
            RETURNING execution_id, open_key, executed_at
        ), changed AS (
            SELECT execution_id, open_key, executed_at FROM was
            UNION ALL
            SELECT id, open_key, executed_at FROM is_now
            WHERE NOT EXISTS (SELECT FROM platform.position_steps AS step
                              WHERE (step.execution_id, step.open_key, step.moved)
                                    = (is_now.id, is_now.open_key, is_now.moved))
        )
        SELECT DISTINCT ON (open_key) execution_id, open_key, open_key::jsonb->>0, open_key::jsonb->>1,
               open_key::jsonb->>2, executed_at, NULL::numeric, NULL::numeric, NULL::text, NULL::numeric
        FROM changed ORDER BY open_key, executed_at, execution_id
    LOOP
        DELETE FROM platform.position_steps
        WHERE open_key = from_here.open_key AND (executed_at, execution_id) >= (from_here.executed_at, from_here.id);
        SELECT * INTO last FROM platform.position_steps
        WHERE open_key = from_here.open_key ORDER BY executed_at DESC, execution_id DESC LIMIT 1;
        FOR move IN
            SELECT * FROM platform.position_moves
            WHERE symbol = from_here.symbol AND executed_at >= from_here.executed_at
              AND (executed_at, id) >= (from_here.executed_at, from_here.id) AND open_key = from_here.open_key
            ORDER BY executed_at, id
        LOOP
            last := platform.step(last, move);
            INSERT INTO platform.position_steps VALUES (last.*);
        END LOOP;
        PERFORM platform.show_position(from_here, last);
    END LOOP;
END
$$;

-- At the end of the transaction, when exchange and symbol are settled.
CREATE FUNCTION platform.keep_opened() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM platform.keep_open(ARRAY[NEW.id]);
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER ingestd_platform_open AFTER INSERT OR UPDATE ON public.executions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION platform.keep_opened();

CREATE FUNCTION platform.keep_opened_of_order() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM platform.keep_open(ARRAY(SELECT id FROM public.executions WHERE order_id = NEW.order_id));
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER ingestd_platform_open_added AFTER INSERT ON public.orders
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION platform.keep_opened_of_order();
CREATE CONSTRAINT TRIGGER ingestd_platform_open_changed AFTER UPDATE ON public.orders
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.side IS DISTINCT FROM NEW.side OR OLD.strategy IS DISTINCT FROM NEW.strategy)
    EXECUTE FUNCTION platform.keep_opened_of_order();

REVOKE ALL ON FUNCTION platform.step(platform.position_steps, platform.position_moves),
    platform.show_position(platform.position_moves, platform.position_steps), platform.keep_open(uuid[]),
    platform.keep_opened(), platform.keep_opened_of_order() FROM PUBLIC;

-- What is there already. Nothing changes meanwhile: the triggers' creation has locked the tables.
SELECT platform.keep_open(ARRAY(SELECT id FROM public.executions));
