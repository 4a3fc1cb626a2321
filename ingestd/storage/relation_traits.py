"""Copies what belongs to a continuous aggregate besides its rows to the aggregate that replaces it.

Chunk interval, indexes, owner, rights, comments, the columnstore, policies; and the views that read it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ingestd.storage.database import Database, Row

# By procedure: the SQL that adds a policy to $1 with the configuration $2 of another policy.
_ADD_POLICY = {
    "policy_refresh_continuous_aggregate": (
        "SELECT add_continuous_aggregate_policy($1::text::regclass, ($2::jsonb->>'start_offset')::interval,"
        " ($2::jsonb->>'end_offset')::interval, INTERVAL '1 hour')"
    ),
    "policy_retention": "SELECT add_retention_policy($1::text::regclass, ($2::jsonb->>'drop_after')::interval)",
    "policy_compression": (
        "CALL add_columnstore_policy($1::text::regclass, after => ($2::jsonb->>'compress_after')::interval)"
    ),
}


async def materialised(db: Database, aggregate: str) -> str:
    """The table that holds an aggregate's rows, as an identifier for SQL."""
    found: str = await db.fetchval(
        "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
        " FROM timescaledb_information.continuous_aggregates"
        " WHERE format('%I.%I', view_schema, view_name)::regclass = $1::text::regclass",
        aggregate,
    )
    return found


async def rebound_views(db: Database, aggregates: Sequence[str], *, except_for: Collection[str]) -> list[str]:
    """The statements that bind views which read one of these aggregates anew, to the relations that have the names by
    then. A view's owner, rights and readers stay. Left out are the aggregates' own views, and views that cannot be
    bound to another aggregate."""
    rows = await db.fetch(
        "SELECT format('CREATE OR REPLACE VIEW %I.%I%s AS %s', relnamespace::regnamespace, relname,"  # noqa: S608
        " ' WITH (' || array_to_string(reloptions, ', ') || ')', pg_get_viewdef(reader.oid)) AS statement"
        " FROM pg_class AS reader WHERE reader.oid IN"
        f" (SELECT reader FROM ({_READERS}) AS readers WHERE movable) ORDER BY reader.oid",
        list(aggregates),
        list(except_for),
    )
    return [row["statement"] for row in rows]


async def immovable_readers(db: Database, aggregates: Sequence[str], *, except_for: Collection[str]) -> list[str]:
    """What reads one of these aggregates, or is made of its row type, and cannot be bound to another, in words."""
    rows = await db.fetch(
        f"SELECT DISTINCT description FROM ({_READERS})"  # noqa: S608 # constants of this file
        " AS readers WHERE NOT movable ORDER BY 1",
        list(aggregates),
        list(except_for),
    )
    return [row["description"] for row in rows]


async def copy_storage(db: Database, old: str, new: str) -> None:
    """Copy the chunk interval and the indexes; the new aggregate must have no rows yet."""
    tables = await materialised(db, old), await materialised(db, new)
    interval = await db.fetchval(
        "SELECT time_interval FROM timescaledb_information.dimensions"
        " WHERE format('%I.%I', hypertable_schema, hypertable_name) = $1",
        tables[0],
    )
    await db.fetch("SELECT set_chunk_time_interval($1::text::regclass, $2::interval)", tables[1], interval)
    present, wanted = [await _indexes(db, table) for table in reversed(tables)]
    for index in wanted:
        if index not in present:
            await db.script(f"CREATE INDEX ON {new} USING {index}")  # on the table behind it, only a superuser may


async def copy_rights(db: Database, old: str, new: str) -> None:
    """Copy owner and grants of the aggregate and of the table behind it; revoke what the defaults gave besides."""
    owner = await db.fetchval(
        "SELECT old.relowner::regrole::text FROM pg_class AS old, pg_class AS new"
        " WHERE old.oid = $1::text::regclass AND new.oid = $2::text::regclass AND old.relowner <> new.relowner",
        old,
        new,
    )
    if owner is not None:
        await db.script(f"ALTER MATERIALIZED VIEW {new} OWNER TO {owner}")
    for source, target in ((old, new), (await materialised(db, old), await materialised(db, new))):
        await _run_each(db, _REVOKES, target)
        await _run_each(db, _GRANTS, source, target)


async def copy_comments(db: Database, old: str, new: str) -> None:
    """Copy the comments on the aggregate and on its columns."""
    await _run_each(
        db,
        "SELECT CASE objsubid WHEN 0 THEN format('COMMENT ON VIEW %s IS %L', $2::text, description)"
        " ELSE format('COMMENT ON COLUMN %s.%I IS %L', $2::text, attname, description) END AS sql"
        " FROM pg_description LEFT JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid AND objsubid > 0"
        " WHERE classoid = 'pg_class'::regclass AND objoid = $1::text::regclass",
        old,
        new,
    )


async def _run_each(db: Database, query: str, *args: object) -> None:
    """Run the statements that the query returns as `sql`."""
    for row in await db.fetch(query, *args):
        await db.script(row["sql"])


