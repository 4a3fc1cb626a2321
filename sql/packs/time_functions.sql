-- TimescaleDB's time_bucket(), first() and last() for PostgreSQL without the extension. They are made in the first
-- schema of search_path, a pack's, and not in public, where a later CREATE EXTENSION makes its own.

-- Buckets begin as TimescaleDB's do: those of months on 2000-01-01, all others on Monday, 2000-01-03, UTC.
CREATE FUNCTION time_bucket(bucket_width interval, ts timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN extract(year FROM bucket_width) * 12 + extract(month FROM bucket_width) = 0
                THEN date_bin(bucket_width, ts, TIMESTAMPTZ '2000-01-03 00:00:00+00')
                ELSE (TIMESTAMP '2000-01-01 00:00:00' + bucket_width * floor(
                    ((extract(year FROM ts AT TIME ZONE 'UTC') - 2000) * 12
                     + extract(month FROM ts AT TIME ZONE 'UTC') - 1)
                    / (extract(year FROM bucket_width) * 12 + extract(month FROM bucket_width)))::float8)
                    AT TIME ZONE 'UTC' END
$$;

-- The value of the row with the lowest, or the highest, time; of rows at one time, of the one that is read first. The
-- state is the time in seconds and the value, as texts, from which both are made again without loss.
CREATE FUNCTION first_state(state text[], value anyelement, at timestamptz) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN at IS NULL OR extract(epoch FROM at) >= state[1]::numeric THEN state
                ELSE ARRAY[extract(epoch FROM at)::text, value::text] END
$$;

CREATE FUNCTION last_state(state text[], value anyelement, at timestamptz) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN at IS NULL OR extract(epoch FROM at) <= state[1]::numeric THEN state
                ELSE ARRAY[extract(epoch FROM at)::text, value::text] END
$$;

CREATE FUNCTION value_of_state(state text[], value anyelement, at timestamptz) RETURNS anyelement
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    found value%TYPE;
BEGIN
    found := state[2];
    RETURN found;
END
$$;

CREATE AGGREGATE first(value anyelement, at timestamptz)
    (SFUNC = first_state, STYPE = text[], FINALFUNC = value_of_state, FINALFUNC_EXTRA, PARALLEL = SAFE);
CREATE AGGREGATE last(value anyelement, at timestamptz)
    (SFUNC = last_state, STYPE = text[], FINALFUNC = value_of_state, FINALFUNC_EXTRA, PARALLEL = SAFE);
