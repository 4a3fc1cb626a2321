-- The tables of trading, kept by triggers on the tables that events fill, in the same transaction.
-- The functions run with the owner's rights: who may store an order or a trade needs no right on this schema.

-- A strategy of which an event is the first to speak belongs to no user.
CREATE FUNCTION platform.know_strategies(names text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO platform.strategies (name)
    SELECT DISTINCT said.name FROM unnest(names) AS said (name)
    WHERE said.name IS NOT NULL AND NOT EXISTS (SELECT FROM platform.strategies AS known WHERE known.name = said.name)
    ORDER BY said.name
    ON CONFLICT (name) WHERE user_id IS NULL DO NOTHING
$$;

CREATE FUNCTION platform.strategy_id(name text) RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT id FROM platform.strategies WHERE strategies.name = strategy_id.name ORDER BY id LIMIT 1
$$;

CREATE FUNCTION platform.keep_order() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.symbol IS NULL OR NEW.filled_quantity = 0 THEN
        RETURN NULL; -- not executed, or not filled in yet by the transaction that makes the row
    END IF;
    PERFORM platform.know_strategies(ARRAY[NEW.strategy]);
    INSERT INTO platform.executed_orders AS known
    SELECT coalesce(max(executed_at), NEW.filled_at, NEW.submitted_at, NEW.updated_at), NEW.order_id, NEW.symbol,
           NEW.exchange, NEW.side, NEW.order_type, coalesce(NEW.avg_price, NEW.price), NEW.quantity,
           NEW.filled_quantity, sum(fee), NEW.status, platform.strategy_id(NEW.strategy)
    FROM public.executions WHERE executions.order_id = NEW.order_id
    ON CONFLICT (order_id) DO UPDATE
    SET time = excluded.time, symbol = excluded.symbol, exchange = excluded.exchange, side = excluded.side,
        type = excluded.type, price = excluded.price, quantity = excluded.quantity,
        filled_quantity = excluded.filled_quantity, fees = excluded.fees, status = excluded.status,
        strategy_id = excluded.strategy_id;
    RETURN NULL;
END
$$;

-- Each completed trade is a closed position.
CREATE FUNCTION platform.keep_position() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM platform.know_strategies(ARRAY[NEW.strategy]);
    INSERT INTO platform.positions AS known
        (position_id, symbol, exchange, side, quantity, entry_price, exit_price, pnl, pnl_percentage, closed_at,
         strategy_id, trade_id)
    VALUES (NEW.trade_id, NEW.symbol, NEW.exchange, NEW.side, NEW.quantity, NEW.entry_price, NEW.exit_price, NEW.pnl,
            100 * NEW.pnl / nullif(NEW.entry_price * NEW.quantity, 0), NEW.completed_at,
            platform.strategy_id(NEW.strategy), NEW.trade_id)
    ON CONFLICT (trade_id) DO UPDATE
    SET symbol = excluded.symbol, exchange = excluded.exchange, side = excluded.side, quantity = excluded.quantity,
        entry_price = excluded.entry_price, exit_price = excluded.exit_price, pnl = excluded.pnl,
        pnl_percentage = excluded.pnl_percentage, closed_at = excluded.closed_at, strategy_id = excluded.strategy_id;
    PERFORM platform.measure(platform.strategy_id(NEW.strategy), NEW.completed_at);
    IF TG_OP = 'UPDATE' THEN
        PERFORM platform.measure(platform.strategy_id(OLD.strategy), OLD.completed_at);
    END IF;
    RETURN NULL;
END
$$;

-- The metrics of one strategy and UTC day, whose beginning is their time, from the positions closed in it:
--   pnl           the sum, in the quote currency
--   total_trades  their number
--   win_rate      percent of them with a pnl above 0
-- The row of the strategy is locked first, so that the statements after it see the positions of whoever held it.
CREATE FUNCTION platform.measure(of_strategy integer, at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    day timestamptz := date_trunc('day', at, 'UTC');
BEGIN
    PERFORM FROM platform.strategies WHERE id = of_strategy FOR NO KEY UPDATE;
    DELETE FROM platform.performance_metrics
    WHERE strategy_id = of_strategy AND time = day AND metric_name IN ('pnl', 'total_trades', 'win_rate');
    INSERT INTO platform.performance_metrics (time, strategy_id, metric_name, value)
    SELECT day, of_strategy, metric_name, value
    FROM (SELECT sum(pnl) AS pnl, count(*) AS trades,
                 100.0 * count(*) FILTER (WHERE pnl > 0) / nullif(count(*), 0) AS rate
          FROM platform.positions
          WHERE strategy_id = of_strategy AND trade_id IS NOT NULL
            AND closed_at >= day AND closed_at < day + INTERVAL '24 hours') AS of_day
    CROSS JOIN LATERAL (VALUES ('pnl', pnl), ('total_trades', trades), ('win_rate', rate))
        AS metrics (metric_name, value)
    WHERE trades > 0;
END
$$;

REVOKE ALL ON FUNCTION platform.know_strategies(text[]), platform.strategy_id(text), platform.keep_order(),
    platform.keep_position(), platform.measure(integer, timestamptz) FROM PUBLIC;

CREATE TRIGGER ingestd_platform_orders AFTER INSERT OR UPDATE ON public.orders
    FOR EACH ROW EXECUTE FUNCTION platform.keep_order();
CREATE TRIGGER ingestd_platform_positions AFTER INSERT OR UPDATE ON public.completed_trades
    FOR EACH ROW EXECUTE FUNCTION platform.keep_position();

-- What is there already. Nothing changes meanwhile: the triggers' creation has locked the tables.
UPDATE public.orders SET updated_at = updated_at;
UPDATE public.completed_trades SET pnl = pnl;
