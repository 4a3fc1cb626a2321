"""Bring a database to the schema this program needs, and back.

Every migration is one transaction that also records it, under an advisory lock of that transaction (a lock of the
session would be shared by strangers behind PgBouncer). Two programs that migrate at once take turns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import ingestd
from ingestd.config import Config
from ingestd.errors import DatabaseError, SchemaError
from ingestd.failpoints import passing
from ingestd.storage import engine as engines
from ingestd.storage import migrations, policies
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine, EngineChoice
from ingestd.storage.migrations import Applied, Migration

_LOCK_KEY = 0x696E67_65737464  # "ingestd"
_LOCK_NOT_AVAILABLE = "55P03"

_RECORD_TABLE = """
CREATE TABLE IF NOT EXISTS ingestd_migrations (
    version         integer     PRIMARY KEY,
    name            text        NOT NULL,
    checksum        text        NOT NULL,
    engine          text        NOT NULL,
    program_version text        NOT NULL,
    applied_at      timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One line of `ingestd migrate status`; `applied_at` is None while it is still to be run."""

    version: int
    name: str
    applied_at: datetime | None


async def migrate(
    db: Database, config: Config, *, engine: EngineChoice = "auto", lock_timeout_s: float = 10.0
) -> list[str]:
    """Apply what is missing and converge the policies; what was done, one line each (empty: nothing to do).

    Raises SchemaError when the database contradicts the files, when another program holds the lock for longer than
    `lock_timeout_s`, or when the chosen engine is not to be had.
    """
    done: list[str] = []
    found = await _settle_engine(db, engine, done, lock_timeout_s)
    files = migrations.load(found)
    for migration in migrations.pending(found, files, await _applied(db)):
        async with _locked(db, lock_timeout_s):
            await db.script(_RECORD_TABLE)
            # Another program may have applied it while this one waited for the lock.
            if migration in migrations.pending(found, files, await _applied(db)):
                await _apply(db, migration, found)
                done.append(f"applied {migration}")
    async with _locked(db, lock_timeout_s):
        done += await policies.converge(db, found, config)
    return done


async def plan(db: Database, config: Config, *, engine: EngineChoice = "auto") -> str:
    """The SQL `migrate` would run now, as text; changes nothing."""
    present = await engines.detect(db)
    parts: list[str] = []
    if present is Engine.POSTGRES and await _wants_extension(db, engine):
        parts.append("CREATE EXTENSION IF NOT EXISTS timescaledb;")
        present = Engine.TIMESCALEDB
    waiting = migrations.pending(present, migrations.load(present), await _applied(db))
    parts += [f"-- {migration}\n{migration.up}" for migration in waiting]
    if waiting:
        parts.append("-- then the policies: run this again after migrating to see what they would change")
    else:
        parts += [f"-- {change.text}\n{change.sql}" for change in await policies.changes(db, present, config)]
    return "\n".join(parts)


async def status(db: Database) -> list[MigrationStatus]:
    """Every migration, applied or not, in order."""
    applied = {row.version: row for row in await _applied(db)}
    lines = [MigrationStatus(row.version, row.name, row.applied_at) for row in applied.values()]
    files = migrations.load(await engines.detect(db))
    lines += [MigrationStatus(file.version, file.name, None) for file in files if file.version not in applied]
    return sorted(lines, key=lambda line: line.version)


async def down(db: Database, to: int, *, lock_timeout_s: float = 10.0) -> list[str]:
    """Undo every migration above number `to`, newest first; what was undone. The data in what it drops is lost."""
    engine = await engines.detect(db)
    files = {migration.version: migration for migration in migrations.load(engine)}
    undone: list[str] = []
    while True:
        async with _locked(db, lock_timeout_s):
            applied = await _applied(db)
            migrations.pending(engine, list(files.values()), applied)
            if not applied or applied[-1].version <= to:
                return undone
            migration = files[applied[-1].version]
            await _run(db, migration, migration.down)
            await db.execute("DELETE FROM ingestd_migrations WHERE version = $1", migration.version)
            undone.append(f"undid {migration}")


async def check_schema(db: Database) -> Engine:
    """The engine, when the schema is the one this program needs; else SchemaError. Two short queries."""
    engine = await engines.detect(db)
    waiting = migrations.pending(engine, migrations.load(engine), await _applied(db))
    if waiting:
        names = ", ".join(str(migration) for migration in waiting)
        raise SchemaError(f"{db.target}: the schema lacks {names}: run `ingestd migrate`")
    return engine


async def _settle_engine(db: Database, choice: EngineChoice, done: list[str], lock_timeout_s: float) -> Engine:
    present = await engines.detect(db)
    if present is not Engine.POSTGRES:
        if choice == "postgres":
            raise SchemaError(f"{db.target}: has the timescaledb extension; the plain engine needs a database without")
        return present
    if not await _wants_extension(db, choice):
        return present
    async with _locked(db, lock_timeout_s):
        await engines.create_extension(db)
    done.append("created extension timescaledb")
    return await engines.detect(db)


async def _wants_extension(db: Database, choice: EngineChoice) -> bool:
    """Whether to add TimescaleDB: never to a database that was set up without it."""
    if choice == "postgres" or await _applied(db):
        return False
    obstacle = await engines.obstacle_to_extension(db)
    if obstacle is not None and choice == "timescaledb":
        raise SchemaError(f"{db.target}: {obstacle}")
    return obstacle is None


async def _applied(db: Database) -> Sequence[Applied]:
    if await db.fetchval("SELECT to_regclass('ingestd_migrations')::text") is None:
        return []
    rows = await db.fetch("SELECT version, name, checksum, engine, applied_at FROM ingestd_migrations ORDER BY version")
    return [Applied(**dict(row)) for row in rows]


async def _apply(db: Database, migration: Migration, engine: Engine) -> None:
    await _run(db, migration, migration.up)
    passing("migrate.applied")
    await db.execute(
        "INSERT INTO ingestd_migrations (version, name, checksum, engine, program_version) VALUES ($1, $2, $3, $4, $5)",
        migration.version,
        migration.name,
        migration.checksum,
        engine.value,
        ingestd.__version__,
    )
    passing("migrate.recorded")


async def _run(db: Database, migration: Migration, sql: str) -> None:
    if _has_no_statement(sql):
        return
    try:
        await db.script(sql)
    except DatabaseError as exc:
        context = f" ({exc.context.partition(chr(10))[0]})" if exc.context else ""
        raise SchemaError(f"{db.target}: migration {migration} failed: {exc} [{exc.sqlstate}]{context}") from exc


def _has_no_statement(sql: str) -> bool:
    """Whether a file is comments only: the driver fails on the server's answer to an empty query."""
    return all(not line.strip() or line.lstrip().startswith("--") for line in sql.splitlines())


class _LockTaken(Exception):
    """Another session holds the migration lock."""


@asynccontextmanager
async def _locked(db: Database, lock_timeout_s: float) -> AsyncIterator[None]:
    """A transaction that is alone in changing the schema."""
    try:
        async with db.transaction(lock_timeout_s=lock_timeout_s):
            await _take_lock(db)
            yield
    except _LockTaken as exc:
        # Asked after the transaction has ended: a failed one answers no question.
        holder = await _lock_holder(db)
        waited = f"waited {lock_timeout_s:g} s for its lock"
        raise SchemaError(f"{db.target}: another migration is running{holder}; {waited}") from exc


async def _take_lock(db: Database) -> None:
    try:
        await db.script(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")
    except DatabaseError as exc:
        if exc.sqlstate == _LOCK_NOT_AVAILABLE:
            raise _LockTaken from exc
        raise


async def _lock_holder(db: Database) -> str:
    row = await db.fetchrow(
        "SELECT activity.pid, application_name, usename, client_addr::text AS address, xact_start"
        " FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)"
        " WHERE locktype = 'advisory' AND granted AND objsubid = 1"
        " AND ((classid::bigint << 32) | objid::bigint) = $1",
        _LOCK_KEY,
    )
    if row is None:
        return ""
    since = f" since {row['xact_start']:%H:%M:%S} UTC" if row["xact_start"] is not None else ""
    return f" ({row['application_name'] or 'unnamed'}, user {row['usename']}, server process {row['pid']}{since})"
