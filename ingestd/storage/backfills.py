"""Fills new columns of rows that are there already, in batches, while daemons go on writing.

The statement is an UPDATE in a file beside the migration that added the columns (`NNNN_name.backfill.sql`). It is run
stretch by stretch of time, and there market by market, for at most `_ROWS` rows in a transaction. The transaction
records how far it has come, so after an interruption the next run goes on there. A columnar chunk is compressed again
when it is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from ingestd.errors import DatabaseError, SchemaError
from ingestd.failpoints import passing
from ingestd.storage import lock_waits
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migration_steps import locked
from ingestd.storage.migrations import Migration

log = structlog.get_logger()

_ROWS = 20_000
_DAY = timedelta(days=1)
_MOMENT = timedelta(microseconds=1)
_RECORD = (
    "INSERT INTO ingestd_backfills AS old (version, started_at, exchange, symbol, until, rows)"
    " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (version, started_at) DO UPDATE"
    " SET exchange = $3, symbol = $4, until = $5, rows = old.rows + $6"
)
_FINISH = (
    "INSERT INTO ingestd_backfills (version, started_at, exchange, symbol, until, rows, done_at)"
    " VALUES ($1, $2, '', '', $3, 0, now()) ON CONFLICT (version, started_at) DO UPDATE SET done_at = now()"
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the table's time: `[start, end)`. `chunk`: the columnar chunk that it is; None: rows."""

    start: datetime
    end: datetime
    chunk: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How many stretches there are, how many are done, and how many rows were changed so far."""

    stretches: int
    done: int
    rows: int

    @property
    def is_done(self) -> bool:
        return self.done == self.stretches

    def __str__(self) -> str:
        return f"{self.done} of {self.stretches} stretches of time, {self.rows:,} rows"


async def run(db: Database, migration: Migration, engine: Engine, lock_timeout_s: float) -> int:
    """Do what is left of the backfill, oldest rows first. Return how many rows were changed.

    Raises SchemaError if a batch fails; what is done is kept.
    """
    changed = 0
    finished = await _finished(db, migration)
    for stretch in await _stretches(db, engine, migration.backfilled_table):
        if stretch.start in finished:
            continue
        try:
            rows = await _fill(db, migration, stretch, lock_timeout_s)
            await lock_waits.retried(
                db, f"the backfill of {migration}", partial(_finish, db, migration, stretch, lock_timeout_s)
            )
        except DatabaseError as error:
            raise SchemaError(
                f"{db.target}: the backfill of {migration} stopped at {stretch.start:%Y-%m-%d %H:%M}: {error} "
                f"[{error.sqlstate}]; what is done is kept, and `ingestd migrate` goes on from there"
            ) from error
        changed += rows
        log.info("backfilled", migration=str(migration), until=stretch.end.isoformat(), rows=rows)
    return changed


async def progress(db: Database, migration: Migration, engine: Engine) -> Progress:
    """How far the backfill of an applied migration has come."""
    finished = await _finished(db, migration)
    stretches = await _stretches(db, engine, migration.backfilled_table)
    rows = await db.fetchval(
        "SELECT coalesce(sum(rows), 0)::bigint FROM ingestd_backfills WHERE version = $1", migration.version
    )
    return Progress(len(stretches), sum(stretch.start in finished for stretch in stretches), rows)


async def forget_places(db: Database) -> None:
    """Let each stretch that is not finished begin anew: its markets are about to be renamed."""
    await db.execute("UPDATE ingestd_backfills SET exchange = '', symbol = '', until = started_at")


async def _finished(db: Database, migration: Migration) -> set[datetime]:
    rows = await db.fetch(
        "SELECT started_at FROM ingestd_backfills WHERE version = $1 AND done_at IS NOT NULL", migration.version
    )
    return {row["started_at"] for row in rows}


async def _stretches(db: Database, engine: Engine, table: str) -> list[Stretch]:
    """The chunks of a hypertable, or the days of a table, oldest first. Those that begin later need no backfill."""
    if engine.has_hypertables:
        rows = await db.fetch(
            "SELECT range_start, range_end, CASE WHEN is_compressed THEN format('%I.%I', chunk_schema, chunk_name) END"
            " AS chunk FROM timescaledb_information.chunks"
            " WHERE hypertable_schema = 'public' AND hypertable_name = $1 ORDER BY range_start",
            table,
        )
        return [Stretch(row["range_start"], row["range_end"], row["chunk"]) for row in rows]
    span = await db.fetchrow(f"SELECT min(time) AS first, max(time) AS last FROM {table}")  # noqa: S608 # our own name
    assert span is not None
    if span["first"] is None:
        return []
    start = datetime.combine(span["first"].astimezone(UTC).date(), datetime.min.time(), UTC)
    days = (span["last"] - start) // _DAY + 1
    return [Stretch(start + day * _DAY, start + (day + 1) * _DAY) for day in range(days)]


async def _fill(db: Database, migration: Migration, stretch: Stretch, lock_timeout_s: float) -> int:
    """Change the rows of a stretch, from where an earlier run stopped."""
    table, changed = migration.backfilled_table, 0
    markets = await db.fetch(
        f"SELECT DISTINCT exchange, symbol FROM {table} WHERE time >= $1 AND time < $2 ORDER BY 1, 2",  # noqa: S608
        stretch.start,
        stretch.end,
    )
    reached = await db.fetchrow(
        "SELECT exchange, symbol, until FROM ingestd_backfills WHERE version = $1 AND started_at = $2",
        migration.version,
        stretch.start,
    )
    at = None if reached is None else (reached["exchange"], reached["symbol"])
    for market in [(row["exchange"], row["symbol"]) for row in markets]:
        if at is not None and market < at:
            continue
        start = reached["until"] if reached is not None and market == at else stretch.start
        while start < stretch.end:
            end = await _end_of_batch(db, table, market, start, stretch.end)
            changed += await lock_waits.retried(
                db,
                f"the backfill of {migration}",
                partial(_batch, db, migration, stretch, market, (start, end), lock_timeout_s),
            )
            passing("migrate.backfilled")
            start = end
    return changed


async def _end_of_batch(db: Database, table: str, market: tuple[str, str], start: datetime, end: datetime) -> datetime:
    """So that the batch has `_ROWS` rows, or more if that many are of one moment."""
    found = await db.fetchval(
        f"SELECT time FROM {table} WHERE exchange = $1 AND symbol = $2 AND time >= $3 AND time < $4"  # noqa: S608
        f" ORDER BY time OFFSET {_ROWS} LIMIT 1",
        *market,
        start,
        end,
    )
    return end if found is None else max(found, start + _MOMENT)


async def _batch(
    db: Database,
    migration: Migration,
    stretch: Stretch,
    market: tuple[str, str],
    window: tuple[datetime, datetime],
    lock_timeout_s: float,
) -> int:
    statement = migration.backfill.rstrip().rstrip(";")
    async with locked(db, lock_timeout_s, brief=True):
        rows = await db.execute(
            f"{statement} AND exchange = $1 AND symbol = $2 AND time >= $3 AND time < $4", *market, *window
        )
        await db.execute(_RECORD, migration.version, stretch.start, *market, window[1], rows)
    return rows


async def _finish(db: Database, migration: Migration, stretch: Stretch, lock_timeout_s: float) -> None:
    async with locked(db, lock_timeout_s, brief=True):
        is_there = stretch.chunk and await db.fetchval("SELECT to_regclass($1::text)::text", stretch.chunk)
        if is_there:  # retention drops chunks meanwhile
            await db.fetchval(
                f'SELECT "{db.extension_schema}".compress_chunk($1::text::regclass, if_not_compressed => true)::text',
                stretch.chunk,
            )
        await db.execute(_FINISH, migration.version, stretch.start, stretch.end)
