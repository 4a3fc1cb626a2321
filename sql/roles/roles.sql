-- Four roles: ingestd_migrator owns everything and runs `ingestd migrate`, ingestd_writer runs the daemon and
-- `ingestd backfill`, ingestd_reader reads (`ingestd gaps`, dashboards), ingestd_archiver moves old rows of the market
-- tables to an archive and back. Run this in the database as a superuser, before the first `ingestd migrate` and after
-- each later one; a second run changes nothing.
--
-- They have no password. Give each one, or make users members of the writer and of the reader:
--     ALTER ROLE ingestd_migrator LOGIN PASSWORD '…';
--     CREATE ROLE alice LOGIN PASSWORD '…' IN ROLE ingestd_reader;
-- Run `ingestd migrate` as ingestd_migrator itself: a member of it would own what it creates.

SET search_path = pg_catalog, pg_temp;

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['ingestd_migrator', 'ingestd_writer', 'ingestd_reader', 'ingestd_archiver'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I', wanted);
        END IF;
    END LOOP;
    EXECUTE format('GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %I TO ingestd_migrator', current_database());
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO ingestd_writer', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO ingestd_reader, ingestd_archiver', current_database());
END
$$;

GRANT USAGE, CREATE ON SCHEMA public TO ingestd_migrator;
GRANT USAGE ON SCHEMA public TO ingestd_writer, ingestd_reader, ingestd_archiver;

-- Rights on what ingestd_migrator creates from now on: tables, chunks and candles, in any schema.
ALTER DEFAULT PRIVILEGES FOR ROLE ingestd_migrator GRANT USAGE ON SCHEMAS TO ingestd_writer, ingestd_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE ingestd_migrator GRANT SELECT ON TABLES TO ingestd_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE ingestd_migrator GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO ingestd_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE ingestd_migrator GRANT USAGE ON SEQUENCES TO ingestd_writer;

-- Rights on what there is already, created by ingestd_migrator or by whoever migrated before there were roles. The
-- writer gets only the rights that the daemon uses, and the functions of ingestd.repository. It neither changes nor
-- deletes captured rows, except where the daemon itself drops what is too old (without TimescaleDB's policies), and where
-- those functions replace what was reported: candles, open interest and funding rates. (With a columnstore TimescaleDB
-- refuses rights on single columns.)
DO $$
DECLARE
    -- The candles are tables where the daemon refreshes them, and drops what is too old.
    by_daemon boolean := EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('public.candles_1m') AND relkind = 'r');
    relation record;
    function record;
