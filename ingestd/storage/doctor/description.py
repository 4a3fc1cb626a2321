"""What the migrations make, as data: read from a database, and from the descriptions that lie beside the migrations.

The schema has one for each engine, and so has each pack.

`python -m tests.support.described` writes the descriptions from migrated databases; a test compares them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migrations import CONTRACT, read_sql, sql_root

SCHEMAS = ("public", "audit")


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """`type` includes the collation. `default` is what follows the type in a definition: DEFAULT …, or GENERATED …"""

    type: str
    required: bool = False
    default: str = ""


class Relation(msgspec.Struct, frozen=True, omit_defaults=True):
    """`kind`: table, hypertable, view or aggregate. `create`: the statement that makes a view or an aggregate.

    `constraints`, `indexes` (without those of constraints) and `triggers` by name, each with its definition.
    `columnstore`: what a compressed batch is. `chunks`: of a pack's hypertable, the time that a chunk covers.
    """

    kind: str
    columns: dict[str, Column]
    constraints: dict[str, str] = {}
    indexes: dict[str, str] = {}
    triggers: dict[str, str] = {}
    columnstore: dict[str, str] = {}
    chunks: str = ""
    create: str = ""


class Function(msgspec.Struct, frozen=True, omit_defaults=True):
    """`body`: a fingerprint of its text; empty for a body that the server stores parsed, and prints in its own way."""

    create: str
    body: str = ""


class Description(msgspec.Struct, frozen=True, omit_defaults=True):
    """A schema, or a pack. `version`: the number of its newest migration, except for those that contract, which may
    wait. Relations and functions are named with their schema. `triggers`: a pack's on tables of the schema, by name.
    """

    version: int
    relations: dict[str, Relation]
    functions: dict[str, Function]
    triggers: dict[str, str] = {}


def described(engine: Engine, pack: str = "") -> Description | None:
    """What the migrations of this engine make, or those of a pack; None: the package has no description for it."""
    name = f"{engine.value}/{pack}.json" if pack else f"{engine.value}.json"
    if not (sql_root() / "described").joinpath(*name.split("/")).is_file():
        return None
    return msgspec.json.decode(read_sql(f"described/{name}").encode(), type=Description)


def to_json(description: Description) -> bytes:
    """The text of the file: one line for each relation and function, so that branches can be merged."""
    encode = msgspec.json.Encoder().encode
    parts = [f'"version": {description.version}']
    titled: dict[str, Mapping[str, object]] = {
        "relations": description.relations,
        "functions": description.functions,
        "triggers": description.triggers,
    }
    for title, entries in titled.items():
        lines = [f"  {encode(name).decode()}: {encode(entries[name]).decode()}" for name in sorted(entries)]
        if lines or title != "triggers":
            parts.append(f'"{title}": {{\n' + ",\n".join(lines) + "\n}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


async def describe(db: Database, engine: Engine) -> Description:
    """The schema of a database, with whatever relations others have made in it."""
    version = await db.fetchval(
        "SELECT coalesce(max(version), 0) FROM ingestd_migrations WHERE NOT starts_with(name, $1)", CONTRACT
    )
    functions = await _functions(db, "public", "ingestd_")
    return Description(version, await _relations(db, engine, SCHEMAS), functions)


async def describe_pack(db: Database, engine: Engine, pack: str) -> Description:
    """The schema of a pack, with whatever relations others have made in it."""
    schema = schema_of(pack)
    version = await db.fetchval("SELECT max(version) FROM ingestd_pack_migrations WHERE pack = $1", pack)
    relations = await _relations(db, engine, (schema,))
    if engine.has_hypertables:
        chunks = {row["relation"]: row["every"] for row in await db.fetch(_CHUNKS, schema)}
        relations = {
            name: msgspec.structs.replace(found, chunks=chunks.get(name, "")) for name, found in relations.items()
        }
    if engine.has_continuous_aggregates:
        for row in await db.fetch(_REFRESHES, schema):
            found = relations[row["relation"]]
            relations[row["relation"]] = msgspec.structs.replace(found, create=f"{found.create}\n{row['policy']}")
    for row in await db.fetch(_OF_OPTIONS, schema):
        found = relations[row["relation"]]
        again = f"{found.create.rstrip(';')};\nSELECT {schema}.options_changed();"
        relations[row["relation"]] = msgspec.structs.replace(found, create=again)
    triggers = {row["name"]: row["definition"] for row in await db.fetch(_FOREIGN_TRIGGERS, schema)}
    return Description(version or 0, relations, await _functions(db, schema), triggers)


def schema_of(pack: str) -> str:
    """The schema that the pack makes."""
    return "analytics" if pack == "wolfinch" else pack


async def _relations(db: Database, engine: Engine, schemas: Sequence[str]) -> dict[str, Relation]:
    special = await _special_kinds(db) if engine.has_hypertables else {}
    columns: defaultdict[str, dict[str, Column]] = defaultdict(dict)
    for row in await db.fetch(_COLUMNS, list(schemas)):
        columns[row["relation"]][row["name"]] = Column(row["type"], row["required"], row["default"])
    parts = {table: await _parts(db, sql, schemas) for table, sql in _PARTS.items()}
    if engine.has_continuous_aggregates:
        parts["columnstore"] = await _parts(db, _COLUMNSTORE, schemas)
    relations = {}
    for row in await db.fetch(_RELATIONS, list(schemas)):
        name = row["relation"]
        kind, create = special.get(name, ("view" if row["view"] else "table", row["create"] or ""))
        own: dict[str, Any] = {part: found.get(name, {}) for part, found in parts.items()}
        relations[name] = Relation(kind, columns[name], create=create, **own)
    return relations


async def _functions(db: Database, schema: str, prefix: str = "") -> dict[str, Function]:
    rows = await db.fetch(_FUNCTIONS, schema, prefix)
    return {row["name"]: Function(row["create"], row["body"]) for row in rows}


async def _special_kinds(db: Database) -> dict[str, tuple[str, str]]:
    """TimescaleDB's relations: each one's kind, and the statement that makes it."""
    rows: Sequence[Any] = await db.fetch(
        "SELECT format('%s.%s', hypertable_schema, hypertable_name) AS relation, 'hypertable' AS kind, '' AS create"
        " FROM timescaledb_information.hypertables UNION ALL"
        " SELECT format('%s.%s', view_schema, view_name), 'aggregate', format('CREATE MATERIALIZED VIEW %I.%I WITH"
        " (timescaledb.continuous, timescaledb.materialized_only = %s, timescaledb.create_group_indexes = false) AS'"
        " || E'\\n' || '%s WITH NO DATA;',"
        " view_schema, view_name, materialized_only, rtrim(view_definition, E';\\n '))"
        " FROM timescaledb_information.continuous_aggregates"
    )
    return {row["relation"]: (row["kind"], row["create"]) for row in rows}


async def _parts(db: Database, sql: str, schemas: Sequence[str]) -> dict[str, dict[str, str]]:
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in await db.fetch(sql, list(schemas)):
        found[row["relation"]][row["name"]] = row["definition"]
    return dict(found)


_NAME = "format('%s.%s', nspname, relname) AS relation"
_OURS = (
    "JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = ANY ($1::text[])"
    " AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid"
    " AND deptype = 'e')"
)
_RELATIONS = f"""
SELECT {_NAME}, relkind = 'v' AS view,
       CASE relkind WHEN 'v' THEN format(E'CREATE OR REPLACE VIEW %I.%I AS\\n%s', nspname, relname,
                                         pg_get_viewdef(pg_class.oid)) END AS create
