"""Errors that a venue sends on a socket, and messages that the library does not know: what they end, and what not."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from ingestd.clock import now_us
from ingestd.feeds.ccxt import subscription
from ingestd.feeds.streams import quarantine
from ingestd.ops.health import FeedHealth, Snapshot, readiness
from ingestd.records import FeedGap, Tick, Trade
from ingestd.retry import Backoff
from tests.support.fake_venue import Connection, FakeVenue, Running

NOW_MS = 1_790_000_000_000


@pytest.fixture(autouse=True)
def quick_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a real backoff; its arithmetic has tests of its own."""
    real = subscription.Subscription.__init__
    monkeypatch.setattr(
        subscription.Subscription,
        "__init__",
        lambda self, *a, **k: real(self, *a, **{**k, "backoff": lambda: Backoff(base_s=0.001, cap_s=0.005)}),
    )


Start = Callable[..., Any]


@pytest.fixture
async def venue() -> AsyncIterator[FakeVenue]:
    made = FakeVenue(lambda _connection, _message: [])
    await made.start()
    yield made
    await made.stop()


# ---- Blockchain.com: https://exchange.blockchain.com/api/#websocket-api

COINS = [f"C{number:02}" for number in range(5)]


def blockchain(venue: FakeVenue) -> Running:
    venue.replies["/v3/exchange/symbols"] = {
        f"{coin}-USD": {
            "base_currency": coin,
            "base_currency_scale": 8,
            "counter_currency": "USD",
            "counter_currency_scale": 2,
            "min_price_increment": 10,
            "min_price_increment_scale": 0,
            "min_order_size": 50,
            "min_order_size_scale": 2,
            "max_order_size": 0,
            "max_order_size_scale": 8,
            "lot_size": 5,
            "lot_size_scale": 2,
            "status": "open",
            "id": number,
        }
        for number, coin in enumerate(COINS)
    }

    def answer(_connection: Connection, asked: Any) -> list[Any]:
        return [{"seqnum": 0, "event": "subscribed", "channel": asked["channel"], "symbol": asked["symbol"]}]

    venue.answer = answer
    hosts = ("https://api.blockchain.com", "wss://ws.blockchain.info")
    return Running(venue, "blockchaincom", *hosts, symbols=["*/USD"], channels=["trades"])


async def until_malformed(running: Running, count: int) -> None:
    await running.until(lambda: running.feed.status().malformed_frames == count)


async def until_errors(running: Running, count: int) -> None:
    await running.until(lambda: running.feed.status().error_frames == count)


async def until_newest(running: Running, number: int) -> None:
    await running.until(lambda: newest(running) == {"BTC/USDT": number, "ETH/USDT": number})


def blockchain_trade(number: int, coin: str) -> dict[str, Any]:
    return {
        "seqnum": number,
        "event": "updated",
        "channel": "trades",
        "symbol": f"{coin}-USD",
        "timestamp": "2022-08-08T17:23:48.163096Z",
        "side": "sell",
        "qty": 0.083523,
        "price": 23940.67,
        "trade_id": str(number),
    }


async def test_a_message_that_the_library_does_not_know_puts_no_stream_aside(venue: FakeVenue) -> None:
    running = blockchain(venue)
    await running.until(lambda: venue.open and len(venue.open[0].asked) == len(COINS))
    for number in range(8):
        await venue.open[0].send({"seqnum": number, "event": "updated", "channel": "heartbeat"})
        await until_malformed(running, number + 1)
        assert running.quarantined == {}
    await venue.open[0].send(*(blockchain_trade(number, coin) for number, coin in enumerate(COINS)))
    await running.until(lambda: len(running.intake.of(Trade)) == len(COINS))

    assert running.quarantined == {}
    assert running.feed.status().malformed_frames == 8
    assert running.feed.status().disconnects == 0
    assert running.intake.of(FeedGap) == []

    await venue.open[0].socket.close()
    await running.until(lambda: len(venue.connections) == 2 and len(venue.open[0].asked) == len(COINS))
    await running.close()


