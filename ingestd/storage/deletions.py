"""Which stored rows the configured retention would delete, so that somebody can be asked before it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ingestd.config.models import Config
from ingestd.storage import engine as engines
from ingestd.storage import migration_records, policies, retention
from ingestd.storage.candles import FOR_EVER, LEVELS, TICK_HOURS, interval_days
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.retention import Expiry
from ingestd.storage.session_settings import qualified

# The daemon deletes what has just become too old in the course of a day: that is nothing to ask about.
_GRACE_DAYS = 1
_DATA = {*policies.HYPERTABLES, *(level.relation for level in (*LEVELS, TICK_HOURS))}


@dataclass(frozen=True, slots=True)
class Deletion:
    """Rows of one relation that are older than the `days` for which it is to be kept."""

    relation: str
    days: int
    rows: int

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        return f"{self.relation}: {rows} older than {self.days} days"


async def find(db: Database, config: Config) -> list[Deletion]:
    """What the server's policies, once they are as configured, and the daemon would delete. Changes nothing."""
    if not await migration_records.applied(db):
        return []
    engine = await engines.detect(db)
    found = [await _counted(db, expiry) for expiry in _by_daemon(engine, config)]
    if engine.has_continuous_aggregates:
        for relation, days in await policies.shortened(db, config):
            found.append(Deletion(relation, days, await _rows_of_chunks(db, relation, days)))
    return [deletion for deletion in found if deletion.rows]


def _by_daemon(engine: Engine, config: Config) -> Iterator[Expiry]:
    for expiry in retention.expiries(engine, config):
        if (expiry.table in _DATA or expiry.pack) and expiry.days != FOR_EVER:
            yield expiry


async def _counted(db: Database, expiry: Expiry) -> Deletion:
    rows = 0
    if await _exists(db, expiry.table):
        rows = await db.fetchval(
            f"SELECT CASE WHEN bool_or({expiry.column} < now() - $2::text::interval) THEN count(*) ELSE 0 END"  # noqa: S608 # our own names
            f" FROM {qualified(expiry.table)}"
            f" WHERE {expiry.column} < now() - $1::text::interval AND {expiry.condition}",
            interval_days(expiry.days),
            interval_days(expiry.days + _GRACE_DAYS),
        )
    return Deletion(expiry.table, expiry.days, rows)


async def _rows_of_chunks(db: Database, relation: str, days: int) -> int:
    """A policy drops a chunk when all of it is older."""
    if not await _exists(db, relation):
        return 0
    chunks = await db.fetch(
        "SELECT chunk::text FROM show_chunks($1::text::regclass, older_than => $2::text::interval) AS chunk",
        qualified(relation),
        interval_days(days),
    )
    return sum([await db.fetchval(f"SELECT count(*) FROM {row['chunk']}") for row in chunks])  # noqa: S608 # the server's


async def _exists(db: Database, relation: str) -> bool:
    return await db.fetchval("SELECT to_regclass($1::text)::text", qualified(relation)) is not None
