"""Which feed a stream belongs to, when its list of markets is read again, and how long a venue is left alone."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ingestd.backfill.venues import Venue, Venues
from ingestd.config.models import FeedConfig
from ingestd.errors import FeedError, RateLimited
from ingestd.storage import gap_filling
from ingestd.storage.database import Database

NOBODY = cast(Database, None)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr("ingestd.backfill.venues.monotonic_s", lambda: self.now_s)
        monkeypatch.setattr("ingestd.backfill.venues.now_us", lambda: int(self.now_s * 1e6))


class Past:
    """In the place of a venue's past: what it lists, and how often it was asked."""

    listed: tuple[str, ...] = ("BTC/USDT",)
    fails = False
    made: list[Past]

    def __init__(self, feed: FeedConfig, *, rate_share: float) -> None:
        self.feed = feed
        self.rate_share = rate_share
        self.wanted = list(feed.symbols)
        self.opened = 0
        self.closed = False
        Past.made.append(self)

    async def open(self) -> None:
        if Past.fails:
            raise FeedError("no list")
        self.opened += 1

    async def close(self) -> None:
        self.closed = True

    def symbols(self) -> list[str]:
        return [symbol for symbol in Past.listed if symbol in self.wanted]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr("ingestd.backfill.venues.CcxtHistory", Past)
    monkeypatch.setattr(Past, "made", [], raising=False)
    monkeypatch.setattr(Past, "fails", False)
    monkeypatch.setattr(Past, "listed", ("BTC/USDT",))
    return Clock(monkeypatch)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The pauses that the database keeps, by exchange."""
    kept: dict[str, int] = {}

    async def paused_until_us(_db: Database, exchange: str) -> int:
        return kept.get(exchange, 0)

    async def pause_venue(_db: Database, exchange: str, until_us: int, _why: str) -> None:
        kept[exchange] = until_us

    monkeypatch.setattr(gap_filling, "paused_until_us", paused_until_us)
    monkeypatch.setattr(gap_filling, "pause_venue", pause_venue)
    return kept


def feed(exchange: str = "binance", *symbols: str, **more: Any) -> FeedConfig:
    return FeedConfig.model_validate({"exchange": exchange, "symbols": list(symbols or ("BTC/USDT",)), **more})


async def test_a_venue_that_fails_is_left_alone_and_longer_each_time(clock: Clock, pauses: dict[str, int]) -> None:
    venue = Venue(feed(), 0.2)
    assert not await venue.is_paused(NOBODY)
    waits = []
    for _ in range(12):
        venue.failed()
        began_s = clock.now_s
        while await venue.is_paused(NOBODY):
            clock.now_s += 0.1
        waits.append(clock.now_s - began_s)
    assert 0 < waits[0] <= 1.1
    assert max(waits) <= 60.1
    assert sum(waits[-4:]) > sum(waits[:4])
    venue.answered()
    venue.failed()
    clock.now_s += 1.1
    assert not await venue.is_paused(NOBODY)


@pytest.mark.parametrize(("asked_s", "at_least_s"), [(120.0, 120.0), (0.0, 60.0)])
async def test_a_venue_that_asks_for_a_pause_gets_it_from_every_process(
    clock: Clock, pauses: dict[str, int], asked_s: float, at_least_s: float
) -> None:
    venue = Venue(feed(), 0.2)
    for _ in range(3):
        await venue.refused(NOBODY, RateLimited("enough", asked_s))
        assert pauses["binance"] >= int((clock.now_s + at_least_s) * 1e6)
    assert await Venue(feed(), 0.2).is_paused(NOBODY)
    assert not await Venue(feed("kraken"), 0.2).is_paused(NOBODY)


async def test_one_past_is_opened_and_its_list_read_again_after_an_hour(clock: Clock) -> None:
    venue = Venue(feed(), 0.2)
    await venue.history()
    clock.now_s += 3600.0
    await venue.history()
    assert [(past.opened, past.rate_share) for past in Past.made] == [(1, 0.2)]
    clock.now_s += 1.0
    await venue.history()
    assert [past.opened for past in Past.made] == [2]
    await venue.close()
    await venue.close()
    await venue.history()
    assert [past.closed for past in Past.made] == [True, False]


async def test_for_a_symbol_that_is_lacking_the_list_is_read_again_after_a_minute(clock: Clock) -> None:
    venue = Venue(feed(), 0.2)
    await venue.history()
    clock.now_s += 59.0
    await venue.history(lacks="ETH/USDT")
    assert [past.opened for past in Past.made] == [1]
    clock.now_s += 2.0
    await venue.history(lacks="ETH/USDT")
    assert [past.opened for past in Past.made] == [2]


async def test_a_past_that_cannot_be_opened_is_closed_and_tried_anew(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Past, "fails", True)
    venue = Venue(feed(), 0.2)
    for _ in range(2):
        with pytest.raises(FeedError, match="no list"):
            await venue.history()
    assert [past.closed for past in Past.made] == [True, True]


async def test_it_asks_under_the_names_of_the_last_reload(clock: Clock) -> None:
    venue = Venue(feed(), 0.2)
    await venue.history()
    venue.symbols = ["ETH/USDT"]
    assert (await venue.history()).wanted == ["ETH/USDT"]


async def test_the_feeds_that_follow_a_stream(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = [
        feed(channels=["candles"], candle_timeframe="1m"),
        feed(channels=["candles", "trades"], candle_timeframe="5m"),
        feed("kraken", channels=["trades"]),
        feed(channels=["ticks"]),  # without a past
    ]
    held = {("binance", "BTC/USDT"), ("binance", "ETH/USDT")}
    venues = Venues(feeds, 0.2, lambda exchange, symbol: (exchange, symbol) in held)

    async def following(exchange: str, channel: str, symbol: str = "BTC/USDT") -> list[FeedConfig]:
        return [venue.feed for venue in await venues.following(exchange, channel, symbol)]

    assert [venue.feed for venue in venues.all] == feeds[:3]
    assert await following("binance", "candles") == feeds[:2]
    assert await following("binance", "trades") == feeds[1:2]
    assert await following("kraken", "trades") == [], "another process holds it"
    assert await following("binance", "candles", "ETH/USDT") == [], "no feed names it"
    venues.all[0].symbols = ["ETH/USDT"]
    monkeypatch.setattr(Past, "listed", ("BTC/USDT", "ETH/USDT"))
    assert await following("binance", "candles", "ETH/USDT") == feeds[:1]
    await venues.close()
    assert all(past.closed for past in Past.made)