async def test_what_has_not_spoken_yet_is_asked_for_again_after_a_cut_that_follows_an_unknown_message(
    venue: FakeVenue,
) -> None:
    running = blockchain(venue)
    await running.until(lambda: venue.open and len(venue.open[0].asked) == len(COINS))
    await venue.open[0].send({"seqnum": 7, "event": "updated", "channel": "heartbeat"})
    await running.until(lambda: running.feed.status().malformed_frames)
    await venue.open[0].socket.close()

    await running.until(lambda: venue.open and len(venue.open[0].asked) == len(COINS))
    await running.close()


# ---- Binance spot: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams


def binance(venue: FakeVenue, channel: str, *bases: str) -> Running:
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
            for base in bases
        ]
    }
    venue.answer = lambda _connection, asked: [{"result": None, "id": asked["id"]}]
    return Running(
        venue,
        "binance",
        "https://api.binance.com",
        "wss://stream.binance.com:9443",
        symbols=[f"{base}/USDT" for base in bases],
        channels=[channel],
        options={"fetchMarkets": {"types": ["spot"]}, "fetchMargins": False, "watchTrades": {"name": "trade"}},
    )


def carried(connection: Connection) -> set[str]:
    """The streams that are subscribed on that socket now."""
    streams: set[str] = set()
    for asked in connection.asked:
        if asked["method"] == "SUBSCRIBE":
            streams.update(asked["params"])
        else:
            streams.difference_update(asked["params"])
    return streams


async def publish(venue: FakeVenue, stream: str, message: dict[str, Any]) -> None:
    """As the venue does: on every socket where it is subscribed."""
    for connection in venue.open:
        if stream in carried(connection):
            await connection.send(message)


def binance_trade(number: int, base: str) -> dict[str, Any]:
    return {
        "e": "trade",
        "E": NOW_MS + number,
        "s": f"{base}USDT",
        "t": number,
        "p": "7.6110",
        "q": "2.000",
        "T": NOW_MS + number,
        "m": False,
        "M": True,
    }


async def test_an_error_that_names_nothing_leaves_no_stream_on_two_sockets(venue: FakeVenue) -> None:
    running = binance(venue, "ticks", "BTC", "ETH")
    await running.until(lambda: venue.open and carried(venue.open[-1]))
    await publish(venue, "btcusdt@bookTicker", book_ticker(1, "BTC"))
    await running.until(lambda: running.intake.of(Tick))
    await venue.open[0].send({"error": {"code": 2, "msg": "Invalid request: unknown variant"}})

    await running.until(lambda: len(venue.connections) > 1 and venue.open[-1].asked)
    for number in itertools.count(2):
        await publish(venue, "btcusdt@bookTicker", book_ticker(number, "BTC"))
        await publish(venue, "ethusdt@bookTicker", book_ticker(number, "ETH"))
        await until_newest(running, number)
        if all(count == 1 for count in sockets_of_each_stream(venue).values()):
            break

    ticks = Counter((tick.symbol, tick.bid_price) for tick in running.intake.of(Tick))
    assert set(ticks.values()) == {1}, "stored twice"
    assert running.quarantined == {}
    assert running.intake.of(FeedGap) == []
    await running.close()


