"""The pages of a venue's past: from where each is asked for, what of it is taken, and where the asking ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ingestd.backfill.past import Ask, Coverage, Row, coverage, pages, step_us
from ingestd.feeds.past.id_runs import Window
from ingestd.feeds.past.trade_search import Request
from ingestd.records import Candle, Funding, OpenInterest, Trade
from ingestd.venues.trades import Series

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
STEPS_US = {"candles": MINUTE_US, "funding": 8 * 3_600_000_000, "open_interest": 300_000_000}


def row_at(channel: str, at: int) -> Row:
    if channel == "candles":
        return Candle("x", "A/B", at, at, "1m", "1", "2", "0.5", "1.5", "10")
    if channel == "funding":
        return Funding("x", "A/B", at, at, "0.0001")
    return OpenInterest("x", "A/B", at, at, "12.5")


class Past:
    """A row each step up to `until_us`; at most `per_page` in an answer. Some venues begin with the row before."""

    def __init__(self, per_page: int, until_us: int, *, from_before: bool = False) -> None:
        self.per_page = per_page
        self.until_us = until_us
        self.from_before = from_before
        self.asked: list[int] = []

    def rows(self, channel: str, since_us: int) -> list[Row]:
        self.asked.append(since_us)
        step = STEPS_US[channel]
        first = -(-since_us // step) - self.from_before
        return [row_at(channel, at) for at in range(first * step, self.until_us, step)[: self.per_page]]

    def require(self, channel: str, symbol: str) -> None:
        raise AssertionError

    def series(self, symbol: str) -> Series:
        raise AssertionError

    def timeframe_us(self, timeframe: str) -> int:
        return {"1m": MINUTE_US, "1M": 30 * DAY_US}[timeframe]

    async def trades(self, symbol: str, series: Series, request: Request) -> list[Trade]:
        raise AssertionError

    async def candles(self, symbol: str, timeframe: str, since_us: int) -> list[Candle]:
        return self.rows("candles", since_us)  # type: ignore[return-value]

    async def funding(self, symbol: str, since_us: int) -> list[Funding]:
        return self.rows("funding", since_us)  # type: ignore[return-value]

    async def open_interest(self, symbol: str, since_us: int) -> list[OpenInterest]:
        return self.rows("open_interest", since_us)  # type: ignore[return-value]


async def read(past: Past, channel: str, start_us: int, end_us: int) -> list[int]:
    return [row.time async for page in pages(past, channel, "A/B", "1m", start_us, end_us) for row in page]


@pytest.mark.parametrize("per_page", [1, 3, 1000])
@pytest.mark.parametrize("channel", ["candles", "open_interest"])
async def test_every_row_of_the_window_once_and_none_beside_it(channel: str, per_page: int) -> None:
    step = STEPS_US[channel]
    past = Past(per_page, until_us=DAY_US)
    assert await read(past, channel, 10 * step, 20 * step) == [at * step for at in range(10, 20)]
    assert past.asked[0] == 10 * step
    assert past.asked == sorted(set(past.asked)), "no page is asked for twice"


async def test_of_funding_there_is_a_day_from_before_to_tell_its_rhythm() -> None:
    step = STEPS_US["funding"]
    times = await read(Past(5, until_us=10 * DAY_US), "funding", 2 * DAY_US, 3 * DAY_US)
    assert times == list(range(DAY_US, 3 * DAY_US, step))


async def test_it_ends_where_the_venue_has_no_more() -> None:
    past = Past(4, until_us=13 * MINUTE_US)
    assert await read(past, "candles", 10 * MINUTE_US, 100 * MINUTE_US) == [at * MINUTE_US for at in (10, 11, 12)]
    assert len(past.asked) == 2


async def test_a_venue_that_goes_back_and_never_forward_is_not_asked_for_ever() -> None:
    past = Past(1, until_us=DAY_US, from_before=True)
    assert await read(past, "candles", 10 * MINUTE_US, 20 * MINUTE_US) == []
    assert len(past.asked) == 1


async def test_who_asks_may_ask_again() -> None:
    past, tries = Past(5, until_us=DAY_US), 0

    async def twice(ask: Ask) -> Sequence[Row]:
        nonlocal tries
        tries += 1
        await ask()
        return await ask()

    found = [row async for page in pages(past, "candles", "A/B", "1m", 0, 10 * MINUTE_US, twice) for row in page]
    assert [row.time for row in found] == [at * MINUTE_US for at in range(10)]
    assert len(past.asked) == 2 * tries


def test_how_far_apart_rows_are() -> None:
    past = Past(1, 0)
    assert [step_us(channel, "1m", past) for channel in ("candles", "open_interest", "funding")] == [
        MINUTE_US,
        300_000_000,
        3_600_000_000,
    ]


def test_months_are_not_all_as_long() -> None:
    """A month of 31 days lacks no candle; two months without one lack it."""
    month = coverage("candles", "1M", Past(1, 0), 0, 100 * DAY_US)
    month.see([0, 31 * DAY_US, 59 * DAY_US, 90 * DAY_US])
    assert month.missing() == []
    month = coverage("candles", "1M", Past(1, 0), 0, 100 * DAY_US)
    month.see([0, 59 * DAY_US, 90 * DAY_US])
    assert len(month.missing()) == 1


def test_it_is_proved_up_to_the_first_row_that_lacks() -> None:
    seen = Coverage(0, 100, 10)
    assert seen.proved_until_us() == 0
    seen.see([0, 10, 20])
    assert seen.proved_until_us() == 20
    seen.see([50, 60])
    assert seen.proved_until_us() == 30
    assert seen.missing() == [Window(30, 50), Window(70, 100)]


def test_however_many_stretches_lack_rows_a_bounded_number_is_kept_and_none_is_left_out() -> None:
    """Every second row is there."""
    seen = Coverage(0, 100_000, 10)
    seen.see(list(range(0, 100_000, 20)))
    stretches = seen.missing()
    assert len(stretches) <= 1001
    lacking = set(range(10, 100_000, 20))
    assert {at for at in lacking for one in stretches if one.start_us <= at < one.end_us} == lacking


async def test_pages_are_asked_for_as_they_are_wanted() -> None:
    past = Past(2, until_us=DAY_US)
    async for _ in pages(past, "candles", "A/B", "1m", 0, 10 * MINUTE_US):
        await asyncio.sleep(0)
        break
    assert len(past.asked) == 1
