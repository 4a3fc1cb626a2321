"""Gaps of candles, funding and open interest: what the venue has of the gap, and nothing beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace as replace_series
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from ingestd.backfill.fill import Filler
from ingestd.backfill.task import Backfill
from ingestd.clock import from_datetime, now_us
from ingestd.config.models import Config
from ingestd.errors import Unfillable
from ingestd.feeds.past.trade_search import Request
from ingestd.ops.metrics import Metrics
from ingestd.records import Candle, Funding, MarketRecord, OpenInterest, Trade
from ingestd.storage import gap_filling
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.retention import accepted_window
from ingestd.validation import rejection_reason
from ingestd.venues.trades import Ids, Series
from tests.integration.test_candle_audit import Sink, Venue, store
from tests.support.postgres import DatabaseForTest
from tests.support.records import trade
from tests.support.rest_venue import rest_venue

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
NOON_US = from_datetime(NOON)
STEP_US = {"candles": 60_000_000, "funding": 3_600_000_000, "open_interest": 300_000_000}
TABLES = {"candles": "ohlcv_data", "funding": "funding", "open_interest": "oi_snapshots"}


class Past:
    """A row each step, for ever; at most `per_page` of them in an answer."""

    def __init__(self, per_page: int) -> None:
        self._per_page = per_page
        self.asked = 0

    def require(self, channel: str, symbol: str) -> None:
        if symbol != "BTC/USDT:USDT":
            raise Unfillable(f"binance does not list {symbol}")

    def timeframe_us(self, timeframe: str) -> int:
        assert timeframe == "1m"
        return STEP_US["candles"]

    def series(self, symbol: str) -> Series:
        raise AssertionError

    async def trades(self, symbol: str, series: Series, request: Request) -> list[Trade]:
        raise AssertionError

    async def id_at(self, symbol: str, series: Series, time_us: int) -> int | None:
        raise AssertionError

    async def candles(self, symbol: str, timeframe: str, since_us: int) -> list[Candle]:
        return [row for at in self._times("candles", since_us) if isinstance(row := row_at("candles", at), Candle)]

    async def funding(self, symbol: str, since_us: int) -> list[Funding]:
        return [row for at in self._times("funding", since_us) if isinstance(row := row_at("funding", at), Funding)]

    async def open_interest(self, symbol: str, since_us: int) -> list[OpenInterest]:
        rows = [row_at("open_interest", at) for at in self._times("open_interest", since_us)]
        return [row for row in rows if isinstance(row, OpenInterest)]

    def _times(self, channel: str, since_us: int) -> Sequence[int]:
        self.asked += 1
        step = STEP_US[channel]
        first = -(-since_us // step) * step
        return range(first, first + self._per_page * step, step)


def row_at(channel: str, at: int) -> Candle | Funding | OpenInterest:
    if channel == "candles":
        return Candle("binance", "BTC/USDT:USDT", at, at, "1m", "1", "2", "0.5", "1.5", "10")
    if channel == "funding":
        return Funding("binance", "BTC/USDT:USDT", at, at, "0.0001")
    return OpenInterest("binance", "BTC/USDT:USDT", at, at, "12.5")


@pytest.mark.parametrize("channel", sorted(STEP_US))
async def test_the_rows_of_a_gap_are_put_back(postgres_database: DatabaseForTest, channel: str) -> None:
    """Ten steps are missing; of the last before and the first after, and of one inside, the rows are there."""
    step = STEP_US[channel]
    db, other = await postgres_database.connect(), await postgres_database.connect()
    storing = asyncio.create_task((sink := Sink(other)).run())
    try:
        await store(db, [row_at(channel, NOON_US + index * step) for index in (-1, 0, 4, 11)])
        await db.execute(
            "INSERT INTO feed_gaps (exchange, symbol, channel, started_at, ended_at, cause, status) "
            "VALUES ('binance', 'BTC/USDT:USDT', $1, $2, $3, 'disconnect', 'closed')",
            channel,
            NOON + timedelta(microseconds=step // 2),
            NOON + timedelta(microseconds=11 * step),
        )
        (gap,) = await gap_filling.due_gaps(db, ["binance"], [channel], but=[], limit=9)
        past = Past(per_page=4)
        filled = await Filler(db, sink, lambda _: True).fill(gap, past, "1m")
        stored = await times(db, channel)
    finally:
        storing.cancel()
        await asyncio.wait({storing})
        await db.close()
        await other.close()
    assert stored == [NOON + timedelta(microseconds=index * step) for index in range(-1, 12)]
    assert filled.rows == 9
    assert past.asked > 1
    assert filled.verdict.startswith("complete: every ")
    assert not filled.missing


async def times(db: Database, channel: str) -> list[datetime]:
    return [row["time"] for row in await db.fetch(f"SELECT time FROM {TABLES[channel]} ORDER BY time")]


async def test_a_market_that_is_gone_is_said(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    gap = gap_filling.Gap(1, "binance", "GONE/USDT", "candles", NOON, NOON + timedelta(hours=1), "disconnect", None)
    with pytest.raises(Unfillable, match="does not list GONE/USDT"):
        await Filler(db, Sink(db), lambda _: True).fill(gap, Past(4), "1m")
    await db.close()


class ShortPast(Past):
    """Ends, or begins, within the gap: it has the rows of these steps after noon only."""

    def __init__(self, steps: range) -> None:
        super().__init__(per_page=100)
        self._steps = steps

    def _times(self, channel: str, since_us: int) -> Sequence[int]:
        times = [NOON_US + index * STEP_US[channel] for index in self._steps]
        return [at for at in times if at >= since_us]


@pytest.mark.parametrize("channel", sorted(STEP_US))
@pytest.mark.parametrize("steps", [range(-30, 6), range(5, 12), range(0)], ids=["ends early", "begins late", "empty"])
async def test_a_gap_of_which_the_venue_lacks_rows_is_not_filled(
    postgres_database: DatabaseForTest, channel: str, steps: range
) -> None:
    step = STEP_US[channel]
    db, other = await postgres_database.connect(), await postgres_database.connect()
    storing = asyncio.create_task((sink := Sink(other)).run())
    ended = NOON + timedelta(microseconds=11 * step)
    gap = gap_filling.Gap(1, "binance", "BTC/USDT:USDT", channel, NOON, ended, "disconnect", None)
    try:
        filled = await Filler(db, sink, lambda _: True).fill(gap, ShortPast(steps), "1m")
        stored = await times(db, channel)
    finally:
        storing.cancel()
        await asyncio.wait({storing})
        await db.close()
        await other.close()
    inside = [index for index in steps if 0 <= index < 11]
    assert stored == [NOON + timedelta(microseconds=index * step) for index in inside]
    assert filled.rows == len(inside)
    assert filled.missing
    assert filled.verdict.startswith("not proved complete: the venue has no ")


async def test_a_gap_of_trades_that_the_venue_leaves_out_is_not_filled(postgres_database: DatabaseForTest) -> None:
    """Ids 6 to 15 were missed, and two of them are in no answer: the others are put back and counted."""
    everything = [
        trade(number, time=NOON_US + number * 1000, received_at=NOON_US + number * 1000) for number in range(25)
    ]
    db, other = await postgres_database.connect(), await postgres_database.connect()
    storing = asyncio.create_task((sink := Sink(other)).run())
    await store(db, [*everything[:6], *everything[16:]])
    began, ended = (NOON + timedelta(milliseconds=number) for number in (5, 16))
    gap = gap_filling.Gap(1, "binance", "BTC/USDT", "trades", began, ended, "disconnect", None)
    try:
        past = Venue([row for row in everything if row.seq not in (9, 10)])
        filled = await Filler(db, sink, lambda _: True).fill(gap, past, "1m")
        stored = [row["seq"] for row in await db.fetch("SELECT seq FROM trades ORDER BY seq")]
    finally:
        storing.cancel()
        await asyncio.wait({storing})
        await db.close()
        await other.close()
    assert stored == [number for number in range(25) if number not in (9, 10)]
    assert filled.rows == 8
    assert "2 of the ids" in filled.verdict
    (stretch,) = filled.missing
    assert stretch.start_us <= NOON_US + 9000
    assert stretch.end_us >= NOON_US + 10_000
    assert not filled.may_come


@pytest.mark.parametrize("ids", [Ids.CONSECUTIVE, Ids.OPAQUE])
async def test_a_gap_of_which_a_trade_is_put_aside_is_not_filled(postgres_database: DatabaseForTest, ids: Ids) -> None:
    """The venue gives all ten that were missed, and one of them is a trade at price 0: it is in no table."""
    everything = [
        trade(number, time=NOON_US + number * 1000, received_at=NOON_US + number * 1000) for number in range(25)
    ]
    everything[9] = replace(everything[9], price="0")
    db, other = await postgres_database.connect(), await postgres_database.connect()
    await store(db, [*everything[:6], *everything[16:]])
    await db.execute(
        "INSERT INTO feed_gaps (exchange, symbol, channel, started_at, ended_at, cause, status) "
        "VALUES ('binance', 'BTC/USDT', 'trades', $1, $2, 'disconnect', 'closed')",
        NOON + timedelta(milliseconds=5),
        NOON + timedelta(milliseconds=16),
    )
    window = accepted_window(Config())(now_us())

    def is_valid(record: MarketRecord) -> bool:
        return rejection_reason(record, window) is None

    class Validating(Sink):
        def put_backfilled(self, record: MarketRecord) -> None:
            if is_valid(record):
                super().put_backfilled(record)

    class Past(Venue):
        def series(self, symbol: str) -> Series:
            return replace_series(super().series(symbol), ids=ids)

    storing = asyncio.create_task((sink := Validating(other)).run())
    (gap,) = await gap_filling.due_gaps(db, ["binance"], ["trades"], but=[], limit=9)
    try:
        for attempt in range(2):
            filled = await Filler(db, sink, is_valid).fill(gap, Past(everything), "1m")
            assert filled.rows == 9, attempt
            assert filled.verdict.startswith("not proved complete: 1 rows were put aside in rejected_records")
            assert [(one.start_us, one.end_us) for one in filled.missing] == [(NOON_US + 9000, NOON_US + 9001)]
        stored = [row["seq"] for row in await db.fetch("SELECT seq FROM trades ORDER BY seq")]
    finally:
        storing.cancel()
        await asyncio.wait({storing})
        await db.close()
        await other.close()
    assert stored == [number for number in range(25) if number != 9]


async def test_a_candle_that_is_put_aside_fills_no_gap(postgres_database: DatabaseForTest) -> None:
    db, other = await postgres_database.connect(), await postgres_database.connect()
    refused = NOON_US + 3 * STEP_US["candles"]

    class Validating(Sink):
        def put_backfilled(self, record: MarketRecord) -> None:
            if record.time != refused:
                super().put_backfilled(record)

    storing = asyncio.create_task((sink := Validating(other)).run())
    gap = gap_filling.Gap(
        1, "binance", "BTC/USDT:USDT", "candles", NOON, NOON + timedelta(minutes=9), "disconnect", None
    )
    try:
        filled = await Filler(db, sink, lambda record: record.time != refused).fill(gap, Past(4), "1m")
    finally:
        storing.cancel()
        await asyncio.wait({storing})
        await db.close()
        await other.close()
    assert [one.start_us for one in filled.missing] == [refused]
    assert filled.verdict.startswith("not proved complete:")


async def test_a_gap_of_candles_is_filled_in_each_timeframe_that_is_followed(
    postgres_database: DatabaseForTest,
) -> None:
    """A row of `feed_gaps` does not say of which timeframe: two feeds of one market may have it."""
    db, other = await postgres_database.connect(), await postgres_database.connect()
    storing = asyncio.create_task((sink := Sink(other)).run())
    minutes, hours = (
        [kline(NOON_US + index * step) for index in range(-1, 200)] for step in (60_000_000, 3_600_000_000)
    )
    await db.execute(
        "INSERT INTO feed_gaps (exchange, symbol, channel, started_at, ended_at, cause, status) "
        "VALUES ('binance', 'BTC/USDT', 'candles', $1, $2, 'disconnect', 'closed')",
        NOON,
        NOON + timedelta(hours=3),
    )
    async with rest_venue("binance", candles=minutes, hours=hours) as venue:
        feed = {"exchange": "binance", "symbols": ["BTC/USDT"], "channels": ["candles"], "url_map": venue.url_map}
        config = Config.model_validate(
            {
                "database": {"dsn": postgres_database.dsn},
                "backfill": {"audit_interval_s": 0, "rate_share": 1.0},
                "feeds": [feed, {**feed, "candle_timeframe": "1h"}],
            }
        )
        work = Backfill(config, DatabaseAccess(config), sink, accepted_window(config), Metrics(), lambda *_: True)
        task = asyncio.create_task(work.run())
        try:
            async with asyncio.timeout(60):
                while (row := await db.fetchrow("SELECT * FROM feed_gaps WHERE status <> 'closed'")) is None:
                    await asyncio.sleep(0.02)
            counts = await db.fetch("SELECT timeframe, count(*) AS n FROM ohlcv_data GROUP BY timeframe")
        finally:
            for one in (task, storing):
                one.cancel()
            await asyncio.wait({task, storing})
            await db.close()
            await other.close()
    assert {row["timeframe"]: row["n"] for row in counts} == {"1m": 180, "1h": 3}
    assert (row["status"], row["recovered_rows"]) == ("filled", 183)
    assert "1m" in row["detail"]
    assert "1h" in row["detail"]


def kline(at: int) -> list[object]:
    return [at // 1000, "1", "2", "0.5", "1.5", "10", at // 1000 + 1, "1", 1, "1", "1", "0"]
