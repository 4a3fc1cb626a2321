"""Best prices of venues whose ticker stream has none: from the order book, or from the stream that has them."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ingestd.config.models import FeedConfig
from ingestd.feeds import catalog
from ingestd.records import BookSnapshot, FeedGap, Tick
from tests.support.fake_venue import FakeVenue, Running
from tests.unit.feeds.doubles import Wire

AT_MS = 1_584_486_737_444


@pytest.fixture
async def venue() -> AsyncIterator[FakeVenue]:
    made = FakeVenue(lambda _connection, _message: [])
    await made.start()
    yield made
    await made.stop()


def upbit(venue: FakeVenue, *channels: str) -> Running:
    """https://docs.upbit.com/reference/websocket-orderbook"""
    venue.replies["/v1/market/all"] = [{"market": f"KRW-{base}", "korean_name": base} for base in ("BTC", "ETH")]
    hosts = ("https://api.upbit.com", "wss://api.upbit.com")
    return Running(
        venue, "upbit", *hosts, symbols=["BTC/KRW", "ETH/KRW"], channels=list(channels), order_book_interval_ms=0
    )


def upbit_book(at_ms: int, bid: str, bid_size: str, ask: str, deeper: str = "1.0") -> str:
    """As sent: numbers of JSON."""
    best = f'{{"ask_price":{ask},"bid_price":{bid},"ask_size":3.57100696,"bid_size":{bid_size}}}'
    next_best = f'{{"ask_price":90.5,"bid_price":10.25,"ask_size":0.5,"bid_size":{deeper}}}'
    return (
        f'{{"type":"orderbook","code":"KRW-BTC","timestamp":{at_ms},"total_ask_size":16.7,"total_bid_size":168.9,'
        f'"orderbook_units":[{best},{next_best}],"stream_type":"SNAPSHOT"}}'
    )


def asked_types(venue: FakeVenue) -> list[str]:
    return [str(part["type"]) for c in venue.open for asked in c.asked for part in asked if "type" in part]


@pytest.mark.parametrize("channels", [["ticks"], ["ticks", "order_book"]])
async def test_upbits_ticks_are_the_top_of_its_books(venue: FakeVenue, channels: list[str]) -> None:
    running = upbit(venue, *channels)
    await running.until(lambda: len(asked_types(venue)) >= 2)
    assert set(asked_types(venue)) == {"orderbook"}
    for connection in venue.open:
        await connection.send(
            upbit_book(AT_MS, "21.50", "22.5303265", "22.95"),
            upbit_book(AT_MS + 1, "21.50", "22.5303265", "22.95", deeper="2.0"),
            upbit_book(AT_MS + 2, "21.50", "0.10", "22.95"),
            upbit_book(AT_MS + 3, "23.00", "0.10", "22.95"),
            upbit_book(AT_MS + 4, "21.75", "0.10", "22.95"),
        )
    await running.until(lambda: len(running.intake.of(Tick)) == 3)

    ticks = [(t.symbol, t.time, t.bid_price, t.bid_volume, t.ask_price, t.ask_volume) for t in running.intake.of(Tick)]
    assert ticks == [
        ("BTC/KRW", AT_MS * 1000, "21.50", "22.5303265", "22.95", "3.57100696"),
        ("BTC/KRW", (AT_MS + 2) * 1000, "21.50", "0.10", "22.95", "3.57100696"),
        ("BTC/KRW", (AT_MS + 4) * 1000, "21.75", "0.10", "22.95", "3.57100696"),  # not the crossed one
    ]
    assert bool(running.intake.of(BookSnapshot)) == ("order_book" in channels)
    await running.close()


