"""The database's side of backfill: gaps that are due, what is stored around them, and their verdicts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingestd.channels import ROW_OF
from ingestd.clock import from_datetime, to_datetime
from ingestd.storage.database import Database

_EDGE_TRADES = 10  # before a gap; after it: the trades of the first frame
_CLOCKS_APART = timedelta(minutes=5)  # how far the venue's clock and ours may differ
_PRECISION_US = 1_000_000  # the coarsest precision of times in a venue's past
_LOOK_BACK = timedelta(days=7)  # for the last trade of a symbol that is rarely traded


@dataclass(frozen=True, slots=True)
class Gap:
    """An ended gap of `feed_gaps`. Its times are our clock's: the last record before the gap, the first after it."""

    id: int
    exchange: str
    symbol: str
    channel: str
    started_at: datetime
    ended_at: datetime
    cause: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class StoredTrade:
    """A trade as stored; `time` in microseconds, decimals as text."""

    trade_id: str
    time: int
    seq: int
    price: str
    quantity: str


async def due_gaps(
    db: Database, exchanges: Collection[str], channels: Collection[str], *, but: Collection[int], limit: int
) -> list[Gap]:
    """Gaps that have ended and are neither filled nor unfillable, newest first; `but`: ids to leave out."""
    sql = (
        "SELECT id, exchange, symbol, channel, started_at, ended_at, cause, detail FROM feed_gaps "
        "WHERE status = 'closed' AND ended_at IS NOT NULL AND exchange = ANY($1::text[]) AND channel = ANY($2::text[]) "
        "AND id <> ALL($3::bigint[]) ORDER BY started_at DESC, id DESC LIMIT $4"
    )
    rows = await db.fetch(sql, list(exchanges), list(channels), list(but), limit)
    return [Gap(**{**row, "symbol": db.names.symbol(row["exchange"], row["symbol"])}) for row in rows]


async def trades_before(db: Database, gap: Gap) -> list[StoredTrade]:
    """The last trades received before the gap, oldest first; none older than `_LOOK_BACK`."""
    # If ids are missing inside one frame, the gap begins and ends at one moment: that frame comes after the gap.
    received = "<=" if gap.started_at < gap.ended_at else "<"
    where = f"time > $3 AND time <= $4 AND received_at {received} $5 ORDER BY time DESC, seq DESC LIMIT {_EDGE_TRADES}"
    since, until = gap.started_at - _LOOK_BACK, gap.started_at + _CLOCKS_APART
    return (await _trades(db, where, gap.exchange, gap.symbol, since, until, gap.started_at))[::-1]


async def trades_after(db: Database, gap: Gap) -> list[StoredTrade]:
    """The trades of the first frame after the gap, oldest first; empty while they are not stored.

    Rows of an earlier, interrupted backfill are not among them: they were received later than that frame.
    """
    where = (
        "time > $3 AND time <= $4 AND received_at = (SELECT min(received_at) FROM trades WHERE exchange = $1 "
        "AND symbol = $2 AND time > $3 AND time <= $4 AND received_at >= $5) ORDER BY time, seq"
    )
    since, until = gap.started_at - _CLOCKS_APART, gap.ended_at + _CLOCKS_APART
    return await _trades(db, where, gap.exchange, gap.symbol, since, until, gap.ended_at)


async def stored_trades(
    db: Database, exchange: str, symbol: str, first_us: int, last_us: int
) -> dict[str, StoredTrade]:
    """The trades of `[first_us, last_us]`, widened by a second (some venues' past has whole seconds only), by id."""
    span = to_datetime(first_us - _PRECISION_US), to_datetime(last_us + _PRECISION_US)
    found = await _trades(db, "time >= $3 AND time <= $4", exchange, symbol, *span)
    return {trade.trade_id: trade for trade in found}


async def newest_trade_before(db: Database, exchange: str, symbol: str, before: datetime) -> StoredTrade | None:
    """The last stored trade with an earlier exchange time, at most `_LOOK_BACK` earlier."""
    where = "time < $3 AND time > $4 ORDER BY time DESC, seq DESC LIMIT 1"
    return next(iter(await _trades(db, where, exchange, symbol, before, before - _LOOK_BACK)), None)


async def oldest_trade_since(db: Database, exchange: str, symbol: str, since: datetime) -> StoredTrade | None:
    """The first stored trade with this exchange time or a later one."""
    return next(iter(await _trades(db, "time >= $3 ORDER BY time, seq LIMIT 1", exchange, symbol, since)), None)


