"""Which database engine this is: TimescaleDB Community, TimescaleDB Apache, or plain PostgreSQL."""

from __future__ import annotations

import enum
from typing import Literal, TypeAlias

from ingestd.errors import DatabaseError, SchemaError
from ingestd.storage.database import Database

EngineChoice: TypeAlias = Literal["auto", "timescaledb", "postgres"]

MINIMUM_POSTGRES = 14
MINIMUM_TIMESCALEDB = (2, 19)


class Engine(enum.Enum):
    """`TIMESCALEDB` has everything; `TIMESCALEDB_APACHE` has hypertables only; `POSTGRES` is without the extension."""

    TIMESCALEDB = "timescaledb"
    TIMESCALEDB_APACHE = "timescaledb-apache"
    POSTGRES = "postgres"

    @property
    def has_hypertables(self) -> bool:
        return self is not Engine.POSTGRES

    @property
    def has_continuous_aggregates(self) -> bool:
        """Whether the server keeps the candles and the policies itself; otherwise the daemon does."""
        return self is Engine.TIMESCALEDB


async def detect(db: Database) -> Engine:
    """The engine of this database as it is now. Raises SchemaError when it is too old to be used."""
    row = await db.fetchrow(
        "SELECT current_setting('server_version_num')::integer AS server,"
        " (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS extension,"
        " current_setting('timescaledb.license', true) AS license"
    )
    assert row is not None
    if row["server"] < MINIMUM_POSTGRES * 10_000:
        raise SchemaError(f"{db.target}: PostgreSQL {MINIMUM_POSTGRES} or newer is needed")
    if row["extension"] is None:
        return Engine.POSTGRES
    _require_version(db, row["extension"])
    return Engine.TIMESCALEDB if row["license"] == "timescale" else Engine.TIMESCALEDB_APACHE


async def obstacle_to_extension(db: Database) -> str | None:
    """Why TimescaleDB cannot be added to this database, or None when it can (or is there already)."""
    row = await db.fetchrow(
        "SELECT (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb') AS available,"
        " EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') AS present,"
        " current_setting('timescaledb.disable_load', true) AS preloaded,"
        " has_database_privilege(current_database(), 'CREATE') AS may_create"
    )
    assert row is not None
    if row["present"]:
        return None
    if row["available"] is None:
        return "the server does not have the timescaledb extension installed"
    if row["preloaded"] is None:
        return "timescaledb is installed but not in the server's shared_preload_libraries"
    if not row["may_create"]:
        return "this user may not create extensions in this database"
    return None


async def create_extension(db: Database) -> None:
    """Add TimescaleDB to this database. Raises SchemaError when the server refuses."""
    try:
        await db.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
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
