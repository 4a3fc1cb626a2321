"""A trade that was lost without a trace: the audit finds the minute, the gap is filled, the candle is the venue's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import pytest
from msgspec.structs import replace

from ingestd.backfill.audit import Auditor, Minute, compare
from ingestd.backfill.fill import Filler
from ingestd.clock import now_us, to_datetime
from ingestd.config.models import BackfillConfig, FeedConfig
from ingestd.feeds.past.trade_search import Request
from ingestd.ops.metrics import Metrics
from ingestd.records import Candle, Funding, MarketRecord, OpenInterest, Trade
from ingestd.storage import engine, gap_filling, rollups
from ingestd.storage.database import Database
from ingestd.storage.writer.writer import prepare, write
from ingestd.venues.market_names import Names
from ingestd.venues.trades import Ids, Paging, Series
from tests.support.postgres import DatabaseForTest
from tests.support.records import trade

MINUTE_US = 60_000_000


class Venue:
    """A venue's whole past, from the trades themselves."""

    def __init__(self, trades: Sequence[Trade]) -> None:
        self.config = FeedConfig(exchange="binance", symbols=["BTC/USDT"], channels=["trades"])
        self.past = list(trades)

    def symbols(self) -> list[str]:
        return ["BTC/USDT"]

    def require(self, channel: str, symbol: str) -> None: ...

    def series(self, symbol: str) -> Series:
        return Series(Paging.FROM_ID, Ids.CONSECUTIVE, 7, id_param="fromId")

    def timeframe_us(self, timeframe: str) -> int:
        return MINUTE_US

    async def trades(self, symbol: str, series: Series, request: Request) -> list[Trade]:
        assert request.from_id is not None
        received = now_us()
        page = [row for row in self.past if row.seq >= (request.from_id or 0)][:7]
        return [replace(row, received_at=received) for row in page]

    async def id_at(self, symbol: str, series: Series, time_us: int) -> int | None:
        return None

    async def candles(self, symbol: str, timeframe: str, since_us: int) -> list[Candle]:
        minutes = sorted({row.time // MINUTE_US * MINUTE_US for row in self.past if row.time >= since_us})
        return [candle_of([row for row in self.past if row.time // MINUTE_US * MINUTE_US == at], at) for at in minutes]

    async def funding(self, symbol: str, since_us: int) -> list[Funding]:
        raise AssertionError

    async def open_interest(self, symbol: str, since_us: int) -> list[OpenInterest]:
        raise AssertionError


def candle_of(trades: Sequence[Trade], opens_us: int) -> Candle:
    prices = [Decimal(row.price) for row in trades]
    volume = sum(Decimal(row.quantity) for row in trades)
    opened, high, low, close = map(str, (prices[0], max(prices), min(prices), prices[-1]))
    return Candle("binance", "BTC/USDT", opens_us, opens_us, "1m", opened, high, low, close, str(volume))


class Sink:
    """Takes what is handed over to the database, on a connection of its own, a little later."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._taken: list[MarketRecord] = []
        self._some = asyncio.Event()

    def put_backfilled(self, record: MarketRecord) -> None:
        self._taken.append(record)
        self._some.set()

    async def writable(self) -> None: ...

    async def run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            taken, self._taken = self._taken, []
            await store(self._db, taken)


async def store(db: Database, records: Sequence[MarketRecord]) -> None:
    await write(db, prepare([], list(records), Names()))
    await rollups.refresh(db, await engine.detect(db))


def recent_trades() -> list[Trade]:
    """Ten a minute. They end a minute later than the audit looks, in case the minute turns meanwhile."""
    last = (now_us() // MINUTE_US - 1) * MINUTE_US
    trades = []
    for number in range(150):
        at = last - 14 * MINUTE_US + number * (MINUTE_US // 10)
        price = f"{100 + number * 7 % 31}.5"
        trades.append(trade(number + 1, time=at, received_at=at + 5000, price=price, quantity="0.25"))
    return trades


async def gap_rows(db: Database) -> list[tuple[datetime, str, str]]:
    rows = await db.fetch("SELECT started_at, cause, status FROM feed_gaps ORDER BY started_at")
    return [(row["started_at"], row["cause"], row["status"]) for row in rows]


async def test_a_lost_trade_is_found_and_put_back(database: DatabaseForTest, db: Database) -> None:
    happened = recent_trades()
    lost = happened[104]  # in the middle of a minute, and its highest price or not: its volume is missing
    minute_us = lost.time // MINUTE_US * MINUTE_US
    await store(db, [row for row in happened if row is not lost])
    metrics = Metrics()
    auditor = Auditor(BackfillConfig(), metrics, lambda _exchange, _symbol: True)
    venue = Venue(happened)
    await auditor.turn(db, venue)
    assert metrics.totals(metrics.candle_audits, by="outcome") == {"agree": 9, "differ": 1}
    (row,) = await db.fetch("SELECT * FROM candle_audit")
    assert row["bucket_start"] == to_datetime(minute_us)
    assert (row["volume"], row["venue_volume"]) == (Decimal("2.25"), Decimal("2.5"))
    assert await gap_rows(db) == [(to_datetime(minute_us), "candle_audit", "closed")]

    # A minute that is known to lack something is not judged again.
    await auditor.turn(db, venue)
    assert metrics.totals(metrics.candle_audits, by="outcome") == {"agree": 18, "differ": 1}

    (gap,) = await gap_filling.due_gaps(db, ["binance"], ["trades"], but=[], limit=9)
    other = await database.connect()
    sink = Sink(other)
    storing = asyncio.create_task(sink.run())
    try:
        filled = await Filler(db, sink, lambda _: True).fill(gap, venue, "1m")
    finally:
        storing.cancel()
        await asyncio.wait({storing})
        await other.close()
    assert filled.rows == 1
    assert filled.verdict.startswith("complete")
    await gap_filling.settle(db, gap, "filled", filled.rows, filled.verdict)
    await auditor.turn(db, venue)
    assert metrics.totals(metrics.candle_audits, by="outcome") == {"agree": 28, "differ": 1}
    assert await db.fetchval("SELECT count(*) FROM trades") == len(happened)
    assert await gap_rows(db) == [(to_datetime(minute_us), "candle_audit", "filled")]


async def test_what_the_venue_will_never_explain_is_reported_once(db: Database) -> None:
    """Its candle and its trades contradict each other: the row stays, the gap is not opened again and again."""
    happened = recent_trades()
    await store(db, happened)
    metrics = Metrics()
    auditor = Auditor(BackfillConfig(audit_minutes=6), metrics, lambda _exchange, _symbol: True)
    venue = Venue([*happened[:100], trade(10**6, time=happened[100].time, price="1000", quantity="9"), *happened[100:]])
    await auditor.turn(db, venue)
    await db.execute("UPDATE feed_gaps SET status = 'filled'")
    await auditor.turn(db, venue)
    (row,) = await db.fetch("SELECT fields, high, venue_high FROM candle_audit")
    assert (row["fields"], row["venue_high"]) == ("open, high, volume", Decimal(1000))
    assert [status for _, _, status in await gap_rows(db)] == ["filled"]


async def test_capture_that_began_in_the_middle_of_a_minute_is_not_blamed(db: Database) -> None:
    happened = recent_trades()
    await store(db, happened[105:])
    metrics = Metrics()
    await Auditor(BackfillConfig(), metrics, lambda _exchange, _symbol: True).turn(db, Venue(happened))
    outcomes = metrics.totals(metrics.candle_audits, by="outcome")
    assert outcomes["agree"] in (3, 4)  # the minutes after the first, or one more when the minute turned
    assert outcomes["differ"] == 0


@pytest.mark.parametrize(
    ("ours", "volume", "fields"),
    [
        (("1", "3", "1", "2", "5"), "5.000", ""),
        (("1", "3", "1", "2", "5.1"), "5", "volume"),
        (("2", "3", "1", "1", "5"), "5", "open, close"),
        (None, "5", "missing"),
        (None, "0.0", ""),
    ],
)
def test_candles_are_compared_as_numbers(ours: tuple[str, ...] | None, volume: str, fields: str) -> None:
    theirs = Candle("binance", "BTC/USDT", 0, 0, "1m", "1.0", "3", "1", "2", volume)
    minutes = {} if ours is None else {0: Minute(*map(Decimal, ours))}
    agreeing, wrong = compare(minutes, [theirs])
    assert [item.fields for item in wrong] == ([fields] if fields else [])
    assert agreeing == (not fields)
