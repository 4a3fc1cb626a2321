"""The lock under which the schema changes, and migrations in steps, for those too long for one transaction.

After an interruption a migration in steps continues at the first step that is not recorded; a step that was interrupted
can be run again with the same result. Finished steps are rows of `ingestd_migration_steps`, a table that exists only
while a migration in steps is unfinished.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from ingestd.errors import DatabaseError, SchemaError
from ingestd.failpoints import passing
from ingestd.storage.database import Database
from ingestd.storage.lock_waits import SET_WAIT

Direction: TypeAlias = Literal["up", "down"]

LOCK_KEY = 0x696E67_65737464  # "ingestd"
_LOCK_NOT_AVAILABLE = "55P03"
_TABLE = """
CREATE TABLE IF NOT EXISTS ingestd_migration_steps (
    version   integer     NOT NULL,
    direction text        NOT NULL,
    step      text        NOT NULL,
    done_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (version, direction, step)
)
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a migration.

    `in_transaction`: `run` shares a transaction with the row that records the step; if False, it makes its own.
    `before`: the name of a later step. This one is run before it at every attempt and never recorded, because the data
    it looks at goes on changing while the migration is interrupted. Its `in_transaction` must be False.
    """

    name: str
    run: Callable[[Database], Awaitable[None]]
    in_transaction: bool = True
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A migration of which some steps are done."""

    version: int
    direction: Direction
    done: frozenset[str]


@asynccontextmanager
async def locked(db: Database, lock_timeout_s: float, *, brief: bool = False) -> AsyncIterator[None]:
    """Hold the lock inside the block, which is one transaction.

    `lock_timeout_s` holds for every lock in the block; with `brief` for this one only, and others are waited for as
    `lock_waits` says. Raises SchemaError, which names the holder, if the lock is not free in time. The lock of a
    session would not do: behind PgBouncer other clients share the session.
    """
    is_locked = False
    try:
        async with db.transaction(lock_timeout_s=lock_timeout_s):
            await db.script(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
            is_locked = True
            if brief:
                await db.script(SET_WAIT)
            yield
    except DatabaseError as exc:
        if is_locked or exc.sqlstate != _LOCK_NOT_AVAILABLE:
            raise
        # Query only after the transaction has ended: a failed transaction runs no statement.
        holder = await _lock_holder(db)
        waited = f"waited {lock_timeout_s:g} s for its lock"
        raise SchemaError(f"{db.target}: another migration is running{holder}; {waited}") from exc


async def unfinished(db: Database) -> Unfinished | None:
    """The migration of which some steps are recorded and which is not finished; None if there is none."""
    if await db.fetchval("SELECT to_regclass('public.ingestd_migration_steps')::text") is None:
        return None
    rows = await db.fetch("SELECT version, direction, step FROM ingestd_migration_steps")
    if not rows:
        return None
    return Unfinished(rows[0]["version"], rows[0]["direction"], frozenset(row["step"] for row in rows))


async def run(
    db: Database, version: int, direction: Direction, steps: Sequence[Step], *, lock_timeout_s: float
) -> None:
    """Run the steps that are not done yet, in order. Raises SchemaError, which names the step that failed."""
    for step in steps:
        if await _is_done(db, step):
            continue
        try:
            if not step.in_transaction:
                await step.run(db)
            if step.before is not None:
                continue
            async with locked(db, lock_timeout_s):
                await db.script(_TABLE)
                # Another program may have done the step while this one waited for the lock.
                if not await _is_done(db, step):
                    if step.in_transaction:
                        await step.run(db)
                    await _record(db, version, direction, step)
        except DatabaseError as exc:
            raise SchemaError(
                f"{db.target}: migration {version:04d} stopped at the step '{step.name}': {exc} [{exc.sqlstate}]; "
                "what is done is kept, and `ingestd migrate` goes on from there"
            ) from exc
        passing("migrate.step")


async def forget(db: Database) -> None:
    """Delete the records of all steps, because the migration is finished or was undone."""
    await db.script("DROP TABLE IF EXISTS ingestd_migration_steps")


async def done_at(db: Database, name: str) -> datetime | None:
    """When the step of this name was done; None: it was not."""
    at: datetime | None = await db.fetchval("SELECT done_at FROM ingestd_migration_steps WHERE step = $1", name)
    return at


async def _lock_holder(db: Database) -> str:
    row = await db.fetchrow(
        "SELECT activity.pid, application_name, usename, client_addr::text AS address, xact_start"
        " FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)"
        " WHERE locktype = 'advisory' AND granted AND objsubid = 1"
        " AND ((classid::bigint << 32) | objid::bigint) = $1",
        LOCK_KEY,
    )
    if row is None:
        return ""
    since = f" since {row['xact_start']:%H:%M:%S} UTC" if row["xact_start"] is not None else ""
    return f" ({row['application_name'] or 'unnamed'}, user {row['usename']}, server process {row['pid']}{since})"


async def _is_done(db: Database, step: Step) -> bool:
    known = await unfinished(db)
    return known is not None and (step.before or step.name) in known.done


async def _record(db: Database, version: int, direction: Direction, step: Step) -> None:
    sql = "INSERT INTO ingestd_migration_steps (version, direction, step) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
    await db.execute(sql, version, direction, step.name)
