-- What follows from the rest of the database: how far each symbol's candles are there, and what accounts had.
SET LOCAL search_path = fks, public;

-- `is_kept`: the row is of fks.note_sync(), not of the application.
ALTER TABLE fks.sync_status ADD COLUMN is_kept boolean NOT NULL DEFAULT false;

-- Say for each symbol and timeframe what fks.ohlcv_data has of it; the daemon calls this about once a minute.
--   oldest_time, newest_time  the starts of the first and the last candle; the last may be open still
--   sync_status  pending      a gap in the trades waits to be filled, and there is no candle yet
--                syncing      there are candles, and a gap in what they come from is open or waits to be filled
--                error        a gap could not be filled; error_message says how many, and the last one
--                completed    nothing is known to be missing
-- Symbols: those with candles of the last two days, with a gap, or with a row here. A gap counts that reaches into the
-- time from the oldest candle on, in the channel that the candles come from: trades, candles, or both.
CREATE FUNCTION fks.bucket(at timestamptz, timeframe text) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE timeframe WHEN '1M' THEN date_trunc('month', at, 'UTC') ELSE
        date_bin((left(timeframe, -1) || CASE right(timeframe, 1) WHEN 'm' THEN ' minutes' WHEN 'h' THEN ' hours'
                                         WHEN 'd' THEN ' days' ELSE ' weeks' END)::interval,
                 at, TIMESTAMPTZ '2000-01-03 00:00:00+00') END
$$;

-- The table that holds the candles of a timeframe; those of months on TimescaleDB are made of days.
CREATE FUNCTION fks.candles_table(timeframe text) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found text;
BEGIN
    IF to_regclass('timescaledb_information.continuous_aggregates') IS NOT NULL THEN
        SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) INTO found
        FROM timescaledb_information.continuous_aggregates
        WHERE view_schema = 'public' AND view_name = 'candles_' || replace(timeframe, '1M', '1d');
    END IF;
    RETURN coalesce(found, format('public.%I', 'candles_' || timeframe));
END
$$;

-- With the owner's rights: on TimescaleDB the stored candles are read from the tables behind the aggregates, and what
-- is newer from the trades. To read the aggregates for each symbol took a hundred times as long.
CREATE FUNCTION fks.note_sync() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    place    text COLLATE "C" := fks.option_exchange();
    symbols  text[] COLLATE "C" := ARRAY(
        SELECT symbol FROM public.candles_1h WHERE exchange = place AND bucket_start >= now() - INTERVAL '2 days'
        UNION
        SELECT symbol FROM public.ohlcv_data WHERE exchange = place AND time >= now() - INTERVAL '2 days'
        UNION
        SELECT symbol FROM public.feed_gaps WHERE exchange = place AND channel IN ('trades', 'candles')
        UNION
        SELECT symbol FROM fks.sync_status WHERE is_kept
        ORDER BY 1);
    ours     CONSTANT text[] := ARRAY['1m', '5m', '15m', '30m', '1h', '4h', '1d', '1w', '1M'];
    is_live  CONSTANT boolean := fks.candles_table('1m') <> 'public.candles_1m';
    traded   timestamptz[];  -- the newest trade of each symbol, where aggregates show it at once
    frame    record;
