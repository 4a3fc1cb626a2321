"""A book that is put together from one over REST and the changes of a stream: what its failure costs the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import ccxt
import pytest
from aiohttp import web

from ingestd.records import BookSnapshot, FeedGap, Trade
from ingestd.retry import Backoff
from tests.support.fake_venue import Connection, FakeVenue, Running
from tests.unit.feeds.doubles import Wire

BASES = ("BTC", "ETH", "SOL")


@pytest.fixture(autouse=True)
def quick_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a real backoff; its arithmetic has tests of its own."""
    monkeypatch.setattr("ingestd.feeds.ccxt.tapped_books.Backoff", lambda **_: Backoff(base_s=0.02, cap_s=0.05))


@pytest.fixture
async def venue() -> AsyncIterator[FakeVenue]:
    made = FakeVenue(lambda _connection, _message: [])
    await made.start()
    yield made
    await made.stop()


class KuCoin:
    """https://www.kucoin.com/docs-new/websocket-api/base-info/introduction: a token over REST, one socket for all,
    changes of a book that are to be put on one over REST (`level2`)."""

    def __init__(self, venue: FakeVenue) -> None:
        self.venue = venue
        self.refused: dict[str, web.Response] = {}  # by market id
        self.sequence = 1000
        self.step = 1
        self.trade_id = 0
        venue.answer = self.answer
        venue.replies["/api/v1/bullet-public"] = {
            "code": "200000",
            "data": {
                "token": "t",
                "instanceServers": [
                    {
                        "endpoint": "wss://ws-api-spot.kucoin.com/",
                        "protocol": "websocket",
                        "encrypt": True,
                        "pingInterval": 50000,
                        "pingTimeout": 10000,
                    }
                ],
            },
        }
        symbols = [
            {
                "symbol": f"{base}-USDT",
                "name": f"{base}-USDT",
                "baseCurrency": base,
                "quoteCurrency": "USDT",
                "feeCurrency": "USDT",
                "market": "USDS",
                "baseMinSize": "0.00001",
                "quoteMinSize": "0.01",
                "baseMaxSize": "10000000000",
                "quoteMaxSize": "99999999",
                "baseIncrement": "0.00000001",
                "quoteIncrement": "0.000001",
                "priceIncrement": "0.000001",
                "priceLimitRate": "0.1",
                "isMarginEnabled": False,
                "enableTrading": True,
            }
            for base in BASES
        ]
        for version in ("v1", "v2"):
            venue.replies[f"/api/{version}/symbols"] = {"code": "200000", "data": symbols}
        for level in ("level2_100", "level2_20"):
            venue.replies[f"/api/v1/market/orderbook/{level}"] = self.book

    def answer(self, connection: Connection, asked: Any) -> list[Any]:
        if asked["type"] == "ping":
            return [{"id": asked["id"], "type": "pong"}]
        return [{"id": asked["id"], "type": "ack"}]

    def book(self, request: web.Request) -> Any:
        market_id = request.query["symbol"]
        if market_id in self.refused:
            refusal = self.refused[market_id]
            return web.Response(status=refusal.status, body=refusal.body, headers=refusal.headers)
        data = {"sequence": str(self.sequence), "time": 1700000000000, "bids": [["1.5", "10"]], "asks": [["2.5", "10"]]}
        return {"code": "200000", "data": data}

    async def tick(self) -> None:
        """One change of each book and one trade of each market, on every open socket."""
        self.sequence += self.step
        for base in BASES:
            self.trade_id += 1
            changes = {"asks": [], "bids": [["1.6", str(self.sequence), str(self.sequence)]]}
            change = {"sequenceStart": self.sequence, "sequenceEnd": self.sequence, "changes": changes}
            trade = {
                "type": "match",
                "symbol": f"{base}-USDT",
                "side": "buy",
                "price": "1.7",
                "size": "0.1",
                "tradeId": str(self.trade_id),
                "sequence": str(self.trade_id),
                "time": str(1_700_000_000_000_000_000 + self.trade_id),
            }
            for connection in self.venue.open:
                book = f"/market/level2:{base}-USDT"
                market = {"symbol": f"{base}-USDT", **change}
                await connection.send({"type": "message", "topic": book, "subject": "trade.l2update", "data": market})
                topic = f"/market/match:{base}-USDT"
                await connection.send({"type": "message", "topic": topic, "subject": "trade.l3match", "data": trade})

    async def run_until(self, running: Running, condition: Any) -> None:
        """Let the market go on until then."""
        async with asyncio.timeout(60):
            while not condition():
                if running.task.done():
                    running.task.result()
                await self.tick()
                await asyncio.sleep(0.01)


