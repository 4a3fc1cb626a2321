"""A family of markets that cannot be had stops no other: Binance's futures answer 451 in some countries."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog

from ingestd.clock import now_us
from ingestd.errors import ConfigError
from ingestd.feeds.ccxt.feed import CcxtFeed
from ingestd.ops.health import FeedHealth, Snapshot, readiness
from ingestd.records import Trade
from tests.contract.test_malformed_markets import SECOND as SPOILED
from tests.support.feeds import DECODERS, make_feed
from tests.support.list_venue import SPOT_ONLY, ListVenue, binance_linear, binance_spot, binance_trades, until
from tests.support.time_limits import cases
from tests.unit.feeds.doubles import ListIntake

SPOT, LINEAR = "BTC/USDT", "BTC/USDT:USDT"
SPOT_PATH, LINEAR_PATH, INVERSE_PATH = "api.binance.com/api/v3", "fapi.binance.com/fapi", "dapi.binance.com/dapi"
SPOT_LIST = {"symbols": [binance_spot("BTCUSDT", "BTC"), binance_spot("ETHUSDT", "ETH")]}
LINEAR_LIST = {"symbols": [binance_linear("BTCUSDT", "BTC")]}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.feeds.ccxt.session.RELIST_SOON_S", 0.05)
    monkeypatch.setattr("ingestd.feeds.ccxt.feed.NOTHING_LISTED_S", 0.01)
    monkeypatch.setattr("ingestd.retry.Backoff.next_s", lambda *_: 0.01)


class Running:
    def __init__(self, venue: ListVenue, symbols: list[str], decoder: str = "ccxt", **more: Any) -> None:
        self.intake = ListIntake()
        self.feed = make_feed(venue.config("binance", symbols), decoder, **more)
        self.task = asyncio.create_task(self.feed.run(self.intake))

    async def until(self, condition: Any) -> None:
        await until(condition, of=self.task)

    async def close(self) -> None:
        await self.feed.close()
        await self.task

    def symbols(self) -> set[str]:
        return {trade.symbol for trade in self.intake.of(Trade)}

    def aside(self) -> dict[str, str]:
        return {s.symbol: s.quarantined for s in self.feed.status().streams if s.quarantined is not None}


@pytest.mark.parametrize(
    ("decoder", "symbols", "failure"),
    [
        ("ccxt", [SPOT], {"status": 451}),
        ("native", ["*/USDT"], {"status": 451}),
        ("native", [SPOT], {"status": 403}),
        ("ccxt", ["*/USDT"], {"status": 503}),
        ("ccxt", [SPOT], {"cut": True}),
    ],
)
async def test_spot_is_captured_where_futures_are_out_of_reach(
    decoder: str, symbols: list[str], failure: dict[str, Any]
) -> None:
    async with ListVenue({SPOT_PATH: SPOT_LIST}, **failure) as venue:
        venue.answer = binance_trades
        running = Running(venue, symbols, decoder)
        await running.until(lambda: SPOT in running.symbols())
        status = running.feed.status()
        await running.close()
    assert running.aside() == {}
    assert status.problem is None
    assert status.market_lists_missing == 0


# The others are asked with spoiled markets in the list: `test_malformed_markets_stop_no_venue`.
ALONE = [exchange for exchange in SPOT_ONLY if exchange not in SPOILED]


@pytest.mark.parametrize("exchange", cases(ALONE, SPOILED))
async def test_no_venue_needs_a_list_of_other_markets(exchange: str) -> None:
    part, body = SPOT_ONLY[exchange]
    async with ListVenue({part: body}) as venue:
        feed = CcxtFeed(venue.config(exchange, [SPOT]))
        task = asyncio.create_task(feed.run(ListIntake()))
        await until(lambda: any(s.symbol == SPOT for s in feed.status().streams), of=task)
        status = feed.status()
        await feed.close()
        await task
    assert {market.symbol for market in feed.markets()} == {SPOT}
    assert (status.market_lists_missing, status.markets_put_aside) == (0, 0)


async def test_futures_are_captured_where_spot_is_out_of_reach() -> None:
    async with ListVenue({LINEAR_PATH: LINEAR_LIST}) as venue:
        venue.answer = binance_trades
        running = Running(venue, [LINEAR])
        await running.until(lambda: LINEAR in running.symbols())
        await running.close()


@pytest.mark.parametrize("decoder", DECODERS)
async def test_a_pattern_takes_what_there_is_names_what_is_missing_and_asks_again(decoder: str) -> None:
    async with ListVenue({SPOT_PATH: SPOT_LIST}) as venue:
        venue.answer = binance_trades
        running = Running(venue, ["*"], decoder)
        await running.until(lambda: running.symbols() == {SPOT, "ETH/USDT"})
        problem = running.feed.status().problem or ""
        assert "list of linear markets cannot be had" in problem
        assert "451" in problem
        assert running.feed.status().market_lists_missing == 2
        venue.bodies |= {LINEAR_PATH: LINEAR_LIST, INVERSE_PATH: {"symbols": []}}
        await running.until(lambda: LINEAR in running.symbols())
        await running.until(lambda: running.feed.status().market_lists_missing == 0)
        assert running.feed.status().problem is None
        await running.close()


async def test_a_name_of_a_missing_family_is_no_mistake_of_the_configuration() -> None:
    async with ListVenue({SPOT_PATH: SPOT_LIST}) as venue:
        venue.answer = binance_trades
        running = Running(venue, [LINEAR])
        await running.until(lambda: "list of linear markets cannot be had" in running.aside().get(LINEAR, ""))
        venue.bodies[LINEAR_PATH] = LINEAR_LIST
        await running.until(lambda: LINEAR in running.symbols())
        await running.close()


async def test_a_wrong_name_of_a_family_that_is_there_is_a_mistake() -> None:
    async with ListVenue({SPOT_PATH: SPOT_LIST}) as venue:
        running = Running(venue, ["BTC/USDX"])
        with pytest.raises(ConfigError, match="nearest: BTC/USDT"):
            await running.task


async def test_nothing_is_captured_while_no_family_can_be_had() -> None:
    async with ListVenue({}) as venue:
        venue.answer = binance_trades
        running = Running(venue, [SPOT])
        await running.until(lambda: "cannot be loaded" in (running.feed.status().problem or ""))
        venue.bodies[SPOT_PATH] = SPOT_LIST
        await running.until(lambda: SPOT in running.symbols())
        await running.close()


async def test_markets_kept_for_the_next_start_say_what_they_lack(tmp_path: Path) -> None:
    async with ListVenue({SPOT_PATH: SPOT_LIST}) as venue:
        venue.answer = binance_trades
        await they_are_captured(venue, tmp_path, SPOT, missing=2)
        await they_are_captured(venue, tmp_path, SPOT, missing=2)
        venue.bodies |= {LINEAR_PATH: LINEAR_LIST}
        await they_are_captured(venue, tmp_path, LINEAR, missing=1)


async def they_are_captured(venue: ListVenue, state_dir: Path, symbol: str, missing: int) -> None:
    running = Running(venue, ["*"], "native", state_dir=state_dir)
    await running.until(lambda: symbol in running.symbols())
    assert running.feed.status().market_lists_missing == missing
    await running.close()


async def test_an_answer_that_is_no_list_is_a_missing_one() -> None:
    """A page that says so in HTML, with status 200."""
    async with ListVenue({SPOT_PATH: SPOT_LIST, LINEAR_PATH: "<html>not in your country</html>"}) as venue:
        venue.answer = binance_trades
        running = Running(venue, [SPOT, LINEAR])
        await running.until(lambda: SPOT in running.symbols())
        assert "list of linear markets" in running.aside()[LINEAR]
        await running.close()


@pytest.mark.parametrize("decoder", ["native", "ccxt"])
async def test_a_channel_that_no_symbol_of_the_feed_has_is_said_once_at_the_start(decoder: str) -> None:
    part, body = SPOT_ONLY["binance"]
    channels = ["funding", "open_interest", "trades"]
    async with ListVenue({part: body, "fapi": {"symbols": []}, "dapi": {"symbols": []}}) as venue:
        venue.answer = binance_trades
        intake = ListIntake()
        feed = make_feed(venue.config("binance", ["BTC/*"], channels=channels), decoder)
        with structlog.testing.capture_logs() as logged:
            task = asyncio.create_task(feed.run(intake))
            await until(lambda: intake.of(Trade), of=task)
        status = feed.status()
        await feed.close()
        await task
    said = [(entry["log_level"], entry["channel"]) for entry in logged if entry["event"] == "channel_of_no_symbol"]
    assert said == [("warning", "funding"), ("warning", "open_interest")]
    (degraded,) = readiness(
        Snapshot(now_us=now_us(), started=True, feeds=(FeedHealth(status, stale_after_s=30, poll_interval_s=60),))
    ).degraded
    assert "none of its symbols has funding or open_interest" in degraded
