"""Schema changes while daemons run, in three phases: expand, backfill, contract.

- A migration `expand_<change>` adds what programs of the version before do not know, and sees to it (by a default or a
  trigger) that what they write is right all the same. They may go on, and start again.
- Its backfill changes the rows that were there before (`backfills`).
- The migration `contract_<change>` takes away what only those programs needed. It waits until the backfill is done and
  no such program writes any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from ingestd.errors import SchemaError
from ingestd.storage import backfills
from ingestd.storage import migration_records as records
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migrations import CONTRACT, EXPAND, Migration

_WRITES_WITHIN_MINUTES = 10
# A mark of a Kafka journal is moved by whoever reads the partition, whose own position says what it is.
_OLDER_WRITERS = (
    "SELECT source FROM ingest_positions WHERE source NOT LIKE 'kafka-replay:%' AND position > 0"
    " AND updated_at > now() - make_interval(mins => $2)"
    " AND (schema_version >= $1 AND schema_position = position) IS NOT TRUE ORDER BY source"
)


async def contract(
    db: Database, migration: Migration, files: Sequence[Migration], engine: Engine, lock_timeout_s: float
) -> list[str]:
    """Finish the backfill, and apply the contracting migration unless an older program writes. One line for each thing
    done, or waited for. `files`: all migrations of its series."""
    expanding = expanding_of(migration, files)
    done = []
    if expanding.backfill and (rows := await backfills.run(db, expanding, engine, lock_timeout_s)):
        done.append(f"backfilled {expanding}: {rows:,} rows")
    if (reason := await _older_writers(db, expanding)) is not None:
        return [*done, f"{migration} waits: {reason}; when it runs this version, run `ingestd migrate` again"]
    if await records.apply(db, migration, files, engine, lock_timeout_s):
        done.append(f"applied {migration}")
    return done


async def waits_for(db: Database, migration: Migration, files: Sequence[Migration], engine: Engine) -> str:
    """Why a contracting migration is not applied yet, for `ingestd migrate status`."""
    expanding = expanding_of(migration, files)
    if expanding.version not in {row.version for row in await records.applied(db)}:
        return ""
    if expanding.backfill and not (progress := await backfills.progress(db, expanding, engine)).is_done:
        return f"waits for the backfill: {progress}"
    reason = await _older_writers(db, expanding)
    return "`ingestd migrate` applies it" if reason is None else f"waits: {reason}"


def expanding_of(migration: Migration, files: Sequence[Migration]) -> Migration:
    """The expanding migration that this contracting one ends. Raises SchemaError if there is none before it."""
    name = EXPAND + migration.name.removeprefix(CONTRACT)
    for file in files:
        if file.name == name and file.version < migration.version:
            return file
    raise SchemaError(f"migration {migration} needs one before it that is named {name}")


async def _older_writers(db: Database, expanding: Migration) -> str | None:
    """Who stores without knowing what `expanding` added; None: nobody."""
    rows = await db.fetch(_OLDER_WRITERS, expanding.version, _WRITES_WITHIN_MINUTES)
    if not rows:
        return None
    names = ", ".join(row["source"] for row in rows[:3]) + (", …" if len(rows) > 3 else "")
    return f"a daemon of a version before stored something in the last {_WRITES_WITHIN_MINUTES} minutes ({names})"