@pytest.fixture
def kucoin(venue: FakeVenue) -> KuCoin:
    return KuCoin(venue)


def run(venue: FakeVenue) -> Running:
    return Running(
        venue,
        "kucoin",
        "https://api.kucoin.com",
        "wss://ws-api-spot.kucoin.com",
        symbols=[f"{base}/USDT" for base in BASES],
        channels=["trades", "order_book"],
        order_book_interval_ms=0,
        book_audit_interval_s=0,
        options={"fetchMarkets": {"types": ["spot"], "fetchTickersFees": False}},
    )


def books(running: Running) -> set[str]:
    return {book.symbol for book in running.intake.of(BookSnapshot)}


FAILURES = {
    "500": web.Response(status=500, text="Internal Server Error"),
    "no JSON": web.Response(status=200, text="<html>maintenance</html>"),
    "no such symbol": web.Response(
        status=200, text='{"code":"900001","msg":"symbol not exists"}', content_type="application/json"
    ),
    "no book": web.Response(status=200, text='{"code":"200000","data":{}}', content_type="application/json"),
    "too old": web.Response(
        status=200,
        text='{"code":"200000","data":{"sequence":"5","time":1,"bids":[["1","1"]],"asks":[["2","1"]]}}',
        content_type="application/json",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_one_book_that_cannot_be_loaded_costs_no_other_stream(
    venue: FakeVenue, kucoin: KuCoin, failure: str
) -> None:
    kucoin.refused["SOL-USDT"] = FAILURES[failure]
    running = run(venue)
    await kucoin.run_until(running, lambda: "SOL/USDT" in running.quarantined and books(running))
    others = {"BTC/USDT", "ETH/USDT"}
    await kucoin.run_until(running, lambda: books(running) == others)

    status = running.feed.status()
    assert (status.connects, status.disconnects) == (1, 0)
    assert list(running.quarantined) == ["SOL/USDT"]
    assert {s.channel for s in status.streams if s.quarantined} == {"order_book"}
    assert {trade.symbol for trade in running.intake.of(Trade)} == {*others, "SOL/USDT"}
    trades = len(running.intake.of(Trade))
    await kucoin.run_until(running, lambda: len(running.intake.of(Trade)) > trades + 20)
    (gap,) = running.intake.of(FeedGap)
    assert (gap.symbol, gap.channel, gap.cause) == ("SOL/USDT", "order_book", "book_not_loaded")
    assert str(gap.detail).startswith("the book snapshot over REST failed: ")
    assert "closed" not in str(gap.detail)

    kucoin.refused.clear()
    await kucoin.run_until(running, lambda: "SOL/USDT" in books(running))
    assert running.quarantined == {}
    assert [g.ended_at is None for g in running.intake.of(FeedGap)] == [True, False]
    await running.close()


async def test_a_rate_limit_is_waited_for_as_long_as_the_venue_says(venue: FakeVenue, kucoin: KuCoin) -> None:
    limited = web.Response(
        status=429, text='{"code":"429000","msg":"Too many requests"}', headers={"Retry-After": "60"}
    )
    kucoin.refused["SOL-USDT"] = limited
    running = run(venue)
    await kucoin.run_until(running, lambda: running.intake.of(FeedGap) and len(books(running)) == 2)
    asked = len([path for path in venue.requests if "SOL-USDT" in path])
    seen = len(running.intake.of(Trade))
    await kucoin.run_until(running, lambda: len(running.intake.of(Trade)) > seen + 60)

    assert len([path for path in venue.requests if "SOL-USDT" in path]) == asked
    assert running.feed.status().disconnects == 0
    await running.close()


async def test_after_a_cut_a_book_that_could_not_be_loaded_is_begun_on_the_next_socket(
    venue: FakeVenue, kucoin: KuCoin
) -> None:
    kucoin.refused["SOL-USDT"] = FAILURES["500"]
    running = run(venue)
    await kucoin.run_until(running, lambda: "SOL/USDT" in running.quarantined)
    kucoin.refused.clear()
    await venue.open[0].socket.close()
    await kucoin.run_until(running, lambda: "SOL/USDT" in books(running))
    await running.close()


async def test_a_token_that_is_refused_for_a_while_puts_no_stream_aside(venue: FakeVenue, kucoin: KuCoin) -> None:
    token, replies = venue.replies["/api/v1/bullet-public"], iter(range(4))
    refusals = [
        web.Response(status=500, text="Internal Server Error"),
        web.Response(status=200, text='{"code":"400001","msg":"try later"}', content_type="application/json"),
        web.Response(status=200, text='{"code":"400100","msg":"try later"}', content_type="application/json"),
        web.Response(status=200, text="<html>", content_type="text/html"),
    ]

    def bullet(_request: web.Request) -> Any:
        number = next(replies, None)
        return token if number is None else refusals[number]

    venue.replies["/api/v1/bullet-public"] = bullet
    running = run(venue)
    await kucoin.run_until(running, lambda: running.intake.of(Trade))

    assert running.quarantined == {}
    await running.close()


async def test_a_book_of_a_venue_that_leaves_numbers_out_by_itself_is_stored(venue: FakeVenue, kucoin: KuCoin) -> None:
    kucoin.step = 3
    running = run(venue)
    try:
        await kucoin.run_until(running, lambda: len(books(running)) == len(BASES))
        asked, stored = len(venue.requests), len(running.intake.of(BookSnapshot))
        await kucoin.run_until(running, lambda: len(running.intake.of(BookSnapshot)) >= stored + 100)
        assert len(venue.requests) == asked
        assert len(venue.connections) == 1
    finally:
        await running.close()


async def test_on_binance_one_book_that_cannot_be_loaded_costs_no_other(venue: FakeVenue) -> None:
    """Its books begin in code of its own, one call and one socket for all of them."""
    venue.replies["/api/v3/exchangeInfo"] = {
        "symbols": [
            {
                "symbol": f"{base}USDT",
                "status": "TRADING",
                "baseAsset": base,
                "quoteAsset": "USDT",
                "isSpotTradingAllowed": True,
                "permissions": ["SPOT"],
                "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.01", "minPrice": "0.01", "maxPrice": "9"}],
            }
            for base in BASES
        ]
    }
    refuses = True

    def depth(request: web.Request) -> Any:
        if refuses and request.query["symbol"] == "SOLUSDT":
            return web.Response(status=500, text="Internal Server Error")
        return {"lastUpdateId": 100, "bids": [["1.5", "10"]], "asks": [["2.5", "10"]]}

    venue.replies["/api/v3/depth"] = depth
    venue.answer = lambda _connection, asked: [{"result": None, "id": asked["id"]}]
    running = Running(
        venue,
        "binance",
        "https://api.binance.com",
        "wss://stream.binance.com:9443",
        symbols=[f"{base}/USDT" for base in BASES],
        channels=["order_book"],
        order_book_interval_ms=0,
        book_audit_interval_s=0,
        options={"fetchMarkets": {"types": ["spot"]}, "fetchMargins": False},
    )
    await running.until(lambda: "SOL/USDT" in running.quarantined and len(venue.open) == 1)
    for number in range(101, 104):
        for base in BASES:
            change = {"e": "depthUpdate", "E": 1_700_000_000_000, "s": f"{base}USDT", "U": number, "u": number}
            await venue.open[0].send({**change, "b": [["1.6", str(number)]], "a": []})
    await running.until(lambda: books(running) == {"BTC/USDT", "ETH/USDT"})
    (gap,) = running.intake.of(FeedGap)
    assert (gap.symbol, gap.cause) == ("SOL/USDT", "book_not_loaded")

    refuses = False
    await running.until(lambda: "SOL/USDT" in books(running))
    newest = [book for book in running.intake.of(BookSnapshot) if book.symbol == "SOL/USDT"][-1]
    assert (newest.sequence, newest.bids[0]) == (103, ("1.6", "103"))
    assert running.feed.status().disconnects == 0
    assert running.quarantined == {}
    await running.close()


async def test_a_task_that_was_to_load_a_book_and_fails_is_no_silence() -> None:
    """Bitvavo's code asks for the book over its socket, in a task that nobody waits for."""
    wire = Wire("bitvavo", {"BTC/EUR": "BTC-EUR", "ETH/EUR": "ETH-EUR"}, "wss://ws.bitvavo.com/v2")

    async def watch_order_book_snapshot(_client: Any, _message: Any, _subscription: Any) -> None:
        raise ccxt.ExchangeError("bitvavo 205 the parameter is invalid")

    failed = wire.exchange.spawn(watch_order_book_snapshot, wire.client, {"event": "book", "market": "ETH-EUR"}, {})
    await asyncio.wait_for(failed, 60)

    (gap,) = wire.intake.of(FeedGap)
    assert (gap.symbol, gap.channel, gap.cause) == ("ETH/EUR", "order_book", "book_not_loaded")
    assert "205 the parameter is invalid" in str(gap.detail)
    assert wire.reader.ladder.asking("ETH/EUR") is not None
    await wire.close()
