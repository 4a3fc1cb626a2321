"""The database's side of technical indicators: candles to compute from, rows of `indicators_cache`, and marks of what
changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import orjson

from ingestd.storage.candles import LEVELS, Level
from ingestd.storage.database import Database, Row

LEVEL_OF: dict[str, Level] = {level.relation.removeprefix("candles_"): level for level in LEVELS}
"""The candles of each timeframe."""

ACTIVE_WITHIN = timedelta(days=2)
SETTLED_AFTER = timedelta(hours=1)
"""After this time the candles of a mark are final on every server: where only their owner may refresh them, the server
does it by a job."""

_COLUMNS = (
    "bucket_start, open::double precision, high::double precision, low::double precision, close::double precision,"
    " volume::double precision"
)
_MARKET = "exchange = $1 AND symbol = $2"


@dataclass(frozen=True, slots=True)
class Mark:
    """Candles of a market (unified symbol) that may have changed, between two times. `settled`: for the last time."""

    id: int
    exchange: str
    symbol: str
    started_at: datetime
    ended_at: datetime
    settled: bool


@dataclass(frozen=True, slots=True)
class Value:
    """A value of an indicator: the time at which its candle opens, its full name, and the number or None."""

    time: datetime
    name: str
    value: Decimal | None
    window: int
    candles: int


async def active_markets(db: Database) -> list[tuple[str, str]]:
    """The markets (unified symbols) that were traded within the last two days."""
    rows = await db.fetch(
        "SELECT DISTINCT exchange, symbol FROM candles_1h WHERE bucket_start >= now() - $1::interval", ACTIVE_WITHIN
    )
    return sorted((row["exchange"], db.names.symbol(row["exchange"], row["symbol"])) for row in rows)


async def newest_candles(
    db: Database, exchange: str, symbol: str, timeframe: str, until: datetime, count: int
) -> Sequence[Row]:
    """The last `count` candles that open at or before `until`, the oldest first."""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM {LEVEL_OF[timeframe].identifier} WHERE {_MARKET}"  # noqa: S608 - our own names
        " AND bucket_start <= $3 ORDER BY bucket_start DESC LIMIT $4",
        exchange,
        db.names.name(exchange, symbol),
        until,
        count,
    )
    return rows[::-1]


async def candles_since(
    db: Database, exchange: str, symbol: str, timeframe: str, since: datetime, count: int
) -> Sequence[Row]:
    """The first `count` candles that open at or after `since`, the oldest first."""
    return await db.fetch(
        f"SELECT {_COLUMNS} FROM {LEVEL_OF[timeframe].identifier} WHERE {_MARKET}"  # noqa: S608 - our own names
        " AND bucket_start >= $3 ORDER BY bucket_start LIMIT $4",
        exchange,
        db.names.name(exchange, symbol),
        since,
        count,
    )


async def store(db: Database, exchange: str, symbol: str, timeframe: str, rows: Sequence[Value]) -> int:
    """Insert values, and update those that differ. Return how many rows changed.

    A number is never replaced by NULL: that is what a value looks like after retention took candles of its window.
    """
    if not rows:
        return 0
    ordered = sorted(rows, key=lambda row: (row.name, row.time))
    return await db.execute(
        "INSERT INTO indicators_cache AS kept"
        " (time, exchange, symbol, timeframe, indicator_name, value, indicator_metadata)"
        " SELECT time, $1, $2, $3, name, value, metadata::jsonb"
        " FROM unnest($4::timestamptz[], $5::text[], $6::numeric[], $7::text[]) AS made (time, name, value, metadata)"
        " ON CONFLICT (exchange, symbol, indicator_name, time) DO UPDATE SET value = excluded.value,"
        " indicator_metadata = excluded.indicator_metadata, created_at = excluded.created_at"
        " WHERE excluded.value IS NOT NULL AND kept.value IS DISTINCT FROM excluded.value",
        exchange,
        db.names.name(exchange, symbol),
        timeframe,
        [row.time for row in ordered],
        [row.name for row in ordered],
        [row.value for row in ordered],
        [_metadata(row) for row in ordered],
    )


async def mark(db: Database, exchange: str, symbol: str, started_at: datetime, ended_at: datetime) -> None:
    """Note that candles of this market between these times may have changed, so that values are computed again."""
    await db.execute(
        "INSERT INTO indicator_marks (exchange, symbol, started_at, ended_at) VALUES ($1, $2, $3, $4)",
        exchange,
        db.names.name(exchange, symbol),
        started_at,
        ended_at,
    )


async def marks(db: Database, after_id: int) -> list[Mark]:
    """The marks that are newer than the one with this id, and the older ones whose candles are final by now."""
    rows = await db.fetch(
        "SELECT id, exchange, symbol, started_at, ended_at, marked_at <= now() - $2::interval AS settled"
        " FROM indicator_marks WHERE id > $1 OR marked_at <= now() - $2::interval ORDER BY id LIMIT 1000",
        after_id,
        SETTLED_AFTER,
    )
    return [Mark(**{**row, "symbol": db.names.symbol(row["exchange"], row["symbol"])}) for row in rows]


async def forget(db: Database, done: Mark) -> None:
    """Delete a mark whose values were computed for the last time."""
    await db.execute("DELETE FROM indicator_marks WHERE id = $1", done.id)


def _metadata(row: Value) -> str:
    known = {"window": row.window} if row.candles >= row.window else {"window": row.window, "candles": row.candles}
    return orjson.dumps(known).decode()
