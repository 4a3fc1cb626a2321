"""Runs one migration with its record, and tells which migrations a database has.

Those of the schema are rows of `ingestd_migrations`; those of packs, of which each has its own numbers, are rows of
`ingestd_pack_migrations`, a table that exists from the first pack on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import ingestd
from ingestd.errors import DatabaseError, SchemaError
from ingestd.failpoints import passing
from ingestd.storage import lock_waits, migrations
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migration_steps import locked
from ingestd.storage.migrations import Applied, Migration
from ingestd.storage.session_settings import SCHEMA, quoted

_TABLE = f"""
CREATE TABLE IF NOT EXISTS {SCHEMA}.ingestd_migrations (
    version         integer     PRIMARY KEY,
    name            text        NOT NULL,
    checksum        text        NOT NULL,
    engine          text        NOT NULL,
    program_version text        NOT NULL,
    applied_at      timestamptz NOT NULL DEFAULT now()
)
"""
_PACK_TABLE = f"""
CREATE TABLE IF NOT EXISTS {SCHEMA}.ingestd_pack_migrations (
    pack            text        NOT NULL,
    version         integer     NOT NULL,
    name            text        NOT NULL,
    checksum        text        NOT NULL,
    engine          text        NOT NULL,
    program_version text        NOT NULL,
    applied_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pack, version)
)
"""


async def applied(db: Database) -> Sequence[Applied]:
    """The applied migrations of the schema, in order.

    Raises SchemaError if there are none, and the role's search_path leads to our tables in another schema.
    """
    if not await _exists(db, "ingestd_migrations"):
        await _require_no_other_home(db)
        return []
    rows = await db.fetch("SELECT version, name, checksum, engine, applied_at FROM ingestd_migrations ORDER BY version")
    return [Applied(**row) for row in rows]


async def applied_of_packs(db: Database) -> Sequence[Applied]:
    """The applied migrations of every pack, by pack and in order."""
    if not await _exists(db, "ingestd_pack_migrations"):
        return []
    rows = await db.fetch(
        "SELECT pack, version, name, checksum, engine, applied_at FROM ingestd_pack_migrations ORDER BY pack, version"
    )
    return [Applied(**row) for row in rows]


async def applied_in_series(db: Database, pack: str) -> Sequence[Applied]:
    """The applied migrations of one pack, or of the schema (""), in order."""
    return [row for row in await applied_of_packs(db) if row.pack == pack] if pack else await applied(db)


async def apply(
    db: Database, migration: Migration, files: Sequence[Migration], engine: Engine, lock_timeout_s: float
) -> bool:
    """Run `up` and record it, in one transaction, which is tried again while daemons hold what it must lock. False:
    another program did, while this one waited for the lock.

    `files`: all migrations of its series. Raises SchemaError if the SQL fails, and the database is as before.
    """
    once = partial(_apply, db, migration, files, engine, lock_timeout_s)
    return await lock_waits.retried(db, f"migration {migration}", once)


async def _apply(
    db: Database, migration: Migration, files: Sequence[Migration], engine: Engine, lock_timeout_s: float
) -> bool:
    async with locked(db, lock_timeout_s, brief=True):
        await db.script(_PACK_TABLE if migration.pack else _TABLE)
        if migration not in migrations.pending(engine, files, await applied_in_series(db, migration.pack)):
            return False
        await run(db, migration, migration.up)
        passing("migrate.applied")
        await record(db, migration, engine)
        passing("migrate.recorded")
    return True


async def run(db: Database, migration: Migration, sql: str) -> None:
    """Run the SQL of a migration in the caller's transaction. Raises SchemaError, which names the migration."""
    if _has_no_statement(sql):
        return
    try:
        path = await db.fetchval("SELECT current_setting('search_path')")
        await db.script(sql)
        await db.fetchval("SELECT set_config('search_path', $1, true)", path)  # a pack's SQL sets its own
    except DatabaseError as exc:
        if exc.sqlstate in lock_waits.NOT_FREE:
            raise  # who calls this tries again
        context = f" ({exc.context.partition(chr(10))[0]})" if exc.context else ""
        raise SchemaError(f"{db.target}: migration {migration} failed: {exc} [{exc.sqlstate}]{context}") from exc


async def record(db: Database, migration: Migration, engine: Engine) -> None:
    """Record a migration as applied, in the caller's transaction."""
    row = migration.version, migration.name, migration.checksum, engine.value, ingestd.__version__
    columns = "version, name, checksum, engine, program_version"
    if migration.pack:
        sql = f"INSERT INTO ingestd_pack_migrations ({columns}, pack) VALUES ($1, $2, $3, $4, $5, $6)"  # noqa: S608
        await db.execute(sql, *row, migration.pack)
    else:
        await db.execute(f"INSERT INTO ingestd_migrations ({columns}) VALUES ($1, $2, $3, $4, $5)", *row)  # noqa: S608


async def unrecord(db: Database, migration: Migration) -> None:
    """Delete the record of a migration that was undone, in the caller's transaction."""
    if migration.pack:
        sql = "DELETE FROM ingestd_pack_migrations WHERE pack = $1 AND version = $2"
        await db.execute(sql, migration.pack, migration.version)
    else:
        await db.execute("DELETE FROM ingestd_migrations WHERE version = $1", migration.version)


async def _exists(db: Database, table: str) -> bool:
    return await db.fetchval("SELECT to_regclass($1::text)::text", f"{SCHEMA}.{table}") is not None


async def _require_no_other_home(db: Database) -> None:
    """Raise SchemaError if the role's search_path leads to our tables in another schema, as earlier versions allowed:
    new tables beside them would leave behind everything that is stored."""
    rows = await db.fetch(
        "SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE relname = 'ingestd_migrations' AND relkind = 'r' AND has_schema_privilege(nspname, 'USAGE')"
        " AND has_table_privilege(pg_class.oid, 'SELECT') AND nspname = ANY (SELECT trim(both ' \"' FROM entry)"
        " FROM pg_settings, unnest(string_to_array(replace(reset_val, '$user', current_user), ',')) AS entry"
        " WHERE pg_settings.name = 'search_path')"
    )
    for row in rows:
        schema = quoted(row["nspname"])
        if await db.fetchval(f"SELECT EXISTS (SELECT FROM {schema}.ingestd_migrations)"):  # noqa: S608 # quoted
            raise SchemaError(
                f"{db.target}: the tables are in the schema {schema}, to which the search_path of the role or the "
                f"database leads, and belong in {SCHEMA}: move each with ALTER TABLE {schema}.name SET SCHEMA {SCHEMA}"
                " (functions, views and continuous aggregates too), or migrate a new database and move the rows there"
            )


def _has_no_statement(sql: str) -> bool:
    """Whether a file is comments only: the driver fails on the server's answer to an empty query."""
    return all(not line.strip() or line.lstrip().startswith("--") for line in sql.splitlines())
