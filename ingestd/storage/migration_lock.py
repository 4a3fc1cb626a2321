"""The lock on changing the schema, held for one transaction.

A session lock would not work: behind PgBouncer strangers share the session.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingestd.errors import DatabaseError, SchemaError
from ingestd.storage.database import Database

LOCK_KEY = 0x696E67_65737464  # "ingestd"
_LOCK_NOT_AVAILABLE = "55P03"


class _LockTaken(Exception):
    """Another session holds the migration lock."""


@asynccontextmanager
async def locked(db: Database, lock_timeout_s: float) -> AsyncIterator[None]:
    """A transaction that holds the lock. Raises SchemaError, which names the holder, if it waits too long."""
    try:
        async with db.transaction(lock_timeout_s=lock_timeout_s):
            await _take_lock(db)
            yield
    except _LockTaken as exc:
        # Query only after the transaction has ended: a failed transaction runs no statement.
        holder = await _lock_holder(db)
        waited = f"waited {lock_timeout_s:g} s for its lock"
        raise SchemaError(f"{db.target}: another migration is running{holder}; {waited}") from exc


async def _take_lock(db: Database) -> None:
    try:
        await db.script(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
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
        LOCK_KEY,
    )
    if row is None:
        return ""
    since = f" since {row['xact_start']:%H:%M:%S} UTC" if row["xact_start"] is not None else ""
    return f" ({row['application_name'] or 'unnamed'}, user {row['usename']}, server process {row['pid']}{since})"
