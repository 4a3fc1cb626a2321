"""What a venue's list of markets can do to the streams that are followed: nothing in silence.

The venue is Binance USDⓈ-M, whose `exchangeInfo` may lack a market for once that goes on trading.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ingestd.records import FeedGap, OpenInterest, StreamId, Trade
from ingestd.status import Earlier
from tests.contract.test_feeds_socket import Running, Venue, quick_delays, venue

__all__ = ["quick_delays", "venue"]

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
NAMES = pytest.mark.parametrize("names", [[BTC, ETH], ["*/USDT:USDT"]], ids=["literal", "glob"])


@pytest.fixture(autouse=True)
def lists_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.feeds.ccxt.session.RELIST_S", 0.05)


async def listed_again(venue: Venue, running: Running, times: int = 3) -> None:
    asked = venue.market_requests
    await running.until(lambda: venue.market_requests >= asked + times)


async def started(venue: Venue, names: list[str]) -> Running:
    """Both markets have delivered a trade."""
    running = Running(venue, symbols=names)
    await running.until(lambda: sum(map(len, venue.subscribed)) == 2)
    await venue.trade(1, "BTCUSDT")
    await venue.trade(1, "ETHUSDT")
    await running.until(lambda: len(running.intake.of(Trade)) == 2)
    return running


def symbols_on_disk(state_dir: Path) -> set[str]:
    return {
        market["symbol"]
        for path in state_dir.glob("markets/*.json")
        for market in json.loads(path.read_bytes())["markets"]
    }


def ids_of(running: Running, symbol: str) -> list[str]:
    return [trade.trade_id for trade in running.intake.of(Trade) if trade.symbol == symbol]


@NAMES
@pytest.mark.parametrize("poor", ["lacks one", "is empty", "fails"])
async def test_a_poor_list_interrupts_no_stream(venue: Venue, names: list[str], poor: str) -> None:
    running = await started(venue, names)

    markets = dict(venue.markets)
    if poor == "lacks one":
        del venue.markets["BTCUSDT"]
    elif poor == "is empty":
        venue.markets.clear()
    else:
        venue.market_status = 500
    await listed_again(venue, running)
    await venue.trade(2, "BTCUSDT")
    await running.until(lambda: ids_of(running, BTC) == ["1", "2"])
    venue.markets, venue.market_status = markets, 200
    await listed_again(venue, running)
    await venue.trade(3, "BTCUSDT")
    await running.until(lambda: ids_of(running, BTC) == ["1", "2", "3"])

    assert running.intake.of(FeedGap) == []
    assert venue.subscribed in ([["btcusdt@trade", "ethusdt@trade"]], [["btcusdt@trade"], ["ethusdt@trade"]])
    assert {market.symbol for market in running.feed.markets()} == {BTC, ETH}
    await running.close()


@NAMES
async def test_a_socket_that_is_lost_meanwhile_is_dialled_for_what_the_list_lacks(
    venue: Venue, names: list[str]
) -> None:
    running = await started(venue, names)

    del venue.markets["BTCUSDT"]
    await listed_again(venue, running)
    await venue.sockets[-1].close()
    await running.until(lambda: sum(map(len, venue.subscribed)) == 4)
    await venue.trade(2, "BTCUSDT")
    await running.until(lambda: ids_of(running, BTC) == ["1", "2"])

    gaps = [gap for gap in running.intake.of(FeedGap) if gap.symbol == BTC]
    assert [(gap.cause, gap.ended_at is None) for gap in gaps] == [("disconnect", True), ("disconnect", False)]
    await running.close()


@NAMES
async def test_a_market_that_is_called_closed_has_a_gap_until_it_delivers(venue: Venue, names: list[str]) -> None:
    running = await started(venue, names)

    venue.statuses["BTCUSDT"] = "SETTLING"
    await running.until(lambda: running.intake.of(FeedGap))
    await listed_again(venue, running)
    (opened,) = running.intake.of(FeedGap)
    assert (opened.symbol, opened.channel, opened.cause, opened.ended_at) == (BTC, "trades", "unlisted", None)
    assert any(stream.symbol == BTC and stream.quarantined for stream in running.feed.status().streams)
    await venue.trade(2, "BTCUSDT")
    await running.until(lambda: ids_of(running, BTC) == ["1", "2"])

    ended = running.intake.of(FeedGap)[-1]
    assert (ended.time, ended.ended_at is None) == (opened.time, False)
    assert not any(stream.quarantined for stream in running.feed.status().streams)
    await listed_again(venue, running)
    assert len(running.intake.of(FeedGap)) == 2  # the same answer again says nothing new
    await running.close()


@NAMES
async def test_what_the_list_lacks_and_is_silent_has_a_gap_and_is_asked_for_when_it_is_back(
    venue: Venue, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await started(venue, names)
    last = running.intake.of(Trade)[0]
    monkeypatch.setattr("ingestd.feeds.markets.listing.SILENT_US", 0)

    base = venue.markets.pop("BTCUSDT")
    await running.until(lambda: running.intake.of(FeedGap))
    (opened,) = running.intake.of(FeedGap)
    assert (opened.symbol, opened.cause, opened.ended_at) == (BTC, "unlisted", None)
    assert opened.time <= last.received_at
    asked = sum("btcusdt@trade" in streams for streams in venue.subscribed)
    venue.markets["BTCUSDT"] = base
    await running.until(lambda: sum("btcusdt@trade" in streams for streams in venue.subscribed) > asked)
    await venue.trade(2, "BTCUSDT")
    await running.until(lambda: ids_of(running, BTC) == ["1", "2"])

    ended = [gap for gap in running.intake.of(FeedGap) if gap.symbol == BTC][-1]
    assert (ended.time, ended.cause, ended.ended_at is None) == (opened.time, "unlisted", False)
    await running.close()


@NAMES
@pytest.mark.parametrize("how", ["called closed", "lacking"])
async def test_a_market_that_is_closed_for_good_has_a_gap_with_an_end(
    venue: Venue, names: list[str], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day without it, here no time: the row ends. A lost socket opens no other; should it come back, the row lasts
    until it delivers."""
    running = await started(venue, names)
    monkeypatch.setattr("ingestd.feeds.markets.listing.SILENT_US", 0)
    monkeypatch.setattr("ingestd.feeds.markets.listing.OVER_AFTER_US", 300_000)
    base = venue.markets["BTCUSDT"]
    if how == "lacking":
        del venue.markets["BTCUSDT"]
    else:
        venue.statuses["BTCUSDT"] = "SETTLING"
    await running.until(lambda: [gap for gap in running.intake.of(FeedGap) if gap.ended_at is not None])
    opened, ended = (gap for gap in running.intake.of(FeedGap) if gap.symbol == BTC)
    assert (opened.cause, opened.ended_at, ended.time) == ("unlisted", None, opened.time)
    assert (ended.ended_at or 0) >= opened.time + 300_000
    assert "counts as closed" in (ended.detail or "")

    await venue.sockets[-1].close()
    await running.until(lambda: sum(map(len, venue.subscribed)) == 4)
    await venue.trade(2, "ETHUSDT")
    await listed_again(venue, running)
    assert len([gap for gap in running.intake.of(FeedGap) if gap.symbol == BTC]) == 2

    venue.markets["BTCUSDT"] = base
    venue.statuses.clear()
    await listed_again(venue, running)
    await running.until(lambda: sum("btcusdt@trade" in streams for streams in venue.subscribed) >= 2)
    await venue.trade(2, "BTCUSDT")
    await running.until(lambda: len(ids_of(running, BTC)) == 2)
    again = [gap for gap in running.intake.of(FeedGap) if gap.symbol == BTC]
    assert [gap.time for gap in again] == [opened.time] * 3
    assert (again[-1].ended_at or 0) > (ended.ended_at or 0)
    await running.close()


