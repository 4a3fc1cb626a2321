"""Brings a database to the schema this program needs, and back.

Each migration runs in one transaction, which also records it and holds an advisory lock. A migration that is too long
for one transaction runs in steps (`migration_steps`). Two programs that migrate at once take turns.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from ingestd.config.models import Config
from ingestd.errors import SchemaError
from ingestd.storage import (
    agreed_retention,
    candle_rebuild,
    migration_steps,
    migrations,
    packs,
    phases,
    policies,
    symbol_rename,
    symbol_style,
    time_indexes,
)
from ingestd.storage import engine as engines
from ingestd.storage import migration_records as records
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine, EngineChoice
from ingestd.storage.migration_steps import Direction, Step, locked
from ingestd.storage.migrations import Applied, Migration


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One line of `ingestd migrate status`. `applied_at` None: not applied yet. `note` says if it was interrupted.

    `pack`: whose number it is; "": the schema's own.
    """

    version: int
    name: str
    applied_at: datetime | None
    note: str = ""
    pack: str = ""


async def migrate(
    db: Database,
    config: Config,
    *,
    engine: EngineChoice = "auto",
    rename_symbols: bool = False,
    keep_policies: bool = False,
    lock_timeout_s: float = 10.0,
) -> list[str]:
    """Apply what is missing, converge the policies, and apply the configured packs. One line for each thing done.

    `rename_symbols`: convert the stored symbols to the configured style. `keep_policies`: leave those of a database
    that was set up before, since `config` is only the defaults. Raises SchemaError if the database contradicts the
    files or the style, if another program holds the lock for longer than `lock_timeout_s`, or if the chosen engine is
    not available.
    """
    done: list[str] = []
    found = await _settle_engine(db, engine, done, lock_timeout_s)
    files = migrations.load(found)
    was_set_up = bool(await records.applied(db))
    await _settle_interrupted(db, files, "up", done, lock_timeout_s)
    for migration in migrations.pending(found, files, await records.applied(db)):
        done += await _apply(db, migration, files, found, lock_timeout_s)
    async with locked(db, lock_timeout_s):
        await symbol_style.record_first(db)
    if rename_symbols:
        done += await symbol_rename.rename(db, lock_timeout_s=lock_timeout_s)
    await symbol_style.require(db)
    if keep_policies and was_set_up:
        done.append("left the policies as they are: there is no configuration file")
    else:
        async with locked(db, lock_timeout_s):
            done += await policies.converge(db, found, config)
            await agreed_retention.record(db, config)
        done += await time_indexes.converge(db, found, config, lock_timeout_s)
    return done + await packs.migrate(db, found, config, lock_timeout_s)


async def _apply(
    db: Database, migration: Migration, files: Sequence[Migration], engine: Engine, lock_timeout_s: float
) -> list[str]:
    """Apply one migration, unless another program has applied it meanwhile. One line for each thing done."""
    if migration.is_contract:
        return list(await phases.contract(db, migration, files, engine, lock_timeout_s))
    if _is_in_steps(migration, engine):
        await _run_in_steps(db, _steps_up(migration, engine), migration, "up", lock_timeout_s)
    elif not await records.apply(db, migration, files, engine, lock_timeout_s):
        return []
    return [f"applied {migration}"]


