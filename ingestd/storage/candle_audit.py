"""Compares our one-minute candles with the venue's, and stores where they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from ingestd.clock import from_datetime, to_datetime
from ingestd.gaps.causes import CANDLE_AUDIT
from ingestd.records import Candle
from ingestd.storage import gap_filling
from ingestd.storage.database import Database

MINUTE_US = 60_000_000
FIELDS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class Minute:
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


def compare(
    ours: Mapping[int, Minute], theirs: Sequence[Candle], contract_size: Decimal | None = Decimal(1)
) -> tuple[int, list[Disagreement]]:
    """The number of minutes that agree, and those that differ. No candle equals a candle without trades.

    `contract_size`: see `comparable_volume`.
    """
    judged = [(candle, ours.get(candle.time)) for candle in theirs]
    wrong = [
        Disagreement(candle, minute, fields)
        for candle, minute in judged
        if (fields := _differing(minute, candle, contract_size))
    ]
    return len(judged) - len(wrong), wrong


async def comparable_volume(db: Database, exchange: str, symbol: str) -> Decimal | None:
    """Factor from our volume to the base currency; None: volumes cannot be compared.

    Our volume is in the unit of the venue's trades. For contracts, ccxt reports candles in the base currency on some
    venues and in contracts on others. The value of inverse contracts in the base currency depends on the price of each
    trade, and venues round it.
    """
    row = await db.fetchrow(
        "SELECT type, linear, contract_size, quantity_unit FROM symbols WHERE exchange = $1 AND symbol = $2",
        exchange,
        symbol,
    )
    if row is None or row["quantity_unit"] == "base" or row["type"] == "spot":
        return Decimal(1)
    size: Decimal | None = row["contract_size"]
    return size if row["linear"] and row["quantity_unit"] == "contracts" else None


async def our_minutes(db: Database, exchange: str, symbol: str, start_us: int, end_us: int) -> dict[int, Minute]:
    """Our candles that open in `[start_us, end_us)`, by opening time in microseconds."""
    rows = await db.fetch(
        "SELECT bucket_start, open, high, low, close, volume FROM candles_1m "
        "WHERE exchange = $1 AND symbol = $2 AND bucket_start >= $3 AND bucket_start < $4",
        exchange,
        symbol,
        to_datetime(start_us),
        to_datetime(end_us),
    )
    return {from_datetime(row["bucket_start"]): Minute(**{name: row[name] for name in FIELDS}) for row in rows}


async def judged_since_us(db: Database, exchange: str, symbol: str, start_us: int) -> int | None:
    """The first minute of which we have all trades: the one after the first trade; None while there is none."""
    if await gap_filling.newest_trade_before(db, exchange, symbol, to_datetime(start_us)) is not None:
        return start_us
    first = await gap_filling.oldest_trade_since(db, exchange, symbol, to_datetime(start_us))
    return None if first is None else first.time // MINUTE_US * MINUTE_US + MINUTE_US


async def known_gaps(
    db: Database, exchange: str, symbol: str, start_us: int, end_us: int
) -> list[tuple[datetime, datetime]]:
    """The parts of a window in which a gap is already known, so that a comparison tells nothing."""
    rows = await db.fetch(
        "SELECT started_at, coalesce(ended_at, 'infinity') AS ended_at FROM feed_gaps "
        "WHERE exchange = $1 AND symbol = $2 AND channel = 'trades' AND status <> 'filled' "
        "AND started_at < $4 AND coalesce(ended_at, 'infinity') > $3",
        exchange,
        symbol,
        to_datetime(start_us),
        to_datetime(end_us),
    )
    return [(row["started_at"], row["ended_at"]) for row in rows]


async def record(db: Database, disagreement: Disagreement) -> bool:
    """Store a disagreement and open a gap over its minute, so that backfill fills it. False: it was known."""
    theirs, ours, start = disagreement.theirs, disagreement.ours, to_datetime(disagreement.theirs.time)
    await db.execute(
        "INSERT INTO candle_audit (exchange, symbol, bucket_start, fields, open, high, low, close, volume, "
        "venue_open, venue_high, venue_low, venue_close, venue_volume) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) "
        "ON CONFLICT (exchange, symbol, bucket_start) DO UPDATE SET checked_at = now(), fields = excluded.fields, "
        "open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, "
        "volume = excluded.volume, venue_open = excluded.venue_open, venue_high = excluded.venue_high, "
        "venue_low = excluded.venue_low, venue_close = excluded.venue_close, venue_volume = excluded.venue_volume",
        theirs.exchange,
        theirs.symbol,
        start,
        disagreement.fields,
        *(None if ours is None else getattr(ours, name) for name in FIELDS),
        *(Decimal(getattr(theirs, name)) for name in FIELDS),
    )
    return await gap_filling.report_gap(
        db,
        theirs.exchange,
        theirs.symbol,
        start,
        start + timedelta(minutes=1),
        CANDLE_AUDIT,
        f"our candle differs from the venue's in {disagreement.fields}",
    )


def _differing(ours: Minute | None, theirs: Candle, contract_size: Decimal | None) -> str:
    if ours is None:
        return "missing" if Decimal(theirs.volume) else ""
    differing = [name for name in FIELDS if getattr(ours, name) != Decimal(getattr(theirs, name))]
    if "volume" in differing and (contract_size is None or ours.volume * contract_size == Decimal(theirs.volume)):
        differing.remove("volume")
    return ", ".join(differing)