async def test_a_socket_that_is_behind_the_one_that_was_closed_repeats_nothing(venue: FakeVenue) -> None:
    running = binance(venue, "ticks", "BTC", "ETH")
    await running.until(lambda: venue.open and carried(venue.open[-1]))
    old = venue.open[0]
    await old.send(book_ticker(1, "BTC"))
    await running.until(lambda: running.intake.of(Tick))
    await old.send({"error": {"code": 2, "msg": "Invalid request: unknown variant"}})
    await running.until(lambda: sockets_of_each_stream(venue) == {"btcusdt@bookTicker": 2, "ethusdt@bookTicker": 2})
    of_btc, of_eth = (
        next(one for one in venue.open if one is not old and f"{base}usdt@bookTicker" in carried(one))
        for base in ("btc", "eth")
    )

    await of_btc.send(book_ticker(2, "BTC"))
    await running.until(lambda: newest(running) == {"BTC/USDT": 2})
    await old.send(book_ticker(2, "BTC"))
    await old.send(book_ticker(3, "BTC"))
    await running.until(lambda: newest(running) == {"BTC/USDT": 3})
    await of_eth.send(book_ticker(3, "ETH"))  # now all that the old one carried has come from elsewhere
    await running.until(lambda: old not in venue.open)
    await of_btc.send(book_ticker(3, "BTC"))
    await of_btc.send(book_ticker(4, "BTC"))
    await of_btc.send(book_ticker(3, "BTC"))  # the price is what it was: an update as any other
    await of_btc.send(book_ticker(5, "BTC"))
    await running.until(lambda: newest(running)["BTC/USDT"] == 5)

    prices = [str(tick.bid_price) for tick in running.intake.of(Tick) if tick.symbol == "BTC/USDT"]
    assert prices == ["1.10", "2.10", "3.10", "4.10", "3.10", "5.10"]
    await running.close()


def book_ticker(number: int, base: str) -> dict[str, Any]:
    return {"u": number, "s": f"{base}USDT", "b": f"{number}.10", "B": "31.21", "a": f"{number}.20", "A": "40.66"}


def newest(running: Running) -> dict[str, int]:
    return {tick.symbol: int(str(tick.bid_price).partition(".")[0]) for tick in running.intake.of(Tick)}


def sockets_of_each_stream(venue: FakeVenue) -> Counter[str]:
    return Counter(stream for connection in venue.open for stream in carried(connection))


async def test_an_error_that_names_a_symbol_puts_that_one_aside_and_no_other(venue: FakeVenue) -> None:
    running = binance(venue, "trades", "BTC", "ETH", "SOL")
    numbers = itertools.count(1)

    def answer(_connection: Connection, asked: Any) -> list[Any]:
        if "ethusdt@trade" in asked["params"]:
            return [{"error": {"code": 2, "msg": "Invalid request: ethusdt@trade is not traded"}, "id": asked["id"]}]
        return [{"result": None, "id": asked["id"]}]

    venue.answer = answer

    async with asyncio.timeout(60):
        while not running.quarantined or len(stored(running)) < 2:
            for base in ("BTC", "SOL"):
                await publish(venue, f"{base.lower()}usdt@trade", binance_trade(next(numbers), base))
            await asyncio.sleep(0.01)

    assert list(running.quarantined) == ["ETH/USDT"]
    assert "ethusdt@trade is not traded" in running.quarantined["ETH/USDT"]
    await running.close()


def stored(running: Running) -> set[str]:
    return {trade.symbol for trade in running.intake.of(Trade)}


# ---- Bitget: https://www.bitget.com/api-doc/common/websocket-intro


def bitget(venue: FakeVenue, *bases: str) -> Running:
    venue.replies["/api/v2/margin/currencies"] = {"code": "00000", "data": []}
    venue.replies["/api/v2/spot/public/symbols"] = {
        "code": "00000",
        "data": [
            {
                "symbol": f"{base}USDT",
                "baseCoin": base,
                "quoteCoin": "USDT",
                "minTradeAmount": "0",
                "maxTradeAmount": "10000000000",
                "takerFeeRate": "0.002",
                "makerFeeRate": "0.002",
                "pricePrecision": "2",
                "quantityPrecision": "4",
                "quotePrecision": "6",
                "status": "online",
                "minTradeUSDT": "1",
            }
            for base in bases
        ],
    }
    venue.answer = lambda _connection, asked: (
        ["pong"] if asked == "ping" else [{"event": "subscribe", "arg": arg} for arg in asked["args"]]
    )
    return Running(
        venue,
        "bitget",
        "https://api.bitget.com",
        "wss://ws.bitget.com",
        symbols=[f"{base}/USDT" for base in bases],
        channels=["trades"],
        options={"fetchMarkets": {"types": ["spot"]}},
    )


