"""Deletes what is older than its retention, where no policy of the server does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingestd.channels import ROWS
from ingestd.config.models import Config
from ingestd.config.packs import OWN_TABLES
from ingestd.storage.candles import FOR_EVER, LEVELS, TICK_HOURS
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.policies import HYPERTABLES, INDICATORS, kept_days
from ingestd.storage.rights import owns
from ingestd.storage.session_settings import qualified
from ingestd.validation import TimeWindow, time_window

_ROWS_PER_DELETE = 20_000
_MARKS_DAYS = 7
_ALL = "true"
_SLICE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Expiry:
    """Rows of a table to delete after `days`, chosen by its time column and a condition.

    `pack`: the pack whose own table it is, named with its schema, and which may not be applied yet; "": the schema's.
    """

    table: str
    column: str
    days: int
    condition: str = _ALL
    pack: str = ""
    is_hypertable: bool = False


async def purge(db: Database, engine: Engine, config: Config) -> dict[str, int]:
    """Delete everything past its retention, in short transactions. Returns the rows deleted by table.

    Where TimescaleDB's policies drop whole chunks, this deletes only from the other tables and from `ohlcv_data` and
    `indicators_cache`, whose retention depends on the timeframe. Dropped chunks count no rows.
    """
    deleted: Counter[str] = Counter()
    now = datetime.now(UTC)
    for expiry in expiries(engine, config):
        if expiry.days != FOR_EVER and (expiry.pack == "" or await _exists(db, expiry.table)):
            deleted[expiry.table] += await _delete(db, engine, expiry, now - timedelta(days=expiry.days))
    return dict(+deleted)


def expiries(engine: Engine, config: Config) -> Iterator[Expiry]:
    """What the daemon deletes on this engine, and after how many days."""
    retention = config.retention
    yield from _of_packs(config)
    yield Expiry("rejected_records", "at", retention.rejected_records_days)
    yield Expiry("candle_audit", "checked_at", retention.rejected_records_days)
    # Months are written 1M, minutes 1m: the pattern must not fold case.
    for days, timeframes in (
        (retention.ohlcv_data_minutes_days, "~ '^[0-9]+m$'"),
        (retention.ohlcv_data_hours_days, "~ '^[0-9]+h$'"),
        (retention.ohlcv_data_days_days, "!~ '^[0-9]+[mh]$'"),
    ):
        yield Expiry("ohlcv_data", "time", days, f"timeframe {timeframes}", is_hypertable=True)
    for level in LEVELS:  # as long as the candles that they were computed from
        timeframe = level.relation.removeprefix("candles_")
        days = getattr(retention, level.retention_keys[1])
        yield Expiry(INDICATORS, "time", days, f"timeframe = '{timeframe}'", is_hypertable=True)
    yield Expiry("indicator_marks", "marked_at", _MARKS_DAYS)
    if engine.has_continuous_aggregates:
        return
    for level in (*LEVELS, TICK_HOURS):
        yield Expiry(level.relation, "bucket_start", getattr(retention, level.retention_keys[1]))
    yield Expiry("ohlcv_1h_minutes", "bucket_start", retention.market_ticks_days)
    for table in HYPERTABLES:
        if table not in ("ohlcv_data", INDICATORS):
            yield Expiry(table, "time", getattr(retention, f"{table}_days"), is_hypertable=True)


def _of_packs(config: Config) -> Iterator[Expiry]:
    packs = () if config.database is None else config.database.packs
    for table in OWN_TABLES:
        if table.pack in packs:
            days = getattr(config.retention, table.option)
            yield Expiry(str(table), table.column, days, table.condition, table.pack, table.is_hypertable)


async def _delete(db: Database, engine: Engine, expiry: Expiry, cutoff: datetime) -> int:
    """Delete the rows before the cutoff, and return how many. Only a table's owner may drop whole chunks."""
    if not (expiry.is_hypertable and engine.has_hypertables):
        return await _delete_rows(db, expiry, cutoff)
    if expiry.condition == _ALL and await owns(db, expiry.table):
        await db.fetch("SELECT drop_chunks($1::text::regclass, older_than => $2::timestamptz)", expiry.table, cutoff)
        return 0
    return await _delete_slices(db, expiry, cutoff)


async def _delete_rows(db: Database, expiry: Expiry, cutoff: datetime) -> int:
    """Delete in batches by row address (ctid), which is unique in plain tables only."""
    table, where = qualified(expiry.table), f"{expiry.column} < $1 AND {expiry.condition}"
    total = 0
    while True:
        count = await db.execute(
            f"DELETE FROM {table} WHERE ctid = ANY (ARRAY("  # noqa: S608 - our own names
            f"SELECT ctid FROM {table} WHERE {where} LIMIT {_ROWS_PER_DELETE}))",
            cutoff,
        )
        total += count
        if count < _ROWS_PER_DELETE:
            return total


async def _delete_slices(db: Database, expiry: Expiry, cutoff: datetime) -> int:
    """Delete one day at a time, for hypertables, where row addresses repeat from chunk to chunk."""
    where = f"{expiry.column} < $1 AND {expiry.condition}"
    total = 0
    while True:
        oldest = await db.fetchval(f"SELECT min({expiry.column}) FROM {expiry.table} WHERE {where}", cutoff)  # noqa: S608
        if oldest is None:
            return total
        total += await db.execute(
            f"DELETE FROM {expiry.table} WHERE {where}",  # noqa: S608 - our own names
            min(cutoff, oldest + _SLICE),
        )


async def _exists(db: Database, table: str) -> bool:
    return await db.fetchval("SELECT to_regclass($1::text)::text", qualified(table)) is not None


def accepted_window(config: Config) -> Callable[[int], TimeWindow]:
    """The function from the time now, in microseconds, to the window of record times that are accepted then."""
    days: dict[type, int] = {row.record: kept_days(row.table, config.retention) for row in ROWS}
    return lambda now_us: time_window(now_us, config.validation.max_ahead_s, days)