BEGIN
    SELECT array_agg(newest.time ORDER BY place_of) INTO traded
    FROM unnest(symbols) WITH ORDINALITY AS named (symbol, place_of)
    LEFT JOIN LATERAL (
        SELECT time FROM public.trades
        WHERE exchange = place AND trades.symbol = named.symbol AND in_candles IS DISTINCT FROM false AND is_live
        ORDER BY time DESC LIMIT 1
    ) AS newest ON true;
    FOR frame IN
        SELECT name, format('FROM %s WHERE exchange = $3 AND symbol = named.symbol', fks.candles_table(name)) AS source
        FROM unnest(ours) AS made (name)
        UNION ALL
        SELECT name, 'FROM (SELECT NULL::timestamptz AS bucket_start) AS none WHERE false'
        FROM (SELECT timeframe FROM public.ohlcv_data WHERE exchange = place AND time >= now() - INTERVAL '2 days'
              UNION SELECT timeframe FROM fks.sync_status WHERE is_kept) AS told (name)
        WHERE name <> ALL (ours)
    LOOP
        EXECUTE format($sql$
            WITH found AS (
            SELECT named.symbol, span.oldest, span.newest,
                   CASE WHEN span.newest IS NULL THEN 'pending' WHEN gaps.waiting > 0 THEN 'syncing'
                        WHEN gaps.lost > 0 THEN 'error' ELSE 'completed' END AS status,
                   CASE WHEN span.newest IS NOT NULL AND gaps.waiting = 0 AND gaps.lost > 0
                        THEN format('%%s gaps could not be filled, the last from %%s to %%s: %%s', gaps.lost,
                                    gaps.last->>'started_at', gaps.last->>'ended_at',
                                    coalesce(gaps.last->>'detail', gaps.last->>'cause')) END
                       AS message
            FROM unnest($2, $5) AS named (symbol, traded)
            CROSS JOIN LATERAL (
                SELECT (SELECT bucket_start %1$s ORDER BY bucket_start LIMIT 1) AS oldest,
                       (SELECT bucket_start %1$s ORDER BY bucket_start DESC LIMIT 1) AS newest
            ) AS stored
            CROSS JOIN LATERAL (
                SELECT CASE WHEN $4 THEN fks.bucket(coalesce(stored.oldest, CASE WHEN named.traded IS NOT NULL THEN (
                           SELECT time FROM public.trades
                           WHERE exchange = $3 AND symbol = named.symbol AND in_candles IS DISTINCT FROM false
                           ORDER BY time LIMIT 1) END), $1) END AS oldest,
                       CASE WHEN $4 THEN fks.bucket(greatest(stored.newest, named.traded), $1) END AS newest
            ) AS made
            CROSS JOIN LATERAL (
                SELECT (SELECT time FROM public.ohlcv_data
                        WHERE exchange = $3 AND symbol = named.symbol AND timeframe = $1
                        ORDER BY time LIMIT 1) AS oldest,
                       (SELECT time FROM public.ohlcv_data
                        WHERE exchange = $3 AND symbol = named.symbol AND timeframe = $1
                        ORDER BY time DESC LIMIT 1) AS newest
            ) AS told
            CROSS JOIN LATERAL (
                SELECT least(made.oldest, told.oldest) AS oldest, greatest(made.newest, told.newest) AS newest
            ) AS span
            CROSS JOIN LATERAL (
                SELECT count(*) FILTER (WHERE status IN ('open', 'closed')) AS waiting,
                       count(*) FILTER (WHERE status = 'unfillable') AS lost,
                       (array_agg(to_jsonb(gap) ORDER BY started_at DESC) FILTER (WHERE status = 'unfillable'))[1]
                           AS last
                FROM public.feed_gaps AS gap
                WHERE gap.exchange = $3 AND gap.symbol = named.symbol
                  AND (gap.channel = 'trades' AND (made.newest IS NOT NULL OR span.newest IS NULL)
                       OR gap.channel = 'candles' AND told.newest IS NOT NULL)
                  AND (gap.ended_at IS NULL OR span.oldest IS NULL OR gap.ended_at >= span.oldest)
            ) AS gaps
            WHERE span.newest IS NOT NULL OR $4 AND gaps.waiting > 0
            ), gone AS (
                DELETE FROM fks.sync_status AS known
                WHERE is_kept AND timeframe = $1 AND NOT EXISTS (SELECT FROM found WHERE found.symbol = known.symbol)
            )
            INSERT INTO fks.sync_status AS known
                (symbol, timeframe, sync_status, oldest_time, newest_time, error_message, is_kept)
            SELECT symbol, $1, status, oldest, newest, message, true FROM found ORDER BY symbol
            ON CONFLICT (symbol, timeframe) DO UPDATE
            SET sync_status = excluded.sync_status, oldest_time = excluded.oldest_time,
                newest_time = excluded.newest_time, error_message = excluded.error_message, is_kept = true,
                updated_at = clock_timestamp()
            WHERE (known.sync_status, known.oldest_time, known.newest_time, known.error_message, known.is_kept)
                  IS DISTINCT FROM (excluded.sync_status, excluded.oldest_time, excluded.newest_time,
                                    excluded.error_message, true)
        $sql$, frame.source) USING frame.name, symbols, place, frame.name = ANY (ours), traded;
    END LOOP;
