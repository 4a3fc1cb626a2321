"""How large the database will be: from what each table gained lately, its retention, and what compression leaves."""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ingestd.config.models import Config
from ingestd.storage.candles import FOR_EVER, LEVELS, TICK_HOURS
from ingestd.storage.database import Database
from ingestd.storage.doctor import sizes
from ingestd.storage.doctor.findings import MIGRATE, Finding, Level, size
from ingestd.storage.doctor.lateness import SAMPLED_BYTES
from ingestd.storage.doctor.sizes import Chunk
from ingestd.storage.engine import Engine
from ingestd.storage.policies import HYPERTABLES, kept_days

_DAY = timedelta(days=1)
_RECENT_DAYS = 7  # of whole chunks, from which the daily gain is computed
_HORIZONS = (30, 90, 365)
_ERROR_DAYS, _WARNING_DAYS = 7, 60
_RESERVE = 0.1  # of the free space, for the write-ahead log and sorting


@dataclass(frozen=True, slots=True)
class Growth:
    """One table now: its size, for how many days it holds rows, what a day of them takes uncompressed, and which part
    of that is left after compression."""

    table: str
    bytes: int
    held_days: float
    daily_bytes: float
    ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class GrowthFacts:
    """`free_bytes`: on the disk of the server's data; None: not known from here."""

    tables: tuple[Growth, ...]
    free_bytes: int | None = None


async def read(db: Database, engine: Engine, free_bytes: int | None) -> GrowthFacts:
    """`free_bytes` given replaces what is found on this machine, if the server runs here."""
    if engine.has_hypertables:
        chunks = await sizes.read(db, has_columnstore=engine.has_continuous_aggregates)
        tables = tuple(
            growth for name, own in chunks.by_table().items() if (growth := of_chunks(name, own)) is not None
        )
    else:
        rows = await db.fetch(_PLAIN)
        tables = tuple(
            Growth(row["table"], row["bytes"], row["held_days"], row["bytes"] / max(row["held_days"], 1))
            for row in rows
            if row["held_days"] is not None
        )
    return GrowthFacts(tables, await _free_here(db) if free_bytes is None else free_bytes)


def of_chunks(table: str, chunks: Sequence[Chunk]) -> Growth | None:
    """What the chunks of a table, oldest first, say of its growth; None: no chunk is whole yet."""
    whole = chunks[:-1]  # rows still come into the newest
    if not whole:
        return None
    recent = [chunk for chunk in whole if whole[-1].end - chunk.start <= _RECENT_DAYS * _DAY] or [whole[-1]]
    days = sum((chunk.end - chunk.start for chunk in recent), timedelta()) / _DAY
    done = [chunk for chunk in whole if chunk.before_bytes and chunk.after_bytes is not None]
    before = sum(chunk.before_bytes or 0 for chunk in done)
    return Growth(
        table,
        bytes=sum(chunk.bytes for chunk in chunks),
        held_days=(chunks[-1].end - chunks[0].start) / _DAY,
        daily_bytes=sum(chunk.before_bytes or chunk.bytes for chunk in recent) / days,
        ratio=sum(chunk.after_bytes or 0 for chunk in done) / before if before else 1.0,
    )


def forecast(growth: Growth, days: int, keep_days: int, compress_days: int) -> float:
    """The size of a table in so many days. `keep_days`, `compress_days`: 0 means for ever, and never."""
    span = growth.held_days + days
    if keep_days != FOR_EVER:
        span = min(span, keep_days)
    plain = span if compress_days == FOR_EVER else min(span, compress_days)
    return growth.daily_bytes * (plain + (span - plain) * growth.ratio)


def judge(facts: GrowthFacts, config: Config) -> Iterator[Finding]:
    """Say how large the tables will be, and when the disk is full."""
    if not facts.tables:
        return
    now = sum(table.bytes for table in facts.tables)
    gains = {days: _gain(facts.tables, days, config) for days in _HORIZONS}
    total = ", ".join(f"{size(max(0, now + sum(gain.values())))} in {days} days" for days, gain in gains.items())
    largest = max(gains[_HORIZONS[-1]].items(), key=lambda gain: gain[1])[0]
    message = f"tables take {size(now)} now, and about {total}; {largest} gains most"
    lower = f"-- a larger disk, or [retention] {largest.removeprefix('public.')}_days lower in FILE, then\n{MIGRATE}"
    full = None if facts.free_bytes is None else _days_until(facts, config)
    if facts.free_bytes is None:
        message += "; how much the server's disk has left is not known from here (--disk-free)"
    elif full is None:
        message += f"; {size(facts.free_bytes)} are free, enough for a year"
    else:
        message += f"; {size(facts.free_bytes)} are free, enough for {full} days"
    soon: Level = "note"
    if full is not None and full <= _WARNING_DAYS:
        soon = "error" if full <= _ERROR_DAYS else "warning"
    yield Finding(soon, "disk", message, lower)


def _gain(tables: Sequence[Growth], days: int, config: Config) -> Mapping[str, float]:
    """By how much each table grows in so many days. The forecast's own error at day 0 is taken off."""
    gains = {}
    for table in tables:
        own = (keep_days(table.table, config), compress_days(table.table, config))
        gains[table.table] = forecast(table, days, *own) - forecast(table, 0, *own)
    return gains


def _days_until(facts: GrowthFacts, config: Config) -> int | None:
    """For how many days the free space is enough; None: for a year or longer."""
    assert facts.free_bytes is not None
    usable = facts.free_bytes * (1 - _RESERVE)
    return next((day - 1 for day in range(1, 366) if sum(_gain(facts.tables, day, config).values()) > usable), None)


def keep_days(table: str, config: Config) -> int:
    """How long a table keeps rows by the configuration; tables of others: for ever."""
    own = table.removeprefix("public.")
    if own in HYPERTABLES:
        return kept_days(own, config.retention)
    for level in (*LEVELS, TICK_HOURS):
        if level.relation == own:
            return int(getattr(config.retention, level.retention_keys[1]))
    return FOR_EVER


def compress_days(table: str, config: Config) -> int:
    """After how many days a table's chunks are compressed by the configuration."""
    own = table.removeprefix("public.")
    return int(getattr(config.compression, f"{own}_after_days")) if own in HYPERTABLES else FOR_EVER


async def _free_here(db: Database) -> int | None:
    """What the disk under the server's data has left, if the server runs on this machine."""
    row = await db.fetchrow(
        "SELECT host(inet_server_addr()) AS address,"
        " (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS folder"
    )
    assert row is not None
    if row["folder"] is None or (row["address"] and not ipaddress.ip_address(row["address"]).is_loopback):
        return None
    try:
        return shutil.disk_usage(row["folder"]).free
    except OSError:
        return None


# Where no chunk says how long a table holds rows, a sample of its pages does: an index by time (0004) would not.
_PLAIN = " UNION ALL ".join(
    f"SELECT 'public.{table}' AS table, pg_total_relation_size('{name}') AS bytes,"  # noqa: S608 # our own names
    f" (SELECT extract(epoch FROM max({column}) - min({column}))::float8 / 86400 FROM {name}"
    f" TABLESAMPLE SYSTEM (least(100, 100.0 * {SAMPLED_BYTES} / greatest(1, pg_relation_size('{name}')))))"
    " AS held_days"
    for table, name, column in (
        *((table, table, "time") for table in HYPERTABLES),
        *((level.relation, level.identifier, "bucket_start") for level in (*LEVELS, TICK_HOURS)),
    )
)
