-- Drops the first schema of search_path with the views and functions in it; the pack's tables are dropped before. Refuses
-- if a table is left in it, which others have made, or if something in another schema uses it: both would be lost.
DO $$
DECLARE
    pack constant text := current_schema();
    others text;
BEGIN
    PERFORM set_config('search_path', 'pg_catalog', true);  -- so that each name is told with its schema
    SELECT string_agg(what, ', ' ORDER BY what) INTO others
    FROM (
        SELECT pg_describe_object('pg_class'::regclass, oid, 0) AS what
        FROM pg_class WHERE relnamespace = pack::regnamespace AND relkind IN ('r', 'p', 'm', 'f')
        UNION
        SELECT CASE WHEN classid = 'pg_rewrite'::regclass THEN pg_describe_object('pg_class'::regclass, ev_class, 0)
                    ELSE pg_describe_object(classid, objid, objsubid) END
        FROM pg_depend
        LEFT JOIN pg_rewrite ON classid = 'pg_rewrite'::regclass AND pg_rewrite.oid = objid
        LEFT JOIN pg_class AS viewed ON viewed.oid = ev_class
        LEFT JOIN pg_trigger ON classid = 'pg_trigger'::regclass AND pg_trigger.oid = objid
        LEFT JOIN pg_class AS triggered ON triggered.oid = tgrelid
        WHERE deptype = 'n'
          AND (refclassid, refobjid) IN (
              SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relnamespace = pack::regnamespace
              UNION ALL
              SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typnamespace = pack::regnamespace
              UNION ALL
              SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = pack::regnamespace)
          AND coalesce(viewed.relnamespace::regnamespace::text, triggered.relnamespace::regnamespace::text,
                       (pg_identify_object(classid, objid, objsubid)).schema) IS DISTINCT FROM pack
    ) AS found;
    IF others IS NOT NULL THEN
        RAISE EXCEPTION 'the pack has not made all that would be dropped: %; drop it, or move it elsewhere, before',
            others USING ERRCODE = 'dependent_objects_still_exist';
    END IF;
    EXECUTE format('DROP SCHEMA %I CASCADE', pack);
END
$$;