async def stored_times(
    db: Database, channel: str, exchange: str, symbol: str, first_us: int, last_us: int, timeframe: str | None = None
) -> set[int]:
    """The times (microseconds) of `[first_us, last_us]` at which a channel other than trades has a row."""
    sql = (
        f"SELECT time FROM {ROW_OF[channel].table} "  # noqa: S608 - our own names
        "WHERE exchange = $1 AND symbol = $2 AND time >= $3 AND time <= $4"
    )
    args = [exchange, db.names.name(exchange, symbol), to_datetime(first_us), to_datetime(last_us)]
    if channel == "candles":
        sql += " AND timeframe = $5"
        args.append(timeframe)
    return {from_datetime(row["time"]) for row in await db.fetch(sql, *args)}


async def recovered_trades(
    db: Database, gap: Gap, before: Sequence[StoredTrade], after: Sequence[StoredTrade]
) -> tuple[int, datetime | None, datetime | None]:
    """How many trades between the gap's edges were received after the gap, and the exchange times of the first and the
    last (None: none).

    Counted in the table, so that what an interrupted backfill stored is counted too.
    """
    sql = (
        "SELECT count(*) AS rows, min(time) AS first, max(time) AS last FROM trades "
        "WHERE exchange = $1 AND symbol = $2 AND time >= $3 AND (time, seq) < ($4, $5) AND received_at > $6 "
        "AND trade_id <> ALL($7::text[])"
    )
    first_us, last = min(trade.time for trade in before), max(after, key=lambda trade: (trade.time, trade.seq))
    edges = to_datetime(first_us), to_datetime(last.time), last.seq
    ids = [trade.trade_id for trade in after]
    row = await db.fetchrow(sql, gap.exchange, db.names.name(gap.exchange, gap.symbol), *edges, gap.ended_at, ids)
    assert row is not None
    return row["rows"], row["first"], row["last"]


async def settle(db: Database, gap: Gap, status: str, recovered_rows: int, verdict: str) -> None:
    """Store the gap's new status, `filled` or `unfillable`, and put the verdict in front of its detail."""
    sql = "UPDATE feed_gaps SET status = $2, recovered_rows = $3, detail = $4 WHERE id = $1 AND status = 'closed'"
    detail = verdict if not gap.detail else f"{verdict}; {gap.detail}"
    await db.execute(sql, gap.id, status, recovered_rows, detail[:1000])


async def report_gap(
    db: Database, exchange: str, symbol: str, started_at: datetime, ended_at: datetime, cause: str, detail: str
) -> bool:
    """Store a trade gap that has already ended. False: it is stored already."""
    sql = (
        "INSERT INTO feed_gaps (exchange, symbol, channel, started_at, ended_at, cause, status, detail) "
        "VALUES ($1, $2, 'trades', $3, $4, $5, 'closed', $6) ON CONFLICT DO NOTHING"
    )
    name = db.names.name(exchange, symbol)
    return await db.execute(sql, exchange, name, started_at, ended_at, cause, detail) > 0


async def pause_venue(db: Database, exchange: str, until_us: int, reason: str) -> None:
    """Store until when a venue wants no requests, for every process and for restarts."""
    sql = (
        "INSERT INTO venue_pauses (exchange, until, reason) VALUES ($1, $2, $3) ON CONFLICT (exchange) "
        "DO UPDATE SET until = greatest(venue_pauses.until, excluded.until), reason = excluded.reason"
    )
    await db.execute(sql, exchange, to_datetime(until_us), reason[:300])


async def paused_until_us(db: Database, exchange: str) -> int:
    """When the venue may be asked again, in microseconds; 0: now."""
    until = await db.fetchval("SELECT until FROM venue_pauses WHERE exchange = $1 AND until > now()", exchange)
    return 0 if until is None else from_datetime(until)


async def _trades(db: Database, where: str, exchange: str, symbol: str, *args: object) -> list[StoredTrade]:
    """The trades of one market that `where` chooses: exchange `$1`, symbol `$2`, and `args` from `$3` on."""
    sql = "SELECT trade_id, time, seq, price::text, quantity::text FROM trades WHERE exchange = $1 AND symbol = $2 AND "
    rows = await db.fetch(sql + where, exchange, db.names.name(exchange, symbol), *args)
    return [StoredTrade(**{**row, "time": from_datetime(row["time"])}) for row in rows]
