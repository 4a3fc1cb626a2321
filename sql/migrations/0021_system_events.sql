-- Gaps, rejected records and changes of the lease are events of the system too, told by the transaction that stores them.
-- Of one kind there is one row a minute with their number, so that a flood of them is none here. With the owner's rights:
-- who stores a gap needs no right on the audit.

CREATE FUNCTION ingestd_tell_gaps() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.system_events AS told (id, timestamp, event_type, severity, component, message, metadata)
    SELECT md5(jsonb_build_array('GAP', exchange, channel, cause, floor(extract(epoch FROM now()) / 60))::text)::uuid,
           now(), 'GAP', 'WARNING', exchange,
           format('Records of %s may be missing on %s (%s); see feed_gaps', channel, exchange, cause),
           jsonb_build_object('exchange', exchange, 'channel', channel, 'cause', cause, 'count', count(*),
                              'symbol', min(symbol), 'started_at', min(started_at))
    FROM added
    GROUP BY exchange, channel, cause
    ORDER BY exchange, channel, cause
    ON CONFLICT (id) DO UPDATE SET metadata = told.metadata || jsonb_build_object(
        'count', (told.metadata->>'count')::bigint + (excluded.metadata->>'count')::bigint);
    RETURN NULL;
END
$$;
CREATE TRIGGER ingestd_gaps_told AFTER INSERT ON feed_gaps
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ingestd_tell_gaps();

CREATE FUNCTION ingestd_tell_rejections() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.system_events AS told (id, timestamp, event_type, severity, component, message, metadata)
    SELECT md5(jsonb_build_array('REJECTED', table_name, reason, floor(extract(epoch FROM now()) / 60))::text)::uuid,
           now(), 'REJECTED', 'WARNING', table_name,
           format('Records for %s were put aside (%s); see rejected_records', table_name, reason),
           jsonb_build_object('table', table_name, 'reason', reason, 'count', count(*))
    FROM added
    GROUP BY table_name, reason
    ORDER BY table_name, reason
    ON CONFLICT (id) DO UPDATE SET metadata = told.metadata || jsonb_build_object(
        'count', (told.metadata->>'count')::bigint + (excluded.metadata->>'count')::bigint);
    RETURN NULL;
END
$$;
CREATE TRIGGER ingestd_rejections_told AFTER INSERT ON rejected_records
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ingestd_tell_rejections();

CREATE FUNCTION ingestd_tell_failover() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text := (SELECT holder FROM public.ingest_leases
                    WHERE lease = NEW.lease AND epoch < NEW.epoch ORDER BY epoch DESC LIMIT 1);
BEGIN
    IF before <> NEW.holder THEN
        INSERT INTO audit.system_events (id, timestamp, event_type, severity, component, message, metadata)
        VALUES (gen_random_uuid(), NEW.taken_at, 'FAILOVER', 'WARNING', NEW.lease,
                format('%s captures instead of %s', NEW.holder, before),
                jsonb_build_object('lease', NEW.lease, 'epoch', NEW.epoch, 'holder', NEW.holder, 'before', before));
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER ingestd_failover_told AFTER INSERT ON ingest_leases
    FOR EACH ROW EXECUTE FUNCTION ingestd_tell_failover();