FROM pg_class {_OURS} AND relkind IN ('r', 'v', 'p')
"""  # noqa: S608 # constants of this file
_COLUMNS = f"""
SELECT {_NAME}, attname AS name, attnotnull AS required,
       format_type(atttypid, atttypmod) || CASE WHEN attcollation <> typcollation
           THEN (SELECT format(' COLLATE %I', collname) FROM pg_collation WHERE oid = attcollation)
           ELSE '' END AS type,
       CASE WHEN attidentity = 'a' THEN 'GENERATED ALWAYS AS IDENTITY'
            WHEN attidentity = 'd' THEN 'GENERATED BY DEFAULT AS IDENTITY'
            WHEN attgenerated <> '' THEN format('GENERATED ALWAYS AS (%s) STORED', pg_get_expr(adbin, adrelid))
            WHEN adbin IS NOT NULL THEN 'DEFAULT ' || pg_get_expr(adbin, adrelid) ELSE '' END AS default
FROM pg_class
JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
JOIN pg_type ON pg_type.oid = atttypid
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
{_OURS} AND relkind IN ('r', 'v', 'p') ORDER BY attrelid, attnum
"""  # noqa: S608 # as above
_PARTS = {
    "constraints": f"""
SELECT {_NAME}, conname AS name, pg_get_constraintdef(pg_constraint.oid) AS definition
FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid {_OURS} AND contype IN ('c', 'f', 'p', 'u', 'x')
ORDER BY name
""",  # noqa: S608 # as above
    "indexes": f"""
SELECT {_NAME}, (SELECT relname FROM pg_class AS own WHERE own.oid = indexrelid) AS name,
       pg_get_indexdef(indexrelid) AS definition