END
$$;

-- A row for each report of an account's balances (BALANCE_SNAPSHOT); those of the application have no `event_id`.
--   balance         what the account has of its currency, locked or not
--   equity          that, and what the report's other assets are worth in it: at the last minute's close, within a day, of
--                   their spot market on the account's exchange; NULL if one of them has none
--   margin_used     what the report calls locked of the account's currency
--   daily_pnl       of the completed trades of that exchange whose quote currency is the account's: those of the UTC day
--   cumulative_pnl  up to then, and all of them up to then
ALTER TABLE fks.balance_history ALTER COLUMN equity DROP NOT NULL;
ALTER TABLE fks.balance_history ADD COLUMN event_id uuid;
CREATE UNIQUE INDEX balance_history_events ON fks.balance_history (event_id, account_id, time);

-- Events know an account by its exchange only: they mean the first one there.
CREATE FUNCTION fks.account_of(place text) RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT min(id) FROM fks.accounts WHERE exchange = place
$$;

-- The sums of `pnl` from the beginning of that day, and from the beginning.
CREATE FUNCTION fks.pnl_until(place text, currency text, until timestamptz)
RETURNS TABLE (daily numeric, cumulative numeric)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(sum(of_day), 0), coalesce(sum(pnl), 0)
    FROM (SELECT symbol, sum(pnl) AS pnl,
                 sum(pnl) FILTER (WHERE completed_at >= date_trunc('day', until, 'UTC')) AS of_day
          FROM public.completed_trades WHERE exchange = place COLLATE "C" AND completed_at <= until
          GROUP BY symbol) AS traded
    WHERE currency = coalesce(
        (SELECT quote_currency FROM public.symbols
         WHERE exchange = place COLLATE "C"
           AND traded.symbol IN (symbols.symbol, symbols.compact, symbols.dash, symbols.venue_name)
         ORDER BY symbols.symbol <> traded.symbol, symbols.compact <> traded.symbol, symbols.dash <> traded.symbol
         LIMIT 1),
        (public.ingestd_spot_pair(place, traded.symbol))[2])
$$;

-- What an amount of an asset was worth in a currency; NULL: not known.
CREATE FUNCTION fks.worth(place text, asset text, amount numeric, currency text, at timestamptz) RETURNS numeric
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN amount = 0 THEN 0 WHEN asset = currency THEN amount ELSE amount * (
        SELECT close FROM public.candles_1m
        WHERE exchange = place COLLATE "C"
          AND symbol = public.ingestd_stored_symbol(place, asset || '/' || currency) COLLATE "C"
          AND bucket_start <= at - INTERVAL '1 minute' AND bucket_start > at - INTERVAL '1 day'
        ORDER BY bucket_start DESC LIMIT 1) END
$$;

-- Trades and reports take turns: the statements after this see what others have stored.
CREATE FUNCTION fks.take_turn() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('fks.balance_history', 0))
$$;