def bitget_trade(number: int, base: str) -> dict[str, Any]:
    return {
        "action": "update",
        "arg": {"instType": "SPOT", "channel": "trade", "instId": f"{base}USDT"},
        "data": [
            {"ts": str(NOW_MS + number), "price": "27000.5", "size": "0.0001", "side": "buy", "tradeId": str(number)}
        ],
        "ts": NOW_MS + number,
    }


def asked_for(connection: Connection) -> Counter[str]:
    """How often each market was asked for on that socket."""
    return Counter(arg["instId"] for asked in connection.asked if asked != "ping" for arg in asked["args"])


async def test_after_an_error_that_names_nothing_what_is_silent_is_asked_for_again(venue: FakeVenue) -> None:
    """The streams that deliver are not interrupted, and asked for once."""
    running = bitget(venue, "BTC", "ETH", "SOL")
    await running.until(lambda: venue.open and len(asked_for(venue.open[0])) == 3)
    await venue.open[0].send(bitget_trade(1, "BTC"))
    await running.until(lambda: running.intake.of(Trade))
    for _ in range(4):
        await venue.open[0].send({"event": "error", "code": "40000", "msg": "param error"})
    await running.until(lambda: asked_for(venue.open[0])["ETHUSDT"] >= 2 and asked_for(venue.open[0])["SOLUSDT"] >= 2)
    await venue.open[0].send(*(bitget_trade(number, base) for number, base in ((2, "BTC"), (3, "ETH"), (4, "SOL"))))
    await running.until(lambda: len(running.intake.of(Trade)) == 4)

    assert asked_for(venue.open[0])["BTCUSDT"] == 1
    assert running.quarantined == {}
    assert len(venue.connections) == 1
    assert running.intake.of(FeedGap) == []
    await running.close()


async def test_errors_that_name_nothing_put_no_symbol_aside_however_many_they_are(venue: FakeVenue) -> None:
    running = bitget(venue, "BTC", "ETH")
    await running.until(lambda: venue.open and len(asked_for(venue.open[0])) == 2)
    for sent in range(1, 41):
        await venue.open[0].send({"event": "error", "code": "40000", "msg": "param error"})
        await until_errors(running, sent)

    assert running.quarantined == {}
    await venue.open[-1].send(bitget_trade(2, "ETH"), bitget_trade(1, "BTC"))
    await running.until(lambda: stored(running) == {"BTC/USDT", "ETH/USDT"})
    await running.close()


async def test_a_symbol_that_was_put_aside_is_asked_for_on_the_next_socket(
    venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "SHORT_QUARANTINE_S", 0.01)
    running = bitget(venue, "BTC", "ETH")
    refuses = True

    def answer(_connection: Connection, asked: Any) -> list[Any]:
        if asked == "ping":
            return ["pong"]
        markets = [arg["instId"] for arg in asked["args"]]
        if refuses and "ETHUSDT" in markets:
            return [
                {"event": "error", "code": "30001", "msg": "instType:SPOT,channel:trade,instId:ETHUSDT doesn't exist"}
            ]
        return [{"event": "subscribe", "arg": arg} for arg in asked["args"]]

    venue.answer = answer
    await running.until(lambda: running.quarantined)
    assert list(running.quarantined) == ["ETH/USDT"]
    await venue.open[0].send(bitget_trade(1, "BTC"))
    await running.until(lambda: stored(running) == {"BTC/USDT"})
    refuses = False
    await venue.open[0].socket.close()
    await running.until(lambda: venue.open and len(asked_for(venue.open[-1])) == 2)
    await venue.open[-1].send(bitget_trade(2, "ETH"))
    await running.until(lambda: not running.quarantined)
    await running.close()