BEGIN
    IF to_regclass('public.ingestd_migrations') IS NULL THEN
        RETURN;
    END IF;
    FOR relation IN
        SELECT pg_class.oid::regclass AS name, 'TABLE' AS kind, pg_get_userbyid(relowner) AS owner, privileges
        FROM (VALUES ('public', 'market_ticks', CASE WHEN by_daemon THEN 'INSERT, DELETE' ELSE 'INSERT' END),
                     ('public', 'trades',       CASE WHEN by_daemon THEN 'INSERT, DELETE' ELSE 'INSERT' END),
                     ('public', 'order_book',   CASE WHEN by_daemon THEN 'INSERT, DELETE' ELSE 'INSERT' END),
                     ('public', 'oi_snapshots',
                      CASE WHEN by_daemon THEN 'INSERT, DELETE, UPDATE (open_interest, open_interest_usd, basis, unit)'
                           ELSE 'INSERT, UPDATE' END),
                     ('public', 'funding',
                      CASE WHEN by_daemon THEN 'INSERT, DELETE, UPDATE (funding_rate, annualised_rate, payment)'
                           ELSE 'INSERT, UPDATE' END),
                     ('public', 'liquidations', CASE WHEN by_daemon THEN 'INSERT, DELETE' ELSE 'INSERT' END),
                     ('public', 'mark_prices',  CASE WHEN by_daemon THEN 'INSERT, DELETE' ELSE 'INSERT' END),
                     ('public', 'ohlcv_data', 'INSERT, UPDATE, DELETE'),
                     ('public', 'symbols', 'INSERT, UPDATE'),
                     ('public', 'feed_gaps', 'INSERT, UPDATE'),
                     ('public', 'rejected_records', 'INSERT, DELETE'),
                     ('public', 'candle_audit', 'INSERT, UPDATE, DELETE'),
                     ('public', 'indicators_cache', 'INSERT, UPDATE, DELETE'),
                     ('public', 'indicator_marks', 'INSERT, DELETE'),
                     ('public', 'indicator_changes', 'INSERT, UPDATE, DELETE'),
                     ('public', 'venue_pauses', 'INSERT, UPDATE'),
                     ('public', 'ingest_positions', 'INSERT, UPDATE, DELETE'),
                     ('public', 'ingest_leases', 'INSERT, UPDATE, DELETE'),
                     ('public', 'orders', 'INSERT, UPDATE'),
                     ('public', 'executions', 'INSERT, UPDATE'),
                     ('public', 'order_endings', 'INSERT'),
                     ('public', 'balance_snapshots', 'INSERT'),
                     ('public', 'balances', 'INSERT, UPDATE'),
                     ('public', 'completed_trades', 'INSERT, UPDATE'),
                     ('audit', 'trade_logs', 'INSERT, UPDATE'),
                     ('audit', 'system_events', 'INSERT'),
                     ('audit', 'daily_pnl', NULL),
                     ('audit', 'win_rate', NULL),
                     ('public', 'ingestd_migrations', NULL),
                     ('public', 'ingestd_migration_steps', NULL),
                     ('public', 'ingestd_backfills', NULL),
                     ('public', 'ingestd_pack_migrations', NULL),
                     ('public', 'ingestd_settings', NULL),
                     ('public', 'candles_marks', 'INSERT, DELETE'),
                     ('public', 'ohlcv_1h_marks', 'INSERT, DELETE'),
                     ('public', 'ohlcv_1h_minutes', 'INSERT, UPDATE, DELETE'),
                     ('public', 'candles_1month', NULL)) AS ours (schema, table_name, privileges)
        JOIN pg_namespace ON nspname = schema
        JOIN pg_class ON relnamespace = pg_namespace.oid AND relname = table_name
        UNION ALL
        SELECT pg_class.oid::regclass,
               CASE WHEN by_daemon OR relname = 'candles_1M' THEN 'TABLE' ELSE 'MATERIALIZED VIEW' END,
               pg_get_userbyid(relowner),
               CASE WHEN by_daemon THEN 'INSERT, UPDATE, DELETE' END
        FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
          AND relname ~ '^(candles_[0-9]+[mhdwM]|ohlcv_1h)$'
    LOOP
        IF relation.owner <> 'ingestd_migrator' THEN
            EXECUTE format('ALTER %s %s OWNER TO ingestd_migrator', relation.kind, relation.name);
        END IF;
        EXECUTE format('REVOKE ALL ON %s FROM ingestd_writer, ingestd_reader', relation.name);
        EXECUTE format('GRANT SELECT ON %s TO ingestd_writer, ingestd_reader', relation.name);
        IF relation.privileges IS NOT NULL THEN
            EXECUTE format('GRANT %s ON %s TO ingestd_writer', relation.privileges, relation.name);
        END IF;
    END LOOP;
    FOR function IN
        SELECT oid::regprocedure AS name, pg_get_userbyid(proowner) AS owner FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND starts_with(proname, 'ingestd_')
    LOOP
        IF function.owner <> 'ingestd_migrator' THEN
            EXECUTE format('ALTER FUNCTION %s OWNER TO ingestd_migrator', function.name);
        END IF;
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ingestd_writer, ingestd_reader', function.name);
    END LOOP;
    IF to_regnamespace('audit') IS NOT NULL THEN
        ALTER SCHEMA audit OWNER TO ingestd_migrator;
        GRANT USAGE ON SCHEMA audit TO ingestd_writer, ingestd_reader;
    END IF;
END
$$;

-- The schemas of packs, with what whoever migrated made in them; what others made there stays theirs. The triggers of a pack
-- have the owner's rights, so the daemon would need none here: the writer's are for the programs of that system.
DO $$
DECLARE
    -- Not for dashboards: with these one may act as somebody else.
    secrets    name[] := ARRAY['password_hash', 'session_token', 'token_hash', 'key_hash', 'api_key_encrypted',
                               'api_secret_encrypted'];
    schema     record;
    thing      record;
    shown      text;
    aggregates oid[] := ARRAY[]::oid[];