async def plan(
    db: Database,
    config: Config,
    *,
    engine: EngineChoice = "auto",
    rename_symbols: bool = False,
    keep_policies: bool = False,
) -> str:
    """The SQL `migrate` would run now, as text; changes nothing. Raises SchemaError if it would."""
    present, extension, note = await _choose_engine(db, engine)
    parts = [] if note is None else [f"-- {note}"]
    if extension:
        parts.append(f"{engines.CREATE_EXTENSION};")
        present = Engine.TIMESCALEDB
    waiting = migrations.pending(present, migrations.load(present), await records.applied(db))
    interrupted = await migration_steps.unfinished(db)
    if interrupted is not None and (interrupted.direction == "down" or candle_rebuild.TAKE_OVER in interrupted.done):
        parts.append(f"-- first, of the interrupted migration {interrupted.version:04d}: {_note(interrupted)}")
    done = interrupted.done if interrupted is not None and interrupted.direction == "up" else frozenset()
    parts += [f"-- {migration}\n{migration.up}{_after(migration, present, done)}" for migration in waiting]
    renaming = await symbol_rename.plan(db, present) if rename_symbols else []
    if not renaming and not waiting:
        await symbol_style.require(db)
    parts += renaming
    if keep_policies and await records.applied(db):
        parts.append("-- the policies stay as they are: there is no configuration file")
    elif waiting:
        parts.append("-- then the policies: run this again after migrating to see what they would change")
    else:
        parts += [f"-- {change.text}\n{change.sql}" for change in await policies.changes(db, present, config)]
        parts += await time_indexes.plan(db, present, config)
    parts += await packs.plan(db, present, config)
    return "\n".join(parts)


async def status(db: Database, of_packs: Sequence[str] = ()) -> list[MigrationStatus]:
    """Every migration, applied or not, in order; then those of the named packs, and of others that were applied."""
    engine = await engines.detect(db)
    applied = {row.version: row for row in await records.applied(db)}
    interrupted = await migration_steps.unfinished(db)
    notes = {} if interrupted is None else {interrupted.version: _note(interrupted)}
    files = migrations.load(engine)
    for file in files:
        if file.is_contract and file.version not in applied:
            notes[file.version] = await phases.waits_for(db, file, files, engine)
    known: dict[int, Migration | Applied] = {row.version: row for row in files}
    known.update(applied)
    lines = [_line(row, notes.get(version, "")) for version, row in sorted(known.items())]
    return lines + [_line(row, note) for row, note in await packs.known(db, engine, of_packs)]


def _line(row: Migration | Applied, note: str) -> MigrationStatus:
    return MigrationStatus(row.version, row.name, row.applied_at if isinstance(row, Applied) else None, note, row.pack)


async def down(db: Database, to: int, *, pack: str = "", lock_timeout_s: float = 10.0) -> list[str]:
    """Undo every migration above number `to`, newest first: the schema's, or those of a pack.

    The data of dropped tables is lost. Raises SchemaError, before anything is undone, if packs use the schema.
    """
    engine = await engines.detect(db)
    if pack:
        return await packs.down(db, engine, pack, to, lock_timeout_s)
    files = {migration.version: migration for migration in migrations.load(engine)}
    undone: list[str] = []
    await _settle_interrupted(db, list(files.values()), "down", undone, lock_timeout_s, down_to=to)
    while True:
        async with locked(db, lock_timeout_s):
            applied = await records.applied(db)
            migrations.pending(engine, list(files.values()), applied)
            if not applied or applied[-1].version <= to:
                return undone
            await packs.require_none(db)
            migration = files.get(applied[-1].version)
            if migration is None:
                raise SchemaError(
                    f"migration {applied[-1]} is newer than this program: go back with the newer one first"
                )
            if not _is_in_steps(migration, engine):
                await records.run(db, migration, migration.down)
                await records.unrecord(db, migration)
        if _is_in_steps(migration, engine):
            await _run_in_steps(db, _steps_down(migration), migration, "down", lock_timeout_s)
        undone.append(f"undid {migration}")


async def check_schema(db: Database, of_packs: Sequence[str] = ()) -> Engine:
    """Return the database's engine. Raises SchemaError if the schema, or a pack, is not the one this program needs."""
    engine = await engines.detect(db)
    applied = await records.applied(db)
    waiting = [file for file in migrations.pending(engine, migrations.load(engine), applied) if not file.is_contract]
    if waiting and not applied:
        raise SchemaError(f"{db.target}: the database is empty: run `ingestd migrate -c FILE`")
    if waiting:
        names = ", ".join(str(migration) for migration in waiting)
        raise SchemaError(f"{db.target}: the schema lacks {names}: run `ingestd migrate -c FILE`")
    await symbol_style.require(db)
    await packs.require(db, engine, of_packs)
    return engine