@NAMES
async def test_a_market_with_another_id_is_asked_for_by_that(venue: Venue, names: list[str]) -> None:
    running = await started(venue, names)

    venue.markets = {"BTCUSDTNEW": "BTC", "ETHUSDT": "ETH"}
    await running.until(lambda: any("btcusdtnew@trade" in streams for streams in venue.subscribed))
    await venue.trade(2, "BTCUSDTNEW")
    await running.until(lambda: ids_of(running, BTC) == ["1", "2"])

    opened, ended = (gap for gap in running.intake.of(FeedGap) if gap.symbol == BTC)
    assert "another id" in (opened.detail or "")
    assert (opened.ended_at, ended.ended_at is None) == (None, False)
    await running.close()


async def test_what_the_configuration_takes_away_leaves_no_gap(venue: Venue) -> None:
    running = await started(venue, [BTC, ETH])

    del venue.markets["BTCUSDT"]
    await listed_again(venue, running)
    running.feed.set_symbols([ETH])
    await running.until(lambda: [stream.symbol for stream in running.feed.status().streams] == [ETH])
    await listed_again(venue, running)

    assert running.intake.of(FeedGap) == []
    await running.close()


async def test_a_polled_stream_goes_on(venue: Venue) -> None:
    running = Running(venue, channels=["open_interest"], poll_interval_s=0.02)
    await running.until(lambda: running.intake.of(OpenInterest))

    del venue.markets["BTCUSDT"]
    await listed_again(venue, running)
    had = len(running.intake.of(OpenInterest))
    await running.until(lambda: len(running.intake.of(OpenInterest)) > had + 1)

    assert running.intake.of(FeedGap) == []
    await running.close()