BEGIN
    IF to_regclass('public.ingestd_pack_migrations') IS NULL THEN
        RETURN;
    END IF;
    IF to_regclass('timescaledb_information.continuous_aggregates') IS NOT NULL THEN
        EXECUTE $sql$SELECT coalesce(array_agg(format('%I.%I', view_schema, view_name)::regclass::oid), ARRAY[]::oid[])
                     FROM timescaledb_information.continuous_aggregates$sql$ INTO aggregates;
    END IF;
    FOR schema IN
        SELECT oid, nspname AS name, nspowner AS owner FROM pg_namespace
        WHERE nspname IN (SELECT CASE pack WHEN 'wolfinch' THEN 'analytics' ELSE pack END
                          FROM public.ingestd_pack_migrations)
    LOOP
        FOR thing IN
            SELECT pg_class.oid, pg_class.oid::regclass::text AS name, CASE WHEN pg_class.oid = ANY (aggregates) THEN 'MATERIALIZED VIEW'
                   WHEN relkind = 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind, true AS has_rows
            FROM pg_class WHERE relnamespace = schema.oid AND relkind IN ('r', 'p', 'v') AND relowner = schema.owner
            UNION ALL
            SELECT oid, oid::regprocedure::text, 'ROUTINE', false FROM pg_proc
            WHERE pronamespace = schema.oid AND proowner = schema.owner
        LOOP
            EXECUTE format('ALTER %s %s OWNER TO ingestd_migrator', thing.kind, thing.name);
            IF thing.has_rows THEN
                SELECT '(' || string_agg(quote_ident(attname), ', ' ORDER BY attnum) || ')' INTO shown
                FROM pg_attribute WHERE attrelid = thing.oid AND attnum > 0 AND NOT attisdropped
                 AND attname <> ALL (secrets)
                HAVING EXISTS (SELECT FROM pg_attribute WHERE attrelid = thing.oid AND attname = ANY (secrets));
                EXECUTE format('REVOKE ALL ON %s FROM ingestd_writer, ingestd_reader', thing.name);
                EXECUTE format('GRANT SELECT %s ON %s TO ingestd_reader', shown, thing.name);
                EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO ingestd_writer', thing.name);
            END IF;
        END LOOP;
        EXECUTE format('ALTER SCHEMA %I OWNER TO ingestd_migrator', schema.name);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO ingestd_writer, ingestd_reader', schema.name);
        EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %I TO ingestd_writer', schema.name);
    END LOOP;
END
$$;

-- The archiver reads and adds rows of the market tables. It deletes rows where there are no chunks, and rows of
-- ohlcv_data, which is kept by timeframe; elsewhere it drops whole chunks, by ingestd_drop_chunks() with the owner's rights.
DO $$
DECLARE
    relation  record;
    drop_them regprocedure := to_regprocedure('public.ingestd_drop_chunks(text, timestamptz)');
BEGIN
    FOR relation IN
        SELECT oid::regclass AS name,
               CASE WHEN drop_them IS NULL OR relname = 'ohlcv_data' THEN 'SELECT, INSERT, DELETE'
                    ELSE 'SELECT, INSERT' END AS privileges
        FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
          AND relname IN ('market_ticks', 'trades', 'order_book', 'oi_snapshots', 'funding', 'ohlcv_data',
                          'liquidations', 'mark_prices')
        UNION ALL
        SELECT oid::regclass, 'SELECT' FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
          AND (relname IN ('symbols', 'feed_gaps', 'ingestd_migrations', 'ingestd_settings')
               OR relname ~ '^(candles_([0-9]+[mhdwM]|1month)|ohlcv_1h)$')
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM ingestd_archiver', relation.name);
        EXECUTE format('GRANT %s ON %s TO ingestd_archiver', relation.privileges, relation.name);
    END LOOP;
    IF drop_them IS NOT NULL THEN
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, ingestd_writer, ingestd_reader', drop_them);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ingestd_archiver', drop_them);
    END IF;
END
$$;

RESET search_path;