FROM pg_index JOIN pg_class ON pg_class.oid = indrelid {_OURS} AND indisvalid
 AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid) ORDER BY name
""",  # noqa: S608 # as above
    # TimescaleDB's own triggers differ between its versions.
    "triggers": f"""
SELECT {_NAME}, tgname AS name,
       pg_get_triggerdef(pg_trigger.oid) || CASE tgenabled WHEN 'D' THEN ' (disabled)' ELSE '' END AS definition
FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid {_OURS} AND NOT tgisinternal
 AND NOT EXISTS (SELECT FROM pg_proc JOIN pg_depend ON classid = 'pg_proc'::regclass AND objid = pg_proc.oid
                 WHERE pg_proc.oid = tgfoid AND deptype = 'e') ORDER BY name
""",  # noqa: S608 # as above
}
_COLUMNSTORE = f"""
SELECT {_NAME}, 'columnstore' AS name,
       concat_ws(', ', 'timescaledb.enable_columnstore', 'timescaledb.segmentby = ' || quote_literal(segmentby),
                 'timescaledb.orderby = ' || quote_literal(orderby)) AS definition
FROM timescaledb_information.hypertable_compression_settings JOIN pg_class ON pg_class.oid = hypertable {_OURS}
"""  # noqa: S608 # as above
# An option's value is the configuration's: `ingestd migrate` sets it. What not everybody may call stays so.
_FUNCTIONS = """
SELECT format('%s.%s(%s)', nspname, proname, replace(oidvectortypes(proargtypes), ', ', ',')) AS name,
       CASE WHEN prokind = 'a' THEN format(
                'CREATE AGGREGATE %s.%I(%s) (SFUNC = %s, STYPE = %s, FINALFUNC = %s, FINALFUNC_EXTRA, PARALLEL = SAFE)',
                nspname, proname, pg_get_function_identity_arguments(pg_proc.oid), aggtransfn, aggtranstype::regtype,
                aggfinalfn)
            WHEN starts_with(proname, 'option_')
            THEN regexp_replace(pg_get_functiondef(pg_proc.oid), 'RETURN .*', $$RETURN ''::text$$)
            ELSE pg_get_functiondef(pg_proc.oid) END
       || CASE WHEN proacl IS NULL OR EXISTS (SELECT FROM aclexplode(proacl) WHERE grantee = 0) THEN ''
               ELSE format(E';\nREVOKE ALL ON FUNCTION %s.%I(%s) FROM PUBLIC', nspname, proname,
                           oidvectortypes(proargtypes)) END AS create,
       CASE WHEN prosqlbody IS NULL AND prokind = 'f' THEN md5(prosrc) ELSE '' END AS body
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace LEFT JOIN pg_aggregate ON aggfnoid = pg_proc.oid
WHERE nspname = $1 AND starts_with(proname, $2) AND prokind IN ('f', 'a')
ORDER BY prokind = 'a', name
"""
# Views that the pack's options_changed() makes anew by the option; see storage/packs.
_OF_OPTIONS = """
SELECT format('%s.%s', nspname, relname) AS relation
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
JOIN pg_proc ON pronamespace = relnamespace AND proname = 'options_changed'
WHERE nspname = $1 AND relkind = 'v' AND prosrc LIKE format('%%VIEW %s.%s AS%%', nspname, relname)
"""

_FOREIGN_TRIGGERS = """
SELECT tgname AS name,
       pg_get_triggerdef(pg_trigger.oid) || CASE tgenabled WHEN 'D' THEN ' (disabled)' ELSE '' END AS definition
FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid JOIN pg_class ON pg_class.oid = tgrelid
WHERE NOT tgisinternal AND tgparentid = 0
  AND pronamespace = to_regnamespace($1) AND relnamespace <> pronamespace
"""
_CHUNKS = """
SELECT format('%s.%s', hypertable_schema, hypertable_name) AS relation, time_interval::text AS every
FROM timescaledb_information.dimensions WHERE hypertable_schema = $1 AND time_interval IS NOT NULL
"""
_REFRESHES = """
SELECT format('%s.%s', hypertable_schema, hypertable_name) AS relation,
       format('SELECT add_continuous_aggregate_policy(%L, start_offset => INTERVAL %L, end_offset => INTERVAL %L,'
              ' schedule_interval => INTERVAL %L);', format('%I.%I', hypertable_schema, hypertable_name),
              config->>'start_offset', config->>'end_offset', schedule_interval) AS policy
FROM timescaledb_information.jobs
WHERE hypertable_schema = $1 AND proc_name = 'policy_refresh_continuous_aggregate'
"""
