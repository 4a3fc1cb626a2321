-- Only the owner of a hypertable may drop its chunks. The role that archives them (sql/roles/roles.sql) is not the owner:
-- it calls this function, which has the owner's rights and drops nothing but chunks of the market tables.
--
-- A chunk that an aggregate still refreshes stays: the next refresh would delete its candles.

CREATE FUNCTION ingestd_drop_chunks(market_table text, older_than timestamptz) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    extension_schema text;
    refreshed        record;
BEGIN
    IF NOT EXISTS (SELECT FROM timescaledb_information.hypertables
                   WHERE hypertable_schema = 'public' AND hypertable_name = market_table AND owner = current_user) THEN
        RAISE EXCEPTION 'public.% is not a hypertable of ingestd', market_table
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT view_name, now() - (config->>'start_offset')::interval AS since INTO refreshed
    FROM timescaledb_information.continuous_aggregates AS made
    JOIN timescaledb_information.jobs ON (jobs.hypertable_schema, jobs.hypertable_name) = (view_schema, view_name)
    WHERE (made.hypertable_schema, made.hypertable_name) = ('public', market_table)
      AND proc_name = 'policy_refresh_continuous_aggregate'
    ORDER BY (config->>'start_offset')::interval DESC NULLS FIRST LIMIT 1;
    IF FOUND AND (refreshed.since IS NULL OR older_than > refreshed.since) THEN
        RAISE EXCEPTION '% is refreshed back to %: without these rows it would lose its candles', refreshed.view_name,
            coalesce(refreshed.since::text, 'its first row')
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('Set retention.%s_days lower and run ingestd migrate, which moves the refresh too.',
                                market_table);
    END IF;
    SELECT nspname INTO extension_schema FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
    WHERE extname = 'timescaledb';
    RETURN QUERY EXECUTE format('SELECT %I.drop_chunks($1::regclass, older_than => $2)::text', extension_schema)
        USING format('public.%I', market_table), older_than;
END
$$;

REVOKE ALL ON FUNCTION ingestd_drop_chunks(text, timestamptz) FROM PUBLIC;
