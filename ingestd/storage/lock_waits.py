"""Changes of tables that daemons write to: no statement waits long for a lock, and what did not get one tries again.

A statement that waits for a lock holds up every later one on that table, the flushes of the daemons among them. So it
gives up after `WAIT_MS`, lets them pass, and comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from ingestd.clock import monotonic_s
from ingestd.errors import DatabaseError, SchemaError
from ingestd.retry import Backoff
from ingestd.storage.database import Database

log = structlog.get_logger()

Result = TypeVar("Result")

WAIT_MS = 300
SET_WAIT = f"SET LOCAL lock_timeout = '{WAIT_MS}ms'"
GIVE_UP_AFTER_S = 600.0
NOT_FREE = ("55P03", "40P01")
"""SQLSTATEs: a lock was not free in time; a deadlock."""

_OLDEST = (
    "SELECT pid, application_name AS name, xact_start FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
    " ORDER BY xact_start LIMIT 1"
)


async def retried(
    db: Database, what: str, work: Callable[[], Awaitable[Result]], *, give_up_after_s: float = GIVE_UP_AFTER_S
) -> Result:
    """Run `work`, a whole transaction, again and again until it gets its locks. Each attempt leaves nothing behind.

    Raises SchemaError, which names the oldest transaction, when that takes longer than `give_up_after_s`.
    """
    backoff = Backoff(base_s=0.5, cap_s=5.0)
    started_s = monotonic_s()
    while True:
        try:
            return await work()
        except DatabaseError as error:
            if error.sqlstate not in NOT_FREE:
                raise
            if monotonic_s() - started_s > give_up_after_s:
                raise SchemaError(
                    f"{db.target}: {what} got no lock within {give_up_after_s:g} s{await _oldest(db)}; it is not done: "
                    "end that transaction, or try again later"
                ) from error
            delay_s = backoff.next_s(WAIT_MS / 1000)
            if backoff.is_logged(error):
                log.info("lock_not_free", of=what, error=str(error), retry_in_s=round(delay_s, 1))
        await asyncio.sleep(delay_s)


async def _oldest(db: Database) -> str:
    """The transaction that has been open for the longest, which most likely holds the lock."""
    row = await db.fetchrow(_OLDEST)
    if row is None:
        return ""
    since = f"{row['xact_start']:%H:%M:%S} UTC"
    return f": the oldest transaction is of '{row['name']}', server process {row['pid']}, open since {since}"
