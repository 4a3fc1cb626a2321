-- Refuses every write to a view. Without it PostgreSQL would pass an UPDATE or DELETE on to the table behind the view,
-- with the rights of the view's owner, who is not the writer.
CREATE FUNCTION read_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '%.% is read-only: ingestd writes the table behind it', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'object_not_in_prerequisite_state';
END
$$;
