"""Refreshes candles: after every write on plain PostgreSQL, after late writes on TimescaleDB.

TimescaleDB refreshes recent buckets by its own policies and computes the open ones when they are read. A write further
back than a policy looks (a backfill, a restore) is followed by `refresh_window`, which refreshes just that window.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ingestd.storage import engine as engines
from ingestd.storage.candles import AGGREGATES, Level
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.rights import owns
from ingestd.storage.session_settings import SCHEMA, quoted

# This many marks take some 100 ms, so that the transaction stays short.
_MARKS_PER_TRANSACTION = 2000


async def refresh(db: Database, engine: Engine) -> int:
    """Compute the candles of everything committed so far. Returns the number of marks processed.

    Does nothing on TimescaleDB. Several programs may call it at once: one works, the others return.
    """
    if engine.has_continuous_aggregates:
        return 0
    total = 0
    for function in ("ingestd_refresh_candles", "ingestd_refresh_ohlcv_1h"):
        taken = _MARKS_PER_TRANSACTION
        while taken == _MARKS_PER_TRANSACTION:
            async with db.transaction():
                taken = int(await db.fetchval(f"SELECT {function}($1)", _MARKS_PER_TRANSACTION))
            total += taken
    return total


async def failing_job(db: Database, engine: Engine) -> str | None:
    """A job of the server (refresh, compression, retention) that failed at its last run, as a sentence; None: none.

    Jobs run as their owner, who may have lost a right; only the server's log tells of that.
    """
    if not engine.has_continuous_aggregates:
        return None
    row = await db.fetchrow(
        "SELECT job_id, job.proc_name, job.hypertable_name AS relation, told.total_failures"
        " FROM timescaledb_information.job_stats told JOIN timescaledb_information.jobs job USING (job_id)"
        " WHERE told.last_run_status = 'Failed' AND job.hypertable_schema = $1 ORDER BY job_id LIMIT 1",
        SCHEMA,
    )
    if row is None:
        return None
    return (
        f"job {row['job_id']} of the server ({row['proc_name']} of {row['relation']}) failed when it last ran, "
        f"{row['total_failures']} times in all: `ingestd doctor` says why"
    )


async def refresh_window(db: Database, start: datetime, end: datetime) -> None:
    """Compute the candles of `[start, end)` again from the tables, in every timeframe.

    Must not run inside a transaction. The window is widened to whole buckets. Buckets older than the source's retention
    are not refreshed, since that would delete their candles. On TimescaleDB only the owner of the candles can do this;
    for any other role the server's policies do it within minutes.
    """
    engine = await engines.detect(db)
    if not engine.has_continuous_aggregates:
        await _mark_window(db, start, end)
        await refresh(db, engine)
        return
    if not await owns(db, AGGREGATES[0].relation):
        return
    kept_since = await _kept_since(db)
    materialised = await _materialised_until(db)
    for level in AGGREGATES:
        window = bucket_window(level, start, end, materialised[level.relation], kept_since.get(level.source))
        if window is not None:
            await db.execute(refresh_call(db, level.identifier), *window)


def bucket_window(
    level: Level, start: datetime, end: datetime, until: datetime, kept_since: datetime | None
) -> tuple[datetime, datetime] | None:
    """The whole buckets that `[start, end)` touches, without those partly dropped and those not before `until`.

    What is not materialised yet is computed when it is read. Materialising a part of it would hide what lies before
    that part until the policy comes by: everything below the newest materialised bucket is read as it was stored.
    """
    first = level.start_of_bucket(start)
    if kept_since is not None and first < kept_since:
        boundary = level.start_of_bucket(kept_since)
        first = boundary if boundary == kept_since else level.next_bucket(boundary)
    last = level.start_of_bucket(end)
    if last < end:
        last = level.next_bucket(last)
    last = min(last, level.start_of_bucket(until))
    return (first, last) if first < last else None


def refresh_call(db: Database, aggregate: str, *, force: bool = False) -> str:
    """The CALL that refreshes `[$1, $2)` of an aggregate. It runs in no transaction, so it names every schema."""
    return (
        f"CALL {quoted(db.extension_schema)}.refresh_continuous_aggregate('{SCHEMA}.{aggregate}',"
        f" $1::pg_catalog.timestamptz, $2::pg_catalog.timestamptz{', force => true' if force else ''})"
    )


async def _mark_window(db: Database, start: datetime, end: datetime) -> None:
    for table, marks in (("trades", "candles_marks"), ("market_ticks", "ohlcv_1h_marks")):
        await db.execute(
            f"INSERT INTO {marks} SELECT DISTINCT exchange, symbol, ingestd_bucket('1 minute', time)"  # noqa: S608
            f" FROM {table} WHERE time >= $1 AND time < $2",
            start,
            end,
        )


async def _materialised_until(db: Database) -> dict[str, datetime]:
    """Up to where each aggregate is materialised; the year 2000 for one that never was."""
    rows = await db.fetch(
        "SELECT user_view_name AS relation, greatest('2000-01-01T00:00:00Z', _timescaledb_functions.to_timestamp("
        "_timescaledb_functions.cagg_watermark(mat_hypertable_id))) AS until "
        "FROM _timescaledb_catalog.continuous_agg WHERE user_view_schema = $1",
        SCHEMA,
    )
    return {row["relation"]: row["until"].astimezone(UTC) for row in rows}


async def _kept_since(db: Database) -> dict[str, datetime]:
    """From when on each relation still has all its rows, by its retention policy."""
    rows = await db.fetch(
        "SELECT hypertable_name, now() - (config->>'drop_after')::interval AS since"
        " FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention' AND hypertable_schema = $1",
        SCHEMA,
    )
    return {row["hypertable_name"]: row["since"].astimezone(UTC) + timedelta(minutes=1) for row in rows}