-- Add the rows of these reports.
CREATE FUNCTION fks.note_balances(place text, reports uuid[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fks.take_turn();
    IF fks.account_of(place) IS NULL THEN
        INSERT INTO fks.accounts (name, exchange) VALUES (place, place) ON CONFLICT (name) DO NOTHING;
    END IF;
    INSERT INTO fks.balance_history (time, account_id, balance, equity, margin_used, daily_pnl, cumulative_pnl, event_id)
    SELECT told.taken_at, account.id, told.available + told.locked,
           (SELECT CASE WHEN count(worth) = count(*) THEN sum(worth) END
            FROM public.balance_snapshots AS held CROSS JOIN LATERAL
                 fks.worth(place, held.asset, held.available + held.locked, account.currency, held.taken_at) AS worth
            WHERE held.id = told.id),
           told.locked, gained.daily, gained.cumulative, told.id
    FROM fks.accounts AS account
    JOIN public.balance_snapshots AS told ON told.exchange = place COLLATE "C" AND told.asset = account.currency COLLATE "C"
    CROSS JOIN LATERAL fks.pnl_until(place, account.currency, told.taken_at) AS gained
    WHERE account.id = fks.account_of(place) AND told.id = ANY (reports)
    ON CONFLICT (event_id, account_id, time) DO NOTHING;
END
$$;

CREATE FUNCTION fks.follow_balances() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fks.note_balances(exchange, array_agg(DISTINCT id)) FROM added GROUP BY exchange ORDER BY exchange;
    RETURN NULL;
END
$$;
CREATE TRIGGER ingestd_fks_balances AFTER INSERT ON public.balance_snapshots
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION fks.follow_balances();

-- A new account may be the one that events mean, and its currency chooses the balance.
CREATE FUNCTION fks.follow_account() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place text;
BEGIN
    FOREACH place IN ARRAY CASE TG_OP WHEN 'INSERT' THEN ARRAY[NEW.exchange] ELSE ARRAY[OLD.exchange, NEW.exchange] END LOOP
        DELETE FROM fks.balance_history USING fks.accounts
        WHERE event_id IS NOT NULL AND accounts.id = account_id AND accounts.exchange IN (place, NEW.exchange);
        IF fks.account_of(place) IS NOT NULL THEN
            PERFORM fks.note_balances(place, array_agg(id)) FROM public.balance_snapshots
            WHERE exchange = place COLLATE "C" HAVING count(*) > 0;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER follow_account AFTER INSERT OR UPDATE OF exchange, currency ON fks.accounts
    FOR EACH ROW EXECUTE FUNCTION fks.follow_account();

-- A trade that arrives late, or is corrected, counts in the rows after it.
CREATE FUNCTION fks.note_pnl(place text, since timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fks.take_turn();
    UPDATE fks.balance_history AS known SET daily_pnl = gained.daily, cumulative_pnl = gained.cumulative
    FROM (SELECT event_id, account_id, time, pnl.*
          FROM fks.balance_history JOIN fks.accounts ON accounts.id = account_id
          CROSS JOIN LATERAL fks.pnl_until(place, accounts.currency, time) AS pnl
          WHERE account_id = fks.account_of(place) AND time >= since AND event_id IS NOT NULL) AS gained
    WHERE (known.event_id, known.account_id, known.time) = (gained.event_id, gained.account_id, gained.time);
END
$$;

CREATE FUNCTION fks.follow_pnl_added() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fks.note_pnl(exchange, min(completed_at)) FROM added GROUP BY exchange ORDER BY exchange;
    RETURN NULL;
END
$$;
CREATE FUNCTION fks.follow_pnl_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fks.note_pnl(exchange, min(completed_at))
    FROM (SELECT exchange, completed_at FROM added UNION ALL SELECT exchange, completed_at FROM removed) AS changed
    GROUP BY exchange ORDER BY exchange;
    RETURN NULL;
END
$$;
CREATE TRIGGER ingestd_fks_pnl_added AFTER INSERT ON public.completed_trades
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION fks.follow_pnl_added();
CREATE TRIGGER ingestd_fks_pnl_changed AFTER UPDATE ON public.completed_trades
    REFERENCING NEW TABLE AS added OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION fks.follow_pnl_changed();

REVOKE ALL ON FUNCTION fks.take_turn(), fks.account_of(text), fks.pnl_until(text, text, timestamptz),
    fks.worth(text, text, numeric, text, timestamptz), fks.note_balances(text, uuid[]), fks.follow_balances(),
    fks.follow_account(), fks.note_pnl(text, timestamptz), fks.follow_pnl_added(), fks.follow_pnl_changed() FROM PUBLIC;

-- The reports that are there already. None is added meanwhile: the triggers' creation has locked the tables.
SELECT fks.note_balances(exchange, array_agg(DISTINCT id)) FROM public.balance_snapshots GROUP BY exchange;
