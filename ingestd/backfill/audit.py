"""Compares our one-minute candles with the venue's own, a few symbols at a time.

Where they differ, both are stored in `candle_audit`, with a gap in `feed_gaps` that backfill fills.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, Protocol

import structlog

from ingestd.clock import from_datetime, now_us, to_datetime
from ingestd.config.models import BackfillConfig, FeedConfig
from ingestd.gaps.causes import CANDLE_AUDIT
from ingestd.ops.metrics import Metrics
from ingestd.records import Candle
from ingestd.storage import gap_filling
from ingestd.storage.database import Database

log = structlog.get_logger()

MINUTE_US = 60_000_000
_SETTLED_US = MINUTE_US  # time for the last trades of a closed minute to be stored


class Minute(NamedTuple):
    """Our candle of one minute."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A minute in which our candle and the venue's differ in `fields`; `ours` None: we have no candle."""

    theirs: Candle
    ours: Minute | None
    fields: str


class History(Protocol):
    """The part of the venue's history client that the audit uses."""

    config: FeedConfig

    def symbols(self) -> list[str]: ...
    async def candles(self, symbol: str, timeframe: str, since_us: int) -> list[Candle]: ...


class Auditor:
    """Audits the symbols of each venue in rotation, some in each turn."""

    def __init__(self, config: BackfillConfig, metrics: Metrics, holds: Callable[[str, str], bool]) -> None:
        self._config = config
        self._metrics = metrics
        self._holds = holds
        self._next: dict[str, int] = {}  # by exchange: index of the next symbol

    async def turn(self, db: Database, history: History) -> None:
        """Audit the next few symbols of this venue. Raises FeedError."""
        exchange = history.config.exchange
        symbols = [symbol for symbol in history.symbols() if self._holds(exchange, symbol)]
        for _ in range(min(len(symbols), self._config.audit_symbols)):
            index = self._next.get(exchange, 0) % len(symbols)
            self._next[exchange] = index + 1
            await self._audit(db, history, symbols[index])

    async def _audit(self, db: Database, history: History, symbol: str) -> None:
        exchange = history.config.exchange
        end_us = (now_us() - _SETTLED_US) // MINUTE_US * MINUTE_US
        since_us = end_us - self._config.audit_minutes * MINUTE_US
        start_us = await _judged_since_us(db, exchange, symbol, since_us)
        if start_us is None or start_us >= end_us:
            return
        theirs = await history.candles(symbol, "1m", start_us)
        window = exchange, symbol, to_datetime(start_us), to_datetime(end_us)
        gaps = await _known_gaps(db, *window)
        judged = [candle for candle in theirs if start_us <= candle.time < end_us and not _is_within(candle, gaps)]
        ours = await _our_minutes(db, *window)
        agreeing, wrong = compare(ours, judged, await comparable_volume(db, exchange, symbol))
        self._metrics.candle_audits.labels(exchange, "agree").inc(agreeing)
        self._metrics.candle_audits.labels(exchange, "differ").inc(len(wrong))
        for disagreement in wrong:
            if await record(db, disagreement):
                minute = str(to_datetime(disagreement.theirs.time))
                log.warning(
                    "candle_differs", exchange=exchange, symbol=symbol, minute=minute, fields=disagreement.fields
                )


def compare(
    ours: Mapping[int, Minute], theirs: Sequence[Candle], contract_size: Decimal | None = Decimal(1)
) -> tuple[int, list[Disagreement]]:
    """Return the number of minutes that agree, and the others. A candle that we lack agrees with one without volume.

    `contract_size`: see `comparable_volume`.
    """
    wrong = [
        Disagreement(candle, ours.get(candle.time), fields)
        for candle in theirs
        if (fields := _differing(ours.get(candle.time), candle, contract_size))
    ]
    return len(theirs) - len(wrong), wrong


async def comparable_volume(db: Database, exchange: str, symbol: str) -> Decimal | None:
    """Factor from our volume to the base currency; None: volumes cannot be compared.

    Our volume is in the unit of the venue's trades. For contracts, ccxt reports candles in the base currency on some
    venues and in contracts on others. The value of inverse contracts in the base currency depends on the price of each
    trade, and venues round it.
    """
    sql = "SELECT type, linear, contract_size, quantity_unit FROM symbols WHERE exchange = $1 AND symbol = $2"
    row = await db.fetchrow(sql, exchange, symbol)
    if row is None or row["quantity_unit"] == "base" or row["type"] == "spot":
        return Decimal(1)
    size: Decimal | None = row["contract_size"]
    return size if row["linear"] and row["quantity_unit"] == "contracts" else None