async def copy_policies(db: Database, old: str, new: str) -> None:
    """Copy the columnstore's settings and every policy with the settings of its job."""
    settings = await db.fetchrow(
        "SELECT segmentby, orderby FROM timescaledb_information.hypertable_compression_settings"
        " WHERE hypertable = $1::text::regclass",
        await materialised(db, old),
    )
    if settings is not None:
        given = "".join(f", timescaledb.{name} = '{text}'" for name, text in settings.items() if text)
        await db.script(f"ALTER MATERIALIZED VIEW {new} SET (timescaledb.enable_columnstore{given})")
    for job in await db.fetch(
        "SELECT job_id, proc_name, config FROM timescaledb_information.jobs"  # noqa: S608 # our own text
        f" WHERE {_RELATION_OF_JOB} = $1::text::regclass"
        " AND proc_name = ANY ($2::text[]) ORDER BY job_id",
        old,
        list(_ADD_POLICY),
    ):
        await _copy_policy(db, job, new)


async def _copy_policy(db: Database, job: Row, new: str) -> None:
    await db.execute(_ADD_POLICY[job["proc_name"]], new, job["config"])
    # The new job gets every setting of the old one, except the ids of the tables that it works on.
    await db.fetch(
        "SELECT alter_job(made.job_id, schedule_interval => old.schedule_interval,"  # noqa: S608 # our own text
        " max_runtime => old.max_runtime,"
        " max_retries => old.max_retries, retry_period => old.retry_period, scheduled => old.scheduled,"
        " config => old.config || jsonb_strip_nulls(jsonb_build_object("
        "'hypertable_id', made.config->'hypertable_id', 'mat_hypertable_id', made.config->'mat_hypertable_id')),"
        " fixed_schedule => old.fixed_schedule, initial_start => old.initial_start)"
        " FROM timescaledb_information.jobs AS old, timescaledb_information.jobs AS made"
        " WHERE old.job_id = $1 AND made.proc_name = old.proc_name"
        f" AND {_RELATION_OF_JOB.replace('hypertable_', 'made.hypertable_')} = $2::text::regclass",
        job["job_id"],
        new,
    )


async def _indexes(db: Database, table: str) -> list[str]:
    """Each index as what follows USING in its definition."""
    rows = await db.fetch(
        "SELECT pg_get_indexdef(indexrelid) AS definition FROM pg_index WHERE indrelid = $1::text::regclass", table
    )
    return [row["definition"].partition(" USING ")[2] for row in rows]


# Some jobs have no relation, and the server may evaluate the conditions of a WHERE in any order.
_RELATION_OF_JOB = (
    "CASE WHEN hypertable_name IS NOT NULL THEN format('%I.%I', hypertable_schema, hypertable_name)::regclass END"
)

# $1: aggregates, $2: relations that are moved by name. An aggregate of somebody else's reads through views of its own.
_READERS = """
WITH aggregate AS (
    SELECT format('%I.%I', user_view_schema, user_view_name)::regclass::oid AS relation,
           format('%I.%I', stored.schema_name, stored.table_name)::regclass::oid AS rows_table,
           format('%I.%I', partial_view_schema, partial_view_name)::regclass::oid AS partial_view,
           format('%I.%I', direct_view_schema, direct_view_name)::regclass::oid AS direct_view
    FROM _timescaledb_catalog.continuous_agg
    JOIN _timescaledb_catalog.hypertable AS stored ON stored.id = mat_hypertable_id
), moved AS (
    SELECT * FROM aggregate WHERE relation = ANY (SELECT unnest($1::text[])::regclass::oid)
), own AS (
    SELECT unnest(ARRAY[relation, partial_view, direct_view]) AS oid FROM moved
), dependent AS (
    SELECT classid, objid, refobjid FROM pg_depend
    WHERE refclassid = 'pg_class'::regclass AND deptype = 'n'
      AND classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass)
      AND refobjid IN (SELECT unnest(ARRAY[relation, rows_table]) FROM moved)
    UNION
    SELECT classid, objid, NULL FROM pg_depend
    JOIN pg_type ON pg_type.oid = refobjid AND refclassid = 'pg_type'::regclass AND deptype = 'n'
    JOIN pg_class ON reltype = coalesce(nullif(typelem, 0), pg_type.oid)
    WHERE pg_class.oid IN (SELECT relation FROM moved)
)
SELECT reader.oid AS reader,
       CASE WHEN reader.oid IS NULL THEN pg_describe_object(classid, objid, 0)
            ELSE pg_describe_object('pg_class'::regclass, reader.oid, 0) END AS description,
       coalesce(reader.relkind = 'v' AND pg_has_role(reader.relowner, 'USAGE')
                AND refobjid IN (SELECT relation FROM moved)
                AND reader.oid NOT IN (SELECT unnest(ARRAY[relation, partial_view, direct_view]) FROM aggregate),
                false) AS movable
FROM dependent
LEFT JOIN pg_rewrite ON classid = 'pg_rewrite'::regclass AND pg_rewrite.oid = objid
LEFT JOIN pg_class AS reader ON reader.oid = pg_rewrite.ev_class
WHERE reader.oid IS NULL
   OR (reader.oid NOT IN (SELECT oid FROM own) AND NOT (reader.relname = ANY ($2::text[])))
"""

_REVOKES = """
SELECT format('REVOKE ALL ON %s FROM %s', $1::text, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END)
       AS sql
FROM (SELECT DISTINCT (aclexplode(relacl)).grantee, relowner FROM pg_class WHERE oid = $1::text::regclass) AS given
WHERE grantee <> relowner
"""

# Grants of single columns are not looked for: on an aggregate the server refuses them (2.26.4).
_GRANTS = """
SELECT format('GRANT %s ON %s TO %s%s', privilege_type, $2::text,
              CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
              CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS sql
FROM (SELECT (aclexplode(relacl)).*, relowner FROM pg_class WHERE oid = $1::text::regclass) AS given
WHERE grantee <> relowner
"""
