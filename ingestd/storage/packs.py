"""Applies packs: schemas with the names of other systems' documents, in `sql/packs/<name>`.

Each pack has its own series of migrations. An option of a pack is an immutable function of its schema: the planner
puts its value into a view as a constant, and `migrate` replaces it if the configuration changes. A pack whose views
depend on an option in another way, or on the style of symbols, has a function `options_changed()`: each `migrate` calls
it, and it makes them anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ingestd.config.models import Config
from ingestd.errors import SchemaError
from ingestd.storage import migration_records as records
from ingestd.storage import migrations
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migration_steps import locked
from ingestd.storage.migrations import Applied, Migration
from ingestd.storage.policies import Change, pack_changes

_NOT_CONFIGURED = "not in database.packs"


async def migrate(db: Database, engine: Engine, config: Config, lock_timeout_s: float) -> list[str]:
    """Apply what is missing of the configured packs, and give their options the configured values.

    One line for each thing done. A pack that is no longer configured stays as it is. Raises SchemaError if the
    database contradicts the files.
    """
    done = []
    for pack in configured(config):
        files = migrations.load_pack(engine, pack)
        waiting = migrations.pending(engine, files, await records.applied_in_series(db, pack))
        done += [
            f"applied {migration}"
            for migration in waiting
            if await records.apply(db, migration, files, engine, lock_timeout_s)
        ]
        async with locked(db, lock_timeout_s):
            for change in await _changes(db, engine, config, pack):
                await db.script(change.sql)
                done.append(change.text)
            await _follow(db, pack)
    return done


async def plan(db: Database, engine: Engine, config: Config) -> list[str]:
    """The SQL that `migrate` would run now; changes nothing."""
    parts = []
    for pack in configured(config):
        waiting = migrations.pending(
            engine, migrations.load_pack(engine, pack), await records.applied_in_series(db, pack)
        )
        parts += [f"-- {migration}\n{migration.up}" for migration in waiting]
        if waiting:
            parts += [_set_option(pack, name, value) for name, value in config.packs.options_of(pack).items()]
        else:
            parts += [f"-- {change.text}\n{change.sql}" for change in await _changes(db, engine, config, pack)]
    return parts


async def known(db: Database, engine: Engine, packs: Sequence[str]) -> Iterator[tuple[Migration | Applied, str]]:
    """Every migration of the named packs and of those in the database, by pack and in order, each with a note."""
    applied = {(row.pack, row.version): row for row in await records.applied_of_packs(db)}
    found: dict[tuple[str, int], Migration | Applied] = {
        (pack, file.version): file for pack in packs for file in migrations.load_pack(engine, pack)
    }
    found.update(applied)
    return (
        (row, "" if row.pack in packs else _NOT_CONFIGURED) for _, row in sorted(found.items(), key=lambda of: of[0])
    )


async def down(db: Database, engine: Engine, pack: str, to: int, lock_timeout_s: float) -> list[str]:
    """Undo every migration of a pack above number `to`, newest first. The data of its own tables is lost."""
    files = {migration.version: migration for migration in migrations.load_pack(engine, pack)}
    undone: list[str] = []
    while True:
        async with locked(db, lock_timeout_s):
            applied = await records.applied_in_series(db, pack)
            migrations.pending(engine, list(files.values()), applied)
            if not applied or applied[-1].version <= to:
                return undone
            migration = files[applied[-1].version]
            await records.run(db, migration, migration.down)
            await records.unrecord(db, migration)
        undone.append(f"undid {migration}")


async def applied(db: Database) -> list[str]:
    """The packs that the database has, configured or not, by name."""
    return sorted({row.pack for row in await records.applied_of_packs(db)})


async def require_none(db: Database) -> None:
    """Raise SchemaError if the database has packs: their views and triggers use the tables of the schema."""
    packs = await applied(db)
    if packs:
        commands = " and ".join(f"`ingestd migrate down --pack {pack} --to 0`" for pack in packs)
        raise SchemaError(
            f"{db.target}: the schema cannot go back while packs use it: first undo {', '.join(packs)} with {commands}"
            " (the data in their own tables is lost)"
        )


async def require(db: Database, engine: Engine, packs: Sequence[str]) -> None:
    """Raise SchemaError if a configured pack is not applied, or not as its files are."""
    for pack in packs:
        waiting = migrations.pending(
            engine, migrations.load_pack(engine, pack), await records.applied_in_series(db, pack)
        )
        if waiting:
            names = ", ".join(map(str, waiting))
            raise SchemaError(
                f"{db.target}: database.packs names {pack}, so {names} must be there: run `ingestd migrate -c FILE`"
            )


def configured(config: Config) -> Sequence[str]:
    """The packs that the configuration names, each once."""
    return tuple(dict.fromkeys(config.database.packs)) if config.database is not None else ()


async def _changes(db: Database, engine: Engine, config: Config, pack: str) -> list[Change]:
    return await _option_changes(db, config, pack) + await pack_changes(db, engine, config, pack)


async def _option_changes(db: Database, config: Config, pack: str) -> list[Change]:
    changes = []
    for name, value in config.packs.options_of(pack).items():
        present = await db.fetchval(f"SELECT {pack}.option_{name}()")
        if present != value:
            changes.append(
                Change(f"packs.{pack}.{name}: {present or 'none'} -> {value}", _set_option(pack, name, value))
            )
    return changes


def _set_option(pack: str, name: str, value: str) -> str:
    literal = "'" + value.replace("'", "''") + "'"
    return (
        f"CREATE OR REPLACE FUNCTION {pack}.option_{name}() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE\n"
        f"RETURN {literal}::text;"
    )


async def _follow(db: Database, pack: str) -> None:
    """Have the pack make anew the views that depend on its options, or on the style of symbols."""
    if await db.fetchval("SELECT pg_catalog.to_regprocedure($1) IS NOT NULL", f"{pack}.options_changed()"):
        await db.execute(f"SELECT {pack}.options_changed()")
