"""What the migrations make, as data: read from a database, and from the description that lies beside the migrations.

`python -m tests.support.described` writes the descriptions from migrated databases; a test compares them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migrations import read_sql, sql_root

SCHEMAS = ("public", "audit", "analytics")


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """`type` includes the collation. `default` is what follows the type in a definition: DEFAULT …, or GENERATED …"""

    type: str
    required: bool = False
    default: str = ""


class Relation(msgspec.Struct, frozen=True, omit_defaults=True):
    """`kind`: table, hypertable, view or aggregate. `create`: the statement that makes a view or an aggregate.

    `constraints`, `indexes` (without those of constraints) and `triggers` by name, each with its definition.
    `columnstore`: what a compressed batch is.
    """

    kind: str
    columns: dict[str, Column]
    constraints: dict[str, str] = {}
    indexes: dict[str, str] = {}
    triggers: dict[str, str] = {}
    columnstore: dict[str, str] = {}
    create: str = ""


class Function(msgspec.Struct, frozen=True, omit_defaults=True):
    """`body`: a fingerprint of its text; empty for a body that the server stores parsed, and prints in its own way."""

    create: str
    body: str = ""


class Description(msgspec.Struct, frozen=True):
    """A schema. `version`: the number of its newest migration. Relations and functions are named with their schema."""

    version: int
    relations: dict[str, Relation]
    functions: dict[str, Function]


def described(engine: Engine) -> Description | None:
    """What the migrations of this engine make; None: the package has no description for it."""
    if not (sql_root() / "described" / f"{engine.value}.json").is_file():
        return None
    return msgspec.json.decode(read_sql(f"described/{engine.value}.json").encode(), type=Description)


def to_json(description: Description) -> bytes:
    """The text of the file: one line for each relation and function, so that branches can be merged."""
    encode = msgspec.json.Encoder().encode
    parts = [f'"version": {description.version}']
    for title, entries in (("relations", description.relations), ("functions", description.functions)):
        lines = [f"  {encode(name).decode()}: {encode(entries[name]).decode()}" for name in sorted(entries)]
        parts.append(f'"{title}": {{\n' + ",\n".join(lines) + "\n}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


async def describe(db: Database, engine: Engine) -> Description:
    """The schema of a database, with whatever relations others have made in it."""
    version = await db.fetchval("SELECT coalesce(max(version), 0) FROM ingestd_migrations")
    special = await _special_kinds(db) if engine.has_hypertables else {}
    columns: defaultdict[str, dict[str, Column]] = defaultdict(dict)
    for row in await db.fetch(_COLUMNS, list(SCHEMAS)):
        columns[row["relation"]][row["name"]] = Column(row["type"], row["required"], row["default"])
    parts = {table: await _parts(db, sql) for table, sql in _PARTS.items()}
    if engine.has_continuous_aggregates:
        parts["columnstore"] = await _parts(db, _COLUMNSTORE)
    relations = {}
    for row in await db.fetch(_RELATIONS, list(SCHEMAS)):
        name = row["relation"]
        kind, create = special.get(name, ("view" if row["view"] else "table", row["create"] or ""))
        own: dict[str, Any] = {part: found.get(name, {}) for part, found in parts.items()}
        relations[name] = Relation(kind, columns[name], create=create, **own)
    functions = {row["name"]: Function(row["create"], row["body"]) for row in await db.fetch(_FUNCTIONS)}
    return Description(version, relations, functions)


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


async def _parts(db: Database, sql: str) -> dict[str, dict[str, str]]:
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in await db.fetch(sql, list(SCHEMAS)):
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
       format('timescaledb.enable_columnstore, timescaledb.segmentby = %L, timescaledb.orderby = %L', segmentby,
              orderby) AS definition
FROM timescaledb_information.hypertable_compression_settings JOIN pg_class ON pg_class.oid = hypertable {_OURS}
"""  # noqa: S608 # as above
_FUNCTIONS = """
SELECT 'public.' || oid::regprocedure::text AS name, pg_get_functiondef(oid) AS create,
       CASE WHEN prosqlbody IS NULL THEN md5(prosrc) ELSE '' END AS body
FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND starts_with(proname, 'ingestd_') AND prokind = 'f'
"""