async def test_a_first_list_without_a_symbol_is_asked_for_again_soon(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was missing meanwhile is a gap: the configuration had asked for it."""
    monkeypatch.setattr("ingestd.feeds.ccxt.session.RELIST_S", 3600.0)
    monkeypatch.setattr("ingestd.feeds.ccxt.session.RELIST_SOON_S", 0.05)
    base = venue.markets.pop("BTCUSDT")
    running = Running(venue, symbols=[BTC, ETH])
    await running.until(lambda: venue.subscribed)
    assert any(stream.symbol == BTC and stream.quarantined for stream in running.feed.status().streams)

    venue.markets["BTCUSDT"] = base
    await running.until(lambda: any("btcusdt@trade" in streams for streams in venue.subscribed))
    await venue.trade(1, "BTCUSDT")
    await running.until(lambda: ids_of(running, BTC) == ["1"])

    opened, ended = running.intake.of(FeedGap)
    assert (opened.symbol, opened.cause, opened.ended_at, ended.ended_at is None) == (BTC, "unlisted", None, False)
    await running.close()


async def test_a_first_list_without_the_only_symbol_is_no_mistake_when_it_was_captured_before(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestd.feeds.ccxt.feed.NOTHING_LISTED_S", 0.05)
    earlier: dict[StreamId, Earlier] = {("binanceusdm", "trades", BTC): Earlier(1_672_515_000_000_000, "restart")}
    base = venue.markets.pop("BTCUSDT")
    running = Running(venue, earlier=earlier)
    await listed_again(venue, running)

    venue.markets["BTCUSDT"] = base
    await running.until(lambda: venue.subscribed)
    await venue.trade(1, "BTCUSDT")
    await running.until(lambda: ids_of(running, BTC) == ["1"])

    assert [gap.time for gap in running.intake.of(FeedGap)] == [1_672_515_000_000_000] * 2
    await running.close()


@pytest.mark.parametrize("venue", ["native"], indirect=True)
async def test_a_poor_list_replaces_no_good_one_on_disk(venue: Venue, tmp_path: Path) -> None:
    running = Running(venue, symbols=[BTC, ETH], state_dir=tmp_path)
    await running.until(lambda: venue.subscribed)
    await running.until(lambda: symbols_on_disk(tmp_path))
    del venue.markets["BTCUSDT"]
    await listed_again(venue, running)
    await running.close()

    assert symbols_on_disk(tmp_path) == {BTC, ETH}


@pytest.mark.parametrize("venue", ["native"], indirect=True)
async def test_a_list_on_disk_without_a_symbol_is_not_believed(
    venue: Venue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestd.feeds.ccxt.session.RELIST_S", 3600.0)
    base = venue.markets.pop("BTCUSDT")
    running = Running(venue, symbols=[ETH], state_dir=tmp_path)
    await running.until(lambda: venue.subscribed)
    await running.close()
    venue.subscribed.clear()
    venue.markets["BTCUSDT"] = base

    for names in ([BTC, ETH], [BTC]):
        running = Running(venue, symbols=names, state_dir=tmp_path)
        await running.until(lambda: any("btcusdt@trade" in streams for streams in venue.subscribed))
        await running.close()
        venue.subscribed.clear()
