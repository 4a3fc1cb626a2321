"""Bring a database to the schema this program needs, and back.

Every migration is one transaction that also records it, under an advisory lock of that transaction; what is too long
for one is done in steps (`migration_steps`). Two programs that migrate at once take turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import ingestd
from ingestd.config import Config
from ingestd.errors import DatabaseError, SchemaError
from ingestd.failpoints import passing
from ingestd.storage import candle_rebuild, migration_steps, migrations, policies
from ingestd.storage import engine as engines
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine, EngineChoice
from ingestd.storage.migration_lock import locked
from ingestd.storage.migration_steps import Direction, Step
from ingestd.storage.migrations import Applied, Migration

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
    """One line of `ingestd migrate status`; `applied_at` is None while it is still to be run. `note` says what is
    between the two: a migration that was interrupted."""

    version: int
    name: str
    applied_at: datetime | None
    note: str = ""


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
    await _settle_interrupted(db, files, "up", done, lock_timeout_s)
    for migration in migrations.pending(found, files, await _applied(db)):
        if _is_in_steps(migration, found):
            await _run_in_steps(db, _steps_up(migration, found), migration, "up", lock_timeout_s)
            done.append(f"applied {migration}")
            continue
        async with locked(db, lock_timeout_s):
            await db.script(_RECORD_TABLE)
            # Another program may have applied it while this one waited for the lock.
            if migration in migrations.pending(found, files, await _applied(db)):
                await _apply(db, migration, found)
                done.append(f"applied {migration}")
    async with locked(db, lock_timeout_s):
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
    parts += await _interrupted_plan(db)
    parts += [f"-- {migration}\n{migration.up}{await _steps_plan(db, migration, present)}" for migration in waiting]
    if waiting:
        parts.append("-- then the policies: run this again after migrating to see what they would change")
    else:
        parts += [f"-- {change.text}\n{change.sql}" for change in await policies.changes(db, present, config)]
    return "\n".join(parts)


async def status(db: Database) -> list[MigrationStatus]:
    """Every migration, applied or not, in order."""
    applied = {row.version: row for row in await _applied(db)}
    interrupted = await migration_steps.unfinished(db)
    notes = {} if interrupted is None else {interrupted.version: _note(interrupted)}
    lines = [
        MigrationStatus(row.version, row.name, row.applied_at, notes.get(row.version, "")) for row in applied.values()
    ]
    files = migrations.load(await engines.detect(db))
    lines += [
        MigrationStatus(file.version, file.name, None, notes.get(file.version, ""))
        for file in files
        if file.version not in applied
    ]
    return sorted(lines, key=lambda line: line.version)


async def down(db: Database, to: int, *, lock_timeout_s: float = 10.0) -> list[str]:
    """Undo every migration above number `to`, newest first; what was undone. The data in what it drops is lost."""
    engine = await engines.detect(db)
    files = {migration.version: migration for migration in migrations.load(engine)}
    undone: list[str] = []
    await _settle_interrupted(db, list(files.values()), "down", undone, lock_timeout_s, down_to=to)
    while True:
        async with locked(db, lock_timeout_s):
            applied = await _applied(db)
            migrations.pending(engine, list(files.values()), applied)
            if not applied or applied[-1].version <= to:
                return undone
            migration = files[applied[-1].version]
            if not _is_in_steps(migration, engine):
                await _run(db, migration, migration.down)
                await db.execute("DELETE FROM ingestd_migrations WHERE version = $1", migration.version)
        if _is_in_steps(migration, engine):
            await _run_in_steps(db, _steps_down(migration), migration, "down", lock_timeout_s)
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
    async with locked(db, lock_timeout_s):
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
    await _record(db, migration, engine)
    passing("migrate.recorded")


async def _record(db: Database, migration: Migration, engine: Engine) -> None:
    await db.execute(
        "INSERT INTO ingestd_migrations (version, name, checksum, engine, program_version) VALUES ($1, $2, $3, $4, $5)",
        migration.version,
        migration.name,
        migration.checksum,
        engine.value,
        ingestd.__version__,
    )


def _is_in_steps(migration: Migration, engine: Engine) -> bool:
    return migration.version == candle_rebuild.VERSION and engine.has_continuous_aggregates


def _steps_up(migration: Migration, engine: Engine) -> list[Step]:
    return candle_rebuild.steps(migration.up, Step("record", partial(_record, migration=migration, engine=engine)))


def _steps_down(migration: Migration) -> list[Step]:
    return candle_rebuild.steps(migration.down, Step("record", partial(_unrecord, migration=migration)))


async def _unrecord(db: Database, migration: Migration) -> None:
    await db.execute("DELETE FROM ingestd_migrations WHERE version = $1", migration.version)


async def _run_in_steps(
    db: Database, steps: Sequence[Step], migration: Migration, direction: Direction, lock_timeout_s: float
) -> None:
    await migration_steps.run(db, migration.version, direction, steps, lock_timeout_s=lock_timeout_s)
    async with locked(db, lock_timeout_s):
        await migration_steps.forget(db)


async def _settle_interrupted(
    db: Database,
    files: Sequence[Migration],
    wanted: Direction,
    done: list[str],
    lock_timeout_s: float,
    *,
    down_to: int = 0,
) -> None:
    """Before anything else: finish an interrupted migration whose schema is in force already, and drop what one
    has begun that goes the other way than is wanted now. Any other is continued by the caller."""
    interrupted = await migration_steps.unfinished(db)
    if interrupted is None:
        return
    migration = next(file for file in files if file.version == interrupted.version)
    if candle_rebuild.TAKE_OVER in interrupted.done:
        # Neither `up` nor `down` is run: both have the same steps after the one that was the last to need them.
        await _run_in_steps(db, _steps_down(migration), migration, interrupted.direction, lock_timeout_s)
        done.append(f"dropped what the interrupted migration {migration} had left")
    elif interrupted.direction != wanted or (wanted == "down" and interrupted.version <= down_to):
        async with locked(db, lock_timeout_s):
            await candle_rebuild.put_away(db)
            await migration_steps.forget(db)
        done.append(f"dropped what the interrupted migration {migration} had begun; the schema is as it was before")


def _note(interrupted: migration_steps.Unfinished) -> str:
    if candle_rebuild.TAKE_OVER in interrupted.done:
        return "the old candles are not dropped yet: `ingestd migrate` does it"
    back = "going back was " if interrupted.direction == "down" else ""
    steps = "1 step" if len(interrupted.done) == 1 else f"{len(interrupted.done)} steps"
    return f"{back}interrupted after {steps}; nothing is changed yet"


async def _interrupted_plan(db: Database) -> list[str]:
    interrupted = await migration_steps.unfinished(db)
    if interrupted is None or (interrupted.direction == "up" and candle_rebuild.TAKE_OVER not in interrupted.done):
        return []
    return [f"-- first, of the interrupted migration {interrupted.version:04d}: {_note(interrupted)}"]


async def _steps_plan(db: Database, migration: Migration, engine: Engine) -> str:
    """What follows the SQL of a migration in steps, as comments."""
    if not _is_in_steps(migration, engine):
        return ""
    interrupted = await migration_steps.unfinished(db)
    done = interrupted.done if interrupted is not None and interrupted.direction == "up" else frozenset()
    lines = [f"--   {step.name}{' (done)' if step.name in done else ''}" for step in _steps_up(migration, engine)]
    return "\n".join(
        ["\n-- in steps, of which each may be interrupted and gone on with; the SQL above is the first:", *lines]
    )


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