async def test_after_a_cut_the_first_top_ends_the_gap_though_it_is_the_same(venue: FakeVenue) -> None:
    running = upbit(venue, "ticks")
    await running.until(lambda: len(asked_types(venue)) >= 2)
    for connection in venue.open:
        await connection.send(upbit_book(AT_MS, "21.50", "1", "22.95"))
    await running.until(lambda: running.intake.of(Tick))
    for connection in venue.open:
        await connection.socket.close()
    await running.until(lambda: len(asked_types(venue)) >= 2)
    for connection in venue.open:
        await connection.send(upbit_book(AT_MS, "21.50", "1", "22.95"))
    await running.until(lambda: len(running.intake.of(Tick)) == 2)

    gaps = [gap for gap in running.intake.of(FeedGap) if gap.symbol == "BTC/KRW"]
    assert [gap.ended_at is None for gap in gaps] == [True, False]
    await running.close()


async def test_htx_is_asked_for_its_best_prices() -> None:
    """https://www.htx.com/en-us/opend/newApiPages/?id=7ec53f1a-7773-11ed-9966-0242ac110003: the best bid and offer"""
    wire = Wire("htx", {"BTC/USDT": "btcusdt"}, "wss://api.huobi.pro/ws")
    wire.reader.ticks_from_tickers = True
    assert wire.exchange.options["watchTicker"]["name"] == "market.{marketId}.bbo"
    tick: dict[str, Any] = {"seqId": 161499562790, "ask": 16829.51, "askSize": 0.707776}
    tick |= {"bid": 16829.5, "bidSize": 1.685945}
    tick |= {"quoteTime": 1671941599612, "symbol": "btcusdt"}
    frame: dict[str, Any] = {"ch": "market.btcusdt.bbo", "ts": 1671941599613, "tick": tick}
    wire.client.gunzip = True
    wire.frames(gzip.compress(json.dumps(frame).encode()))

    (stored,) = wire.intake.of(Tick)
    assert (stored.bid_price, stored.bid_volume, stored.ask_price, stored.ask_volume) == (
        ("16829.5", "1.685945", "16829.51", "0.707776")
    )
    await wire.close()


def test_a_venue_that_has_best_prices_nowhere_is_refused() -> None:
    (problem,) = catalog.check([FeedConfig(exchange="mudrex", symbols=["BTC/USDT:USDT"], channels=["ticks"])])
    assert "mudrex has no such channel" in str(problem)


async def test_mexcs_contracts_have_ticks_though_its_stream_of_best_prices_is_for_spot(venue: FakeVenue) -> None:
    """https://www.mexc.com/api-docs/futures/websocket-api: depth, whose rows are price, contracts, and orders"""
    contract = {"symbol": "BTC_USDT", "baseCoin": "BTC", "quoteCoin": "USDT", "settleCoin": "USDT", "state": 0}
    contract |= {"contractSize": 0.0001, "priceUnit": 0.1, "volUnit": 1, "minVol": 1, "maxVol": 1000}
    first = {"asks": [[39146.5, 100, 1]], "bids": [[39144, 200, 1]], "version": 100, "timestamp": AT_MS}
    venue.replies["/api/v3/exchangeInfo"] = {"symbols": []}
    venue.replies["/api/v1/contract/detail"] = {"success": True, "code": 0, "data": [contract]}
    venue.replies["/api/v1/contract/depth/BTC_USDT"] = {"success": True, "code": 0, "data": first}
    hosts = ("https://api.mexc.com", "wss://contract.mexc.com")
    running = Running(venue, "mexc", *hosts, symbols=["BTC/USDT:USDT"], channels=["ticks"])
    assert catalog.check([running.feed.config]) == []
    await running.until(lambda: any(asked.get("method") == "sub.depth" for c in venue.open for asked in c.asked))
    for connection in venue.open:
        for version in range(75, 102):  # the library asks for the book after 25 changes
            change = {"asks": [[39145.5, version, 1]], "bids": [], "version": version}
            frame = {"channel": "push.depth", "data": change, "symbol": "BTC_USDT", "ts": AT_MS + version}
            await connection.send(frame)
    await running.until(lambda: running.intake.of(Tick))

    tick = running.intake.of(Tick)[-1]
    assert (tick.symbol, tick.bid_price, tick.bid_volume) == ("BTC/USDT:USDT", "39144", "200")
    assert (tick.ask_price, tick.ask_volume) == ("39145.5", "101")
    await running.close()