async def test_a_symbol_that_is_refused_without_its_name_is_shown_and_touches_no_other(venue: FakeVenue) -> None:
    """`/readyz` says what may be refused, and the ledger that it is not followed; the other one goes on."""
    running = bitget(venue, "BTC", "ETH")
    of_the_test = itertools.count(1)

    def answer(_connection: Connection, asked: Any) -> list[Any]:
        if asked == "ping":
            return ["pong"]
        markets = [arg["instId"] for arg in asked["args"]]
        bad = [{"event": "error", "code": "40000", "msg": "param error"}] if "ETHUSDT" in markets else []
        good = [bitget_trade(next(of_the_test), "BTC")] if "BTCUSDT" in markets else []
        return [*good, *bad]

    venue.answer = answer
    await running.until(lambda: "ETH/USDT" in (running.feed.status().problem or ""))
    verdict = readiness(Snapshot(now_us(), started=True, feeds=[FeedHealth(running.feed.status())]))
    assert any("ETH/USDT" in text and "param error" in text for text in verdict.degraded)
    assert "BTC/USDT" not in (running.feed.status().problem or "")
    gaps = [(gap.symbol, gap.cause, gap.ended_at) for gap in running.intake.of(FeedGap)]
    assert gaps == [("ETH/USDT", "not_subscribed", None)]
    assert stored(running) == {"BTC/USDT"}
    assert running.feed.status().disconnects == 0

    venue.answer = lambda _connection, asked: ["pong"] if asked == "ping" else []
    async with asyncio.timeout(60):
        for number in itertools.count(1000):  # a refusal that is on its way may come after the first
            await venue.open[-1].send(bitget_trade(number, "ETH"))
            await asyncio.sleep(0.01)
            if "ETH/USDT" in stored(running) and running.feed.status().problem is None:
                break
    assert running.intake.of(FeedGap)[-1].ended_at is not None
    await running.close()


async def test_a_stream_that_cannot_even_be_asked_for_has_a_gap_from_the_start(venue: FakeVenue) -> None:
    """KuCoin's sockets need a token of REST: while that fails no socket is dialled, and none is lost."""
    began = now_us()
    venue.replies["/api/v2/symbols"] = {"code": "200000", "data": [KUCOIN_MARKET]}
    venue.replies["/api/v1/currencies"] = venue.replies["/api/v3/currencies"] = {"code": "200000", "data": []}
    venue.replies["/api/v1/market/allTickers"] = {"code": "200000", "data": {"time": 1, "ticker": []}}
    venue.replies["/api/v1/bullet-public"] = lambda _request: web.json_response({"code": "500000"}, status=500)
    running = Running(
        venue, "kucoin", "https://api.kucoin.com", symbols=["BTC/USDT"], channels=["trades"],
        options={"fetchMarkets": {"types": ["spot"]}},
    )  # fmt: skip
    await running.until(lambda: running.intake.of(FeedGap))
    (gap,) = running.intake.of(FeedGap)
    assert (gap.symbol, gap.channel, gap.cause, gap.ended_at) == ("BTC/USDT", "trades", "not_subscribed", None)
    assert began <= gap.time <= gap.received_at
    assert venue.connections == []
    await running.close()


KUCOIN_MARKET = {
    "symbol": "BTC-USDT",
    "name": "BTC-USDT",
    "baseCurrency": "BTC",
    "quoteCurrency": "USDT",
    "feeCurrency": "USDT",
    "market": "USDS",
    "baseMinSize": "0.00001",
    "quoteMinSize": "0.1",
    "baseMaxSize": "10000000000",
    "quoteMaxSize": "99999999",
    "baseIncrement": "0.00000001",
    "quoteIncrement": "0.000001",
    "priceIncrement": "0.1",
    "priceLimitRate": "0.1",
    "minFunds": "0.1",
    "isMarginEnabled": False,
    "enableTrading": True,
}
