"""Broken books of each kind through the venues' own code: nothing of them is handed over until they are begun anew."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

import pytest

from ingestd.feeds.ccxt.channels import Method
from ingestd.feeds.ccxt.forget import forget_book
from ingestd.records import BookSnapshot, FeedGap
from ingestd.venues.exact import ExactFloat
from ingestd.venues.kraken import kraken_checksum
from tests.unit.feeds.doubles import Wire

# The example of Kraken's page on the checksum, which states its result.
KRAKEN_ASKS = (
    "45285.2 0.00100000, 45286.4 1.54571953, 45286.6 1.54571109, 45289.6 1.54560911, 45290.2 0.15890660, "
    "45291.8 1.54553491, 45294.7 0.04454749, 45296.1 0.35380000, 45297.5 0.09945542, 45299.5 0.18772827"
)
KRAKEN_BIDS = (
    "45283.5 0.10000000, 45283.4 1.54582015, 45282.1 0.10000000, 45281.0 0.10000000, 45280.3 1.54592586, "
    "45279.0 0.07990000, 45277.6 0.03310103, 45277.5 0.30000000, 45277.3 1.54602737, 45276.6 0.15445238"
)
KRAKEN_CHECKSUM = 3310070434


def levels(text: str) -> list[tuple[str, str]]:
    return [(price, amount) for price, amount in (level.split() for level in text.split(", "))]


def kraken_frame(kind: str, bids: list[tuple[str, str]], asks: list[tuple[str, str]], checksum: int) -> str:
    """With the numbers' digits as they are, as Kraken sends them."""

    def side(of: list[tuple[str, str]]) -> str:
        return ",".join(f'{{"price":{price},"qty":{amount}}}' for price, amount in of)

    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{side(bids)}],"asks":[{side(asks)}],'
        f'"checksum":{checksum},"timestamp":"2023-10-06T17:35:55.440295Z"}}]}}'
    )


