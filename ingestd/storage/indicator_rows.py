"""The database's side of technical indicators: candles to compute from, rows of `indicators_cache`, marks of what is to
be computed again, and changes that are to be sent."""

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
_STORE = """
WITH stored AS (
    INSERT INTO indicators_cache AS kept
        (time, exchange, symbol, timeframe, indicator_name, value, indicator_metadata)
    SELECT time, $1, $2, $3, name, value, metadata::jsonb
    FROM unnest($4::timestamptz[], $5::text[], $6::numeric[], $7::text[]) AS made (time, name, value, metadata)
    ON CONFLICT (exchange, symbol, indicator_name, time) DO UPDATE SET value = excluded.value,
        indicator_metadata = excluded.indicator_metadata, created_at = excluded.created_at
    WHERE excluded.value IS NOT NULL AND kept.value IS DISTINCT FROM excluded.value
    RETURNING time
), noted AS (
    INSERT INTO indicator_changes AS due (exchange, symbol, timeframe, started_at, ended_at)
    SELECT $1, $2, $3, min(time), max(time) FROM stored WHERE $8 HAVING count(*) > 0
    ON CONFLICT (exchange, symbol, timeframe) DO UPDATE SET started_at = least(due.started_at, excluded.started_at),
        ended_at = greatest(due.ended_at, excluded.ended_at), version = due.version + 1
)
SELECT count(*) FROM stored
"""


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


@dataclass(frozen=True, slots=True)
class Change:
    """Values of a series (unified symbol) between two times that have changed and are still to be sent."""

    exchange: str
    symbol: str
    timeframe: str
    started_at: datetime
    ended_at: datetime
    version: int


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


async def store(
    db: Database, exchange: str, symbol: str, timeframe: str, rows: Sequence[Value], *, notes_changes: bool = False
) -> int:
    """Insert values, and update those that differ. Return how many rows changed. `notes_changes`: note in the same
    transaction that these are to be sent (`changes`).

    A number is never replaced by NULL: that is what a value looks like after retention took candles of its window.
    """
    if not rows:
        return 0
    ordered = sorted(rows, key=lambda row: (row.name, row.time))
    changed = await db.fetchval(
        _STORE,
        exchange,
        db.names.name(exchange, symbol),
        timeframe,
        [row.time for row in ordered],
        [row.name for row in ordered],
        [row.value for row in ordered],
        [_metadata(row) for row in ordered],
        notes_changes,
    )
    return int(changed)


async def changes(db: Database) -> list[Change]:
    """What was stored with `notes_changes` and is not forgotten since, the oldest values first."""
    rows = await db.fetch(
        "SELECT exchange, symbol, timeframe, started_at, ended_at, version FROM indicator_changes"
        " ORDER BY started_at, exchange, symbol, timeframe"
    )
    return [Change(**{**row, "symbol": db.names.symbol(row["exchange"], row["symbol"])}) for row in rows]


async def changed_values(
    db: Database, change: Change, names: Sequence[str], after: tuple[datetime, str] | None, count: int
) -> Sequence[Row]:
    """The first `count` numbers of these indicators in the change that follow the one with this time and name; with
    `time`, `name` and `value`, the last as text."""
    time, name = after or (change.started_at, "")
    return await db.fetch(
        "SELECT time, indicator_name AS name, value::text AS value FROM indicators_cache"  # noqa: S608 - our own text
        f" WHERE {_MARKET} AND indicator_name = ANY($3::text[]) AND time BETWEEN $4 AND $5"
        " AND (time, indicator_name) > ($4, $6) AND value IS NOT NULL ORDER BY time, indicator_name LIMIT $7",
        change.exchange,
        db.names.name(change.exchange, change.symbol),
        list(names),
        time,
        change.ended_at,
        name,
        count,
    )


async def forget_changes(db: Database, sent: Sequence[Change]) -> None:
    """Delete what was sent, but for what has changed again meanwhile."""
    await db.execute(
        "DELETE FROM indicator_changes AS due USING unnest($1::text[], $2::text[], $3::text[], $4::bigint[])"
        " AS sent (exchange, symbol, timeframe, version) WHERE (due.exchange, due.symbol, due.timeframe, due.version)"
        " = (sent.exchange, sent.symbol, sent.timeframe, sent.version)",
        [change.exchange for change in sent],
        [db.names.name(change.exchange, change.symbol) for change in sent],
        [change.timeframe for change in sent],
        [change.version for change in sent],
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