async def record(db: Database, disagreement: Disagreement) -> bool:
    """Store a disagreement, and a gap of its minute. False: the gap was stored before."""
    theirs, ours, start = disagreement.theirs, disagreement.ours, to_datetime(disagreement.theirs.time)
    sql = (
        "INSERT INTO candle_audit (exchange, symbol, bucket_start, fields, open, high, low, close, volume, "
        "venue_open, venue_high, venue_low, venue_close, venue_volume) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) "
        "ON CONFLICT (exchange, symbol, bucket_start) DO UPDATE SET checked_at = now(), fields = excluded.fields, "
        "open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, "
        "volume = excluded.volume, venue_open = excluded.venue_open, venue_high = excluded.venue_high, "
        "venue_low = excluded.venue_low, venue_close = excluded.venue_close, venue_volume = excluded.venue_volume"
    )
    of_venue = [Decimal(getattr(theirs, name)) for name in Minute._fields]
    of_us = ours or [None] * len(of_venue)
    name = db.names.name(theirs.exchange, theirs.symbol)
    await db.execute(sql, theirs.exchange, name, start, disagreement.fields, *of_us, *of_venue)
    end, detail = start + timedelta(minutes=1), f"our candle differs from the venue's in {disagreement.fields}"
    return await gap_filling.report_gap(db, theirs.exchange, theirs.symbol, start, end, CANDLE_AUDIT, detail)


async def _judged_since_us(db: Database, exchange: str, symbol: str, start_us: int) -> int | None:
    """`start_us`, or the minute after our first trade if no trade before `start_us` is stored; None without trades."""
    if await gap_filling.newest_trade_before(db, exchange, symbol, to_datetime(start_us)) is not None:
        return start_us
    first = await gap_filling.oldest_trade_since(db, exchange, symbol, to_datetime(start_us))
    return None if first is None else first.time // MINUTE_US * MINUTE_US + MINUTE_US


async def _our_minutes(db: Database, exchange: str, symbol: str, start: datetime, end: datetime) -> dict[int, Minute]:
    """Our candles that open in `[start, end)`, by opening time in microseconds."""
    sql = (
        "SELECT bucket_start, open, high, low, close, volume FROM candles_1m "
        "WHERE exchange = $1 AND symbol = $2 AND bucket_start >= $3 AND bucket_start < $4"
    )
    rows = await db.fetch(sql, exchange, db.names.name(exchange, symbol), start, end)
    return {from_datetime(row["bucket_start"]): Minute(*(row[name] for name in Minute._fields)) for row in rows}


async def _known_gaps(
    db: Database, exchange: str, symbol: str, start: datetime, end: datetime
) -> list[tuple[datetime, datetime]]:
    """The parts of a window in which a gap is already known, so that a comparison tells nothing."""
    sql = (
        "SELECT started_at, coalesce(ended_at, 'infinity') AS ended_at FROM feed_gaps "
        "WHERE exchange = $1 AND symbol = $2 AND channel = 'trades' AND status <> 'filled' "
        "AND started_at < $4 AND coalesce(ended_at, 'infinity') > $3"
    )
    rows = await db.fetch(sql, exchange, db.names.name(exchange, symbol), start, end)
    return [(row["started_at"], row["ended_at"]) for row in rows]


def _is_within(candle: Candle, gaps: Sequence[tuple[datetime, datetime]]) -> bool:
    start, end = to_datetime(candle.time), to_datetime(candle.time + MINUTE_US)
    return any(started < end and ended > start for started, ended in gaps)


def _differing(ours: Minute | None, theirs: Candle, contract_size: Decimal | None) -> str:
    if ours is None:
        return "missing" if Decimal(theirs.volume) else ""
    differing = [name for name in Minute._fields if getattr(ours, name) != Decimal(getattr(theirs, name))]
    if "volume" in differing and (contract_size is None or ours.volume * contract_size == Decimal(theirs.volume)):
        differing.remove("volume")
    return ", ".join(differing)