def checksum_of(bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> int:
    """As the page says it, step by step."""
    text = ""
    for price, amount in asks[:10] + bids[:10]:
        text += price.replace(".", "").lstrip("0") + amount.replace(".", "").lstrip("0")
    return zlib.crc32(text.encode())


def test_krakens_checksum_is_that_of_its_own_example() -> None:
    bids, asks = ([[ExactFloat(p), ExactFloat(a)] for p, a in levels(side)] for side in (KRAKEN_BIDS, KRAKEN_ASKS))
    assert kraken_checksum(bids, asks) == KRAKEN_CHECKSUM
    assert kraken_checksum(bids[:-1], asks) != KRAKEN_CHECKSUM


def assert_one_gap(wire: Wire, symbol: str, reason: str, *, before: int, after: int) -> None:
    """`before` and `after` it so many books, and none within."""
    opened, ended = wire.intake.of(FeedGap)
    assert (opened.channel, opened.symbol, opened.cause) == ("order_book", symbol, "book_broken")
    assert ended.ended_at is not None
    kinds = [type(record) for record in wire.intake.records]
    assert kinds == [BookSnapshot] * before + [FeedGap, FeedGap] + [BookSnapshot] * after
    assert wire.ledger.counts.book_resyncs == {reason: 1}
    assert wire.ledger.counts.malformed_frames == 0


async def test_kraken_a_checksum_that_is_not_ours() -> None:
    wire = Wire("kraken", {"BTC/USD": "XXBTZUSD"}, "wss://ws.kraken.com/v2", order_book_interval_ms=0)
    wire.client.subscriptions["orderbook@BTC/USD"] = {"limit": 10}
    bids, asks = levels(KRAKEN_BIDS), levels(KRAKEN_ASKS)
    snapshot = kraken_frame("snapshot", bids, asks, KRAKEN_CHECKSUM)
    wire.frames(snapshot)
    bids[0] = ("45283.5", "0.20000000")
    wire.frames(kraken_frame("update", bids[:1], [], checksum_of(bids, asks)))

    bids[1] = ("45283.4", "9.00000000")  # the venue changes this one, and we are not told
    bids[2] = ("45282.1", "0.30000000")
    wire.frames(kraken_frame("update", bids[2:3], [], checksum_of(bids, asks)))
    bids[3] = ("45281.0", "0.40000000")
    wire.frames(kraken_frame("update", bids[3:4], [], checksum_of(bids, asks)))
    wire.frames(kraken_frame("snapshot", bids, asks, checksum_of(bids, asks)))

    assert_one_gap(wire, "BTC/USD", "checksum", before=2, after=1)
    assert wire.intake.of(BookSnapshot)[-1].bids == tuple(bids)
    await wire.close()


async def test_kraken_a_market_whose_checksum_never_agreed_is_not_judged_by_it() -> None:
    wire = Wire("kraken", {"BTC/USD": "XXBTZUSD"}, "wss://ws.kraken.com/v2", order_book_interval_ms=0)
    wire.client.subscriptions["orderbook@BTC/USD"] = {"limit": 10}
    wire.frames(kraken_frame("snapshot", levels(KRAKEN_BIDS), levels(KRAKEN_ASKS), 1))

    assert len(wire.intake.of(BookSnapshot)) == 1
    assert wire.intake.of(FeedGap) == []
    await wire.close()


async def bitfinex(prec: str = "P0") -> Wire:
    wire = Wire("bitfinex", {"BTC/USD": "tBTCUSD"}, "wss://api-pub.bitfinex.com/ws/2", order_book_interval_ms=0)
    wire.frames(f'{{"event":"subscribed","channel":"book","chanId":7,"symbol":"tBTCUSD","prec":"{prec}","len":"25"}}')
    return wire


def bitfinex_checksum(*levels: str) -> int:
    """Of `price:amount` as they are sent, a bid and an ask in turn.

    https://docs.bitfinex.com/docs/ws-websocket-checksum
    """
    number = zlib.crc32(":".join(levels).encode())
    return number - 2**32 if number >= 2**31 else number


async def test_bitfinex_amounts_and_prices_that_are_sent_with_exponents() -> None:
    """As https://github.com/bitfinexcom/bfx-api-node-models/issues/70 has them; -12000 is sent without a point."""
    wire = await bitfinex()
    wire.frames("[7,[[5.6e-7,1,60712.4250231],[5.5e-7,8,5.6e-7],[0.0000082,1,-12000],[0.000009,1,-1.5e-7]]]")
    first = bitfinex_checksum("5.6e-7:60712.4250231", "0.0000082:-12000", "5.5e-7:5.6e-7", "0.000009:-1.5e-7")
    wire.frames(f'[7,"cs",{first}]', "[7,[0.0000082,2,-3.4e-7]]", "[7,[5.5e-7,1,100]]")
    second = bitfinex_checksum("5.6e-7:60712.4250231", "0.0000082:-3.4e-7", "5.5e-7:100", "0.000009:-1.5e-7")
    wire.frames(f'[7,"cs",{second}]')
    assert wire.intake.of(FeedGap) == []
    assert len(wire.intake.of(BookSnapshot)) == 3

    wire.frames(f'[7,"cs",{first}]')  # it knows how to compute it: this book is another one
    (gap,) = wire.intake.of(FeedGap)
    assert (gap.cause, gap.channel) == ("book_broken", "order_book")
    wire.frames("[7,[5.5e-7,1,200]]")
    assert len(wire.intake.of(BookSnapshot)) == 3
    await wire.close()


async def test_bitfinex_a_raw_book_is_checked_by_its_orders() -> None:
    wire = await bitfinex("R0")
    wire.frames("[7,[[8537681760,136.39,8.688],[8537665091,136.4,-0.657868]]]")
    wire.frames(f'[7,"cs",{bitfinex_checksum("8537681760:8.688", "8537665091:-0.657868")}]')
    assert wire.intake.of(FeedGap) == []
    wire.frames('[7,"cs",1]')
    assert len(wire.intake.of(FeedGap)) == 1
    await wire.close()


def bitget_frame(action: str, bids: list[list[str]], asks: list[list[str]], checksum: int) -> str:
    data = {"asks": asks, "bids": bids, "checksum": checksum, "ts": "1790000000000"}
    asked = {"instType": "SPOT", "channel": "books", "instId": "BTCUSDT"}
    return json.dumps({"action": action, "arg": asked, "data": [data]})


def independentreserve_frame(event: str, bids: list[tuple[float, float]], checksum: int) -> str:
    rows = [{"Price": price, "Volume": volume} for price, volume in bids]
    data = {"Bids": rows, "Offers": [{"Price": 200.5, "Volume": 0.5}], "Crc32": checksum}
    return json.dumps({"Channel": "orderbook/100/xbt/aud", "Data": data, "Time": 1790000000000, "Event": event})


def independentreserve_checksum(*numbers: float) -> int:
    """Eight decimals, no point, no leading zeros."""
    return zlib.crc32("".join(f"{number:.8f}".replace(".", "").lstrip("0") for number in numbers).encode())


@pytest.mark.parametrize("agrees", [True, False])
async def test_bitget_is_judged_once_its_checksum_has_agreed(agrees: bool) -> None:
    wire = Wire("bitget", {"BTC/USDT": "BTCUSDT"}, "wss://ws.bitget.com/v2/ws/public", order_book_interval_ms=0)
    right = bitfinex_checksum("27000.10:2.710", "27000.50:8.760")  # the same way, with the ask's amount as it is
    wire.frames(bitget_frame("snapshot", [["27000.10", "2.710"]], [["27000.50", "8.760"]], right if agrees else 0))
    wire.frames(bitget_frame("update", [["27000.10", "3"]], [], 0))

    assert len(wire.intake.of(BookSnapshot)) == (1 if agrees else 2)
    assert len(wire.intake.of(FeedGap)) == agrees
    assert wire.ledger.counts.book_resyncs == ({"checksum": 1} if agrees else {})
    await wire.close()


@pytest.mark.parametrize("agrees", [True, False])
async def test_independent_reserve_is_judged_once_its_checksum_has_agreed(agrees: bool) -> None:
    wire = Wire(
        "independentreserve",
        {"BTC/AUD": "XBT/AUD"},
        "wss://websockets.independentreserve.com/orderbook/100",
        order_book_interval_ms=0,
    )
    snapshot = independentreserve_frame("OrderBookSnapshot", [(100.25, 5.6e-7)], 1)
    right = independentreserve_checksum(100.25, 2.0, 200.5, 0.5)
    wire.frames(snapshot, independentreserve_frame("OrderBookChange", [(100.25, 2.0)], right if agrees else 1))
    wire.frames(independentreserve_frame("OrderBookChange", [(100.25, 3.0)], 2))

    assert len(wire.intake.of(BookSnapshot)) == (1 if agrees else 2)
    assert len(wire.intake.of(FeedGap)) == agrees
    await wire.close()


async def test_a_checksum_that_contradicts_book_after_book_is_not_the_books_fault() -> None:
    """Something new is in the book of which the digits are not those that the venue sums up."""
    wire = await bitfinex()
    good = bitfinex_checksum("100:1", "101:-1")
    for _ in range(5):
        wire.frames("[7,[[100,1,1],[101,1,-1]]]", f'[7,"cs",{good}]', "[7,[100,1,2]]", '[7,"cs",17]')
        wire.frames("[7,[[100,1,2],[101,1,-1]]]", '[7,"cs",17]', "[7,[[100,1,2],[101,1,-1]]]", '[7,"cs",17]')
        before = len(wire.intake.of(BookSnapshot))
        wire.frames("[7,[[100,1,2],[101,1,-1]]]", '[7,"cs",17]', "[7,[100,1,3]]", '[7,"cs",17]')
        assert len(wire.intake.of(BookSnapshot)) == before + 2
    await wire.close()


async def test_kraken_is_asked_to_end_the_subscription_of_that_book_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends a book anew only then."""
    symbols = {"BTC/USD": "XXBTZUSD", "ETH/USD": "XETHZUSD"}
    wire = Wire("kraken", symbols, "wss://ws.kraken.com/v2")
    wire.client.subscriptions.update({"orderbook@BTC/USD": {}, "orderbook@ETH/USD": {}, "trade@BTC/USD": {}})
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    monkeypatch.setattr(wire.client, "send", send)
    await forget_book(wire.exchange, "BTC/USD")

    assert [(m["method"], m["params"]) for m in sent] == [("unsubscribe", {"channel": "book", "symbol": ["BTC/USD"]})]
    assert set(wire.client.subscriptions) == {"orderbook@ETH/USD", "trade@BTC/USD"}

    asked: asyncio.Queue[Any] = asyncio.Queue()
    wire.client.connected.resolve("wss://ws.kraken.com/v2")
    monkeypatch.setattr(wire.client, "send", asked.put)
    monkeypatch.setattr(wire.client, "connect", lambda *_: None)
    waiting = asyncio.create_task(wire.exchange.watch_order_book_for_symbols(list(symbols)))
    async with asyncio.timeout(60):
        again = await asked.get()
    waiting.cancel()

    assert again["params"]["symbol"] == ["BTC/USD"]
    await wire.close()


@pytest.mark.parametrize(
    ("exchange", "url"),
    [("cryptocom", "wss://stream.crypto.com/exchange/v1/market"), ("htx", "wss://api.huobi.pro/ws")],
)
async def test_a_book_that_the_venues_code_lets_stand_is_let_go_before_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, exchange: str, url: str
) -> None:
    wire = Wire(exchange, {"BTC/USDT": "BTC_USDT", "ETH/USDT": "ETH_USDT"}, url)
    calls: list[tuple[str, Any]] = []

    async def ends(symbol: str) -> None:
        calls.append(("unwatch", symbol))

    async def begins(symbol: str) -> None:
        calls.append(("watch", symbol))

    monkeypatch.setattr(wire.exchange, "un_watch_order_book", ends)
    monkeypatch.setattr(wire.exchange, "watch_order_book", begins)
    wire.reader.on_book_broken("BTC/USDT")
    for symbol in ("ETH/USDT", "BTC/USDT", "BTC/USDT"):
        await wire.session.watch(Method("watch_order_book"), [symbol])

    assert calls == [
        ("watch", "ETH/USDT"),
        ("unwatch", "BTC/USDT"),
        ("watch", "BTC/USDT"),
        ("watch", "BTC/USDT"),
    ]
    await wire.close()


def okx_frame(action: str, bids: list[list[str]], asks: list[list[str]], before: int, sequence: int) -> str:
    book = {"asks": asks, "bids": bids, "ts": "1626532416403", "prevSeqId": before, "seqId": sequence}
    return json.dumps({"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": action, "data": [book]})


async def test_okx_a_sequence_with_a_hole() -> None:
    wire = Wire("okx", {"BTC/USDT": "BTC-USDT"}, "wss://ws.okx.com:8443/ws/v5/public", order_book_interval_ms=0)
    bid, ask = ["31684.9", "0.01", "0", "1"], ["31685", "0.78069158", "0", "17"]
    wire.client.subscriptions["books:BTC/USDT"] = True
    wire.frames(okx_frame("snapshot", [bid], [ask], -1, 10), okx_frame("update", [bid], [], 10, 12))
    wire.frames(okx_frame("update", [bid], [], 13, 14), okx_frame("update", [bid], [], 14, 15))
    wire.client.subscriptions["books:BTC/USDT"] = True  # subscribed again
    wire.frames(okx_frame("snapshot", [bid], [ask], -1, 16))

    assert_one_gap(wire, "BTC/USDT", "sequence", before=2, after=1)
    assert [book.sequence for book in wire.intake.of(BookSnapshot)] == [10, 12, 16]
    await wire.close()


async def test_binance_what_comes_while_a_book_is_begun_anew_is_not_handed_over() -> None:
    wire = Wire("binance", {"BTC/USDT": "BTCUSDT"}, "wss://stream.binance.com:9443/ws/0", order_book_interval_ms=0)
    snapshot = {"symbol": "BTC/USDT", "bids": [[1.0, 1.0]], "asks": [[2.0, 1.0]], "nonce": 10}

    def update(first: int, last: int) -> str:
        return json.dumps(
            {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": first, "u": last, "b": [["1", "3"]], "a": []}
        )

    wire.exchange.orderbooks["BTC/USDT"] = wire.exchange.order_book(snapshot)
    wire.client.subscriptions["orderbook::BTC/USDT"] = {}
    wire.frames(update(11, 12), update(14, 15), update(16, 17))
    assert "BTC/USDT" not in wire.exchange.orderbooks
    assert "orderbook::BTC/USDT" not in wire.client.rejections
    wire.exchange.orderbooks["BTC/USDT"] = wire.exchange.order_book({**snapshot, "nonce": 17})
    wire.frames(update(18, 18))

    assert_one_gap(wire, "BTC/USDT", "sequence", before=1, after=1)
    await wire.close()


def gate_frame(first: int, last: int) -> str:
    result = {"t": 1, "e": "depthUpdate", "E": 1, "s": "BTC_USDT", "U": first, "u": last, "b": [["1", "3"]], "a": []}
    return json.dumps({"time": 1, "channel": "spot.order_book_update", "event": "update", "result": result})


async def test_gate_whose_code_hands_an_emptied_book_over() -> None:
    """It rejects the broken book, and resolves it in the same breath, without a sequence."""
    wire = Wire("gate", {"BTC/USDT": "BTC_USDT"}, "wss://api.gateio.ws/ws/v4/", order_book_interval_ms=0)
    snapshot = {"symbol": "BTC/USDT", "bids": [[1.0, 1.0]], "asks": [[2.0, 1.0]], "nonce": 10}
    wire.exchange.orderbooks["BTC/USDT"] = wire.exchange.order_book(snapshot)
    wire.client.subscriptions["orderbook:BTC/USDT"] = {"limit": 100}
    wire.frames(gate_frame(11, 12), gate_frame(14, 15), gate_frame(16, 17))
    wire.exchange.orderbooks["BTC/USDT"].reset({**snapshot, "nonce": 17})
    wire.frames(gate_frame(18, 18))

    assert_one_gap(wire, "BTC/USDT", "sequence", before=1, after=1)
    await wire.close()
