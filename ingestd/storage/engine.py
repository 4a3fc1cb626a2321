"""Which database engine this is: TimescaleDB Community, TimescaleDB Apache, or plain PostgreSQL."""

from __future__ import annotations

import enum
from typing import Literal, TypeAlias

from ingestd.errors import DatabaseError, SchemaError
from ingestd.storage.database import Database
from ingestd.storage.session_settings import SCHEMA, quoted

EngineChoice: TypeAlias = Literal["auto", "timescaledb", "postgres"]

MINIMUM_POSTGRES = 14
MINIMUM_TIMESCALEDB = (2, 19)

CREATE_EXTENSION = f"CREATE EXTENSION IF NOT EXISTS timescaledb WITH SCHEMA {SCHEMA}"

_NO_SUCH_FILE = "58P01"
_PRELOAD = "add timescaledb to shared_preload_libraries in postgresql.conf, and restart the server"


class Engine(enum.Enum):
    """`TIMESCALEDB` has everything, `TIMESCALEDB_APACHE` hypertables only, `POSTGRES` no extension."""

    TIMESCALEDB = "timescaledb"
    TIMESCALEDB_APACHE = "timescaledb-apache"
    POSTGRES = "postgres"

    @property
    def has_hypertables(self) -> bool:
        return self is not Engine.POSTGRES

    @property
    def has_continuous_aggregates(self) -> bool:
        """Whether the server refreshes candles and runs the policies; otherwise the daemon does."""
        return self is Engine.TIMESCALEDB


# TimescaleDB's loader defines this setting when the server starts. pg_settings does not list settings that somebody
# only made up.
IS_PRELOADED = "EXISTS (SELECT FROM pg_settings WHERE name = 'timescaledb.disable_load')"


async def detect(db: Database) -> Engine:
    """The engine of this database. Raises SchemaError if it cannot be used as it is."""
    try:
        row = await db.fetchrow(
            "SELECT current_setting('server_version_num')::integer AS server, extversion AS extension,"  # noqa: S608
            f" nspname AS schema, current_setting('timescaledb.license', true) AS license, {IS_PRELOADED} AS preloaded"
            ", current_setting('server_encoding') AS encoding"
            " FROM (VALUES (1)) AS one LEFT JOIN pg_extension ON extname = 'timescaledb'"
            " LEFT JOIN pg_namespace ON pg_namespace.oid = extnamespace"
        )
    except DatabaseError as exc:
        if exc.sqlstate == _NO_SUCH_FILE:
            raise SchemaError(str(exc)) from exc
        raise
    assert row is not None
    if row["server"] < MINIMUM_POSTGRES * 10_000:
        raise SchemaError(f"{db.target}: PostgreSQL {MINIMUM_POSTGRES} or newer is needed")
    if row["encoding"] != "UTF8":
        raise SchemaError(
            f"{db.target}: its encoding is {row['encoding']}, which cannot hold every text that a venue sends; make "
            "one with CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8', and name it in database.dsn"
        )
    if row["extension"] is None:
        return Engine.POSTGRES
    if not row["preloaded"]:
        raise SchemaError(
            f"{db.target}: has the timescaledb extension, but the server was started without its library: {_PRELOAD}"
        )
    _require_version(db, row["extension"])
    db.extension_schema = row["schema"]
    return Engine.TIMESCALEDB if row["license"] == "timescale" else Engine.TIMESCALEDB_APACHE


async def obstacle_to_extension(db: Database) -> str | None:
    """Why TimescaleDB cannot be added to this database; None: it can, or it is there already."""
    row = await db.fetchrow(
        "SELECT (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb') AS available,"  # noqa: S608
        " EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') AS present,"
        f" {IS_PRELOADED} AS preloaded, current_user AS role, current_database() AS database,"
        " has_database_privilege(current_database(), 'CREATE') AS may_create"
    )
    assert row is not None
    if row["present"]:
        return None
    if row["available"] is None:
        return "the server does not have the timescaledb extension installed"
    if not row["preloaded"]:
        return f"timescaledb is installed, but the server was started without its library: {_PRELOAD}"
    if not row["may_create"]:
        grant = f"GRANT CREATE ON DATABASE {quoted(row['database'])} TO {quoted(row['role'])}"
        return f"the user {row['role']} may not create extensions in this database: {grant}"
    return None


async def create_extension(db: Database) -> None:
    """Add TimescaleDB to this database. Raises SchemaError when the server refuses."""
    try:
        await db.execute(CREATE_EXTENSION)
    except DatabaseError as exc:
        raise SchemaError(f"{db.target}: CREATE EXTENSION timescaledb failed: {exc}") from exc


def _require_version(db: Database, version: str) -> None:
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    if numbers < MINIMUM_TIMESCALEDB:
        needed = ".".join(map(str, MINIMUM_TIMESCALEDB))
        raise SchemaError(
            f"{db.target}: TimescaleDB {version} is too old, {needed} or newer is needed: "
            "ALTER EXTENSION timescaledb UPDATE"
        )
