"""Reads the SQL files, and compares the migrations among them with those that a database has recorded.

The files are in the installed package, or in the folder `sql` of a checkout.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeAlias

from ingestd.errors import SchemaError
from ingestd.storage.engine import Engine

EXPAND, CONTRACT = "expand_", "contract_"
"""How the name of a migration begins that says its phase (docs/operations.md, "Changing the schema while it runs")."""

_FILE_NAME = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)(?P<part>\.down|\.backfill)?\.sql")
_INCLUDED = re.compile(r"^\\ir (?P<file>[a-z0-9_/.]+)$", re.MULTILINE)  # psql's own: relative to the file that says it
_BACKFILLED_TABLE = re.compile(r"\s*UPDATE (\w+) ")
_COMMON = "migrations"
_PACKS = "packs"

_Texts: TypeAlias = tuple[str, str, str]  # up, down, backfill

# Where each engine's own part of a migration is: in the first of these folders that has the migration. The Apache
# edition of TimescaleDB makes hypertables as the Community edition does, and candles as plain PostgreSQL does.
_FOLDERS: Mapping[Engine, Sequence[str]] = {
    Engine.TIMESCALEDB: ("timescaledb",),
    Engine.TIMESCALEDB_APACHE: ("timescaledb-apache", "postgres", "timescaledb"),
    Engine.POSTGRES: ("postgres",),
}


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration. `checksum` is the SHA-256 of `up` and `backfill`: `down` may be corrected later.

    `backfill`: an UPDATE of all rows that were there before; `ingestd migrate` runs it in batches (`backfills`).
    `pack`: the pack whose series it belongs to; "": the schema that every database has.
    """

    version: int
    name: str
    up: str
    down: str
    pack: str = ""
    backfill: str = ""

    @property
    def checksum(self) -> str:
        return hashlib.sha256(f"{self.up}{self.backfill}".encode()).hexdigest()

    @property
    def is_expand(self) -> bool:
        """Whether programs of the version before may go on writing once it is applied."""
        return self.name.startswith(EXPAND)

    @property
    def is_contract(self) -> bool:
        """Whether it ends what an expanding migration of the same name began, once no such program writes any more."""
        return self.name.startswith(CONTRACT)

    @property
    def backfilled_table(self) -> str:
        """The table that `backfill` updates."""
        found = _BACKFILLED_TABLE.match(self.backfill)
        assert found is not None, f"the backfill of {self} begins with UPDATE and the name of its table"
        return found[1]

    def __str__(self) -> str:
        return _title(self)


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration as the database records it."""

    version: int
    name: str
    checksum: str
    engine: str
    applied_at: datetime
    pack: str = ""

    def __str__(self) -> str:
        return _title(self)


def _title(migration: Migration | Applied) -> str:
    """`0001_name`, or `pack/0001_name`."""
    series = f"{migration.pack}/" if migration.pack else ""
    return f"{series}{migration.version:04d}_{migration.name}"


def sql_root() -> Traversable:
    """The folder that holds all SQL files: `migrations/`, `packs/`, `queries/`, `roles/` and one for each engine."""
    packaged = files("ingestd") / "_data" / "sql"
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).resolve().parents[2] / "sql"
    if checkout.is_dir():
        return checkout
    raise SchemaError("the SQL files of ingestd are not installed: install the package again")


def read_sql(name: str) -> str:
    """The text of one file, such as `queries/upsert_symbols.sql`, with Unix line ends."""
    return _read(sql_root().joinpath(*name.split("/")))


def load(engine: Engine) -> list[Migration]:
    """The migrations of this engine, in order.

    Raises SchemaError if a file is misnamed, one of a pair is missing, or two migrations have the same number.
    """
    root = sql_root()
    return _merged(root / _COMMON, [root / folder for folder in _FOLDERS[engine]], "")


def load_pack(engine: Engine, pack: str) -> list[Migration]:
    """The migrations of a pack on this engine, in order: those in its folder, then the engine's own in folders there.

    Raises SchemaError as `load` does, and if there is no such pack.
    """
    root = sql_root() / _PACKS / pack
    if not root.is_dir():
        raise SchemaError(f"the pack {pack} is not part of this program: its files are missing in sql/{_PACKS}")
    return _merged(root, [root / folder for folder in _FOLDERS[engine]], pack)


def _merged(common_folder: Traversable, folders: Sequence[Traversable], pack: str) -> list[Migration]:
    common = _read_folder(common_folder)
    specific: dict[tuple[int, str], _Texts] = {}
    for folder in reversed(folders):
        specific.update(_read_folder(folder))
    merged = []
    for key in sorted(common.keys() | specific.keys()):
        ups, downs, backfills = zip(*(part[key] for part in (common, specific) if key in part), strict=True)
        # `up` runs the common part first, `down` the engine's own.
        backfill = "\n".join(filter(None, backfills))
        merged.append(Migration(*key, "\n".join(ups), "\n".join(reversed(downs)), pack, backfill))
    _require_unique_versions(merged)
    return merged


def pending(engine: Engine, migrations: Sequence[Migration], applied: Sequence[Applied]) -> list[Migration]:
    """The migrations that are still to be applied. Raises SchemaError if the applied ones do not fit these files.

    A contracting migration may wait while later ones are applied.
    """
    known = {migration.version: migration for migration in migrations}
    done = {row.version for row in applied}
    newest_applied = max(done, default=0)
    for row in applied:
        _require_as_recorded(engine, known, row)
    waiting = [migration for migration in migrations if migration.version not in done]
    for migration in waiting:
        if migration.version < newest_applied and not migration.is_contract:
            raise SchemaError(
                f"migration {migration} was never applied although {newest_applied:04d} was: give it a higher number"
            )
    return waiting


def _require_as_recorded(engine: Engine, known: Mapping[int, Migration], row: Applied) -> None:
    migration = known.get(row.version)
    if row.engine != engine.value:
        problem = (
            f"the database was set up for {row.engine} but is now {engine.value}: put the server back as it was, or "
            "move the data into a new database"
        )
    elif row.version > max(known, default=0):
        if row.name.startswith(EXPAND):
            return  # made so that this program, the older one, goes on writing
        problem = f"the database has migration {row}, newer than this program knows: upgrade ingestd"
    elif migration is None:
        problem = f"migration {row} is recorded in the database but its file is missing: install ingestd again"
    elif migration.checksum != row.checksum:
        problem = (
            f"migration {row} has changed since it was applied on {row.applied_at:%Y-%m-%d}: restore the file, and "
            "make the change in a new migration"
        )
    else:
        return
    raise SchemaError(problem)


def _read_folder(folder: Traversable) -> dict[tuple[int, str], _Texts]:
    """`(version, name) -> (up, down, backfill)`; empty when there is no such folder."""
    if not folder.is_dir():
        return {}
    texts: defaultdict[tuple[int, str], dict[str | None, str]] = defaultdict(dict)
    for file in folder.iterdir():
        if not file.name.endswith(".sql") or not file.name[:1].isdigit():
            continue
        match = _FILE_NAME.fullmatch(file.name)
        if match is None:
            raise SchemaError(f"{folder.name}/{file.name}: name it NNNN_name.sql, NNNN_name.down.sql or .backfill.sql")
        text = _INCLUDED.sub(lambda said: _read(folder / said["file"]), _read(file))
        texts[int(match["version"]), match["name"]][match["part"]] = text
    for (version, name), found in texts.items():
        if not {None, ".down"} <= found.keys():
            raise SchemaError(f"{folder.name}/{version:04d}_{name}: needs both .sql and .down.sql")
    return {key: (found[None], found[".down"], found.get(".backfill", "")) for key, found in texts.items()}


def _read(file: Traversable) -> str:
    return file.read_text(encoding="utf-8").replace("\r\n", "\n")


def _require_unique_versions(migrations: Iterable[Migration]) -> None:
    names: dict[int, str] = {}
    for migration in migrations:
        if migration.version in names:
            raise SchemaError(f"two migrations have the number {migration.version:04d}: give one a higher number")
        names[migration.version] = migration.name