async def _settle_engine(db: Database, choice: EngineChoice, done: list[str], lock_timeout_s: float) -> Engine:
    present, extension, note = await _choose_engine(db, choice)
    if note is not None:
        done.append(note)
    if not extension:
        return present
    async with locked(db, lock_timeout_s):
        await engines.create_extension(db)
    done.append("created extension timescaledb")
    present = await engines.detect(db)
    if present is Engine.TIMESCALEDB_APACHE:
        done.append(
            "the server has TimescaleDB's Apache edition: the daemon refreshes the candles and drops what is too old; "
            "for the Community edition set timescaledb.license = 'timescale' and migrate a new database"
        )
    return present


async def _choose_engine(db: Database, choice: EngineChoice) -> tuple[Engine, bool, str | None]:
    """The engine of the database, whether to add TimescaleDB, and if it cannot be added, a note that says why.

    It is never added to a database that was set up without it. Raises SchemaError if the choice is not possible.
    """
    present = await engines.detect(db)
    is_set_up = bool(await records.applied(db))
    if present is not Engine.POSTGRES or choice == "postgres" or is_set_up:
        _require_choice(db, present, choice)
        return present, False, None
    obstacle = await engines.obstacle_to_extension(db)
    if obstacle is None:
        return present, True, None
    if choice == "timescaledb":
        raise SchemaError(f"{db.target}: {obstacle}")
    return present, False, f"made for plain PostgreSQL, and stays so: {obstacle}"


def _require_choice(db: Database, present: Engine, choice: EngineChoice) -> None:
    if choice == "postgres" and present is not Engine.POSTGRES:
        raise SchemaError(f"{db.target}: has the timescaledb extension; the plain engine needs a database without")
    if choice == "timescaledb" and present is Engine.POSTGRES:
        raise SchemaError(
            f"{db.target}: was set up for plain PostgreSQL, and TimescaleDB cannot be added to it any more: "
            "migrate a new database and move the data there, or leave --engine timescaledb out"
        )


def _is_in_steps(migration: Migration, engine: Engine) -> bool:
    return migration.version == candle_rebuild.VERSION and engine.has_continuous_aggregates


def _steps_up(migration: Migration, engine: Engine) -> list[Step]:
    recorded = Step("record", partial(records.record, migration=migration, engine=engine))
    return candle_rebuild.steps(migration.up, recorded)


def _steps_down(migration: Migration) -> list[Step]:
    return candle_rebuild.steps(migration.down, Step("record", partial(records.unrecord, migration=migration)))


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
    """Finish an interrupted migration whose schema is in force already. Drop what was begun of one that goes the other
    way than `wanted`, or is not above `down_to`. The caller continues any other."""
    interrupted = await migration_steps.unfinished(db)
    if interrupted is None:
        return
    migration = next(file for file in files if file.version == interrupted.version)
    if candle_rebuild.TAKE_OVER in interrupted.done:
        # The SQL of `up` or `down` is not needed any more: both have the same steps after TAKE_OVER.
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


def _after(migration: Migration, engine: Engine, done: Collection[str]) -> str:
    """What follows the SQL of a migration with a backfill, or in steps, as comments."""
    if migration.backfill:
        lines = migration.backfill.rstrip().splitlines()
        return "\n".join(
            ["\n-- later, in batches, each of one market and a stretch of time:", *(f"--   {line}" for line in lines)]
        )
    if not _is_in_steps(migration, engine):
        return ""
    lines = [f"--   {step.name}{' (done)' if step.name in done else ''}" for step in _steps_up(migration, engine)]
    return "\n".join(
        ["\n-- in steps, of which each may be interrupted and gone on with; the SQL above is the first:", *lines]
    )
