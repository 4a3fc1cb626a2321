"""Books that begin with one over REST: every change that is newer than it goes onto it, or there is no book yet.

Changes and replies are written as the venues' documents write them; the venue has the model's book.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ingestd.records import BookSnapshot, FeedGap
from tests.support.book_venues import ModelBook, stored
from tests.unit.feeds.doubles import Wire

MS = 1_790_000_000_000
STEP = 3  # numbers to a change
GATHERED = 40  # more than any venue's code gathers before it asks


@dataclass(frozen=True)
class RestVenue:
    """`change(first, last, bids, asks)` is a frame, `whole(number, bids, asks)` the reply over REST."""

    exchange: str
    url: str
    change: Callable[[int, int, Any, Any], Any]
    whole: Callable[[int, Any, Any], Any]
    symbol: str = "BTC/USDT"
    market_id: str = "BTCUSDT"
    begun: Sequence[Any] = ()
    noted: Mapping[str, Any] = field(default_factory=dict)
    is_consecutive: bool = True


def _bitstamp_change(_first: int, last: int, bids: Any, asks: Any) -> Any:
    data = {"timestamp": "1790000000", "microtimestamp": str(last), "bids": bids, "asks": asks}
    return {"data": data, "channel": "diff_order_book_btcusd", "event": "data"}


def _kucoin_change(first: int, last: int, bids: Any, asks: Any) -> Any:
    changes = {"bids": [[*row, str(last)] for row in bids], "asks": [[*row, str(last)] for row in asks]}
    data = {"changes": changes, "sequenceStart": first, "sequenceEnd": last, "symbol": "BTC-USDT", "time": MS}
    return {"type": "message", "topic": "/market/level2:BTC-USDT", "subject": "trade.l2update", "data": data}


def _gate_change(first: int, last: int, bids: Any, asks: Any) -> Any:
    sides = {"b": [{"p": p, "s": float(a)} for p, a in bids], "a": [{"p": p, "s": float(a)} for p, a in asks]}
    result = {"t": MS, "s": "BTC_USDT", "U": first, "u": last, **sides}
    return {"time": MS // 1000, "channel": "futures.order_book_update", "event": "update", "result": result}


def _gate_whole(number: int, bids: Any, asks: Any) -> Any:
    sides = {"bids": [{"p": p, "s": float(a)} for p, a in bids], "asks": [{"p": p, "s": float(a)} for p, a in asks]}
    return {"id": number, "current": MS / 1000, "update": MS / 1000, **sides}


def _backpack_change(first: int, last: int, bids: Any, asks: Any) -> Any:
    data = {"e": "depth", "E": MS * 1000, "T": MS * 1000, "s": "BTC_USDT", "U": first, "u": last, "b": bids, "a": asks}
    return {"data": data, "stream": "depth.BTC_USDT"}


def _mexc_change(first: int, last: int, bids: Any, asks: Any) -> Any:
    sides = {"bids": [[float(p), float(a), 1] for p, a in bids], "asks": [[float(p), float(a), 1] for p, a in asks]}
    data = {**sides, "begin": first, "end": last, "version": last}
    return {"channel": "push.depth", "data": data, "symbol": "BTC_USDT", "ts": MS}


def _mexc_whole(number: int, bids: Any, asks: Any) -> Any:
    sides = {"bids": [[float(p), float(a), 1] for p, a in bids], "asks": [[float(p), float(a), 1] for p, a in asks]}
    return {"success": True, "code": 0, "data": {**sides, "version": number, "timestamp": MS}}


def _xt_change(first: int, last: int, bids: Any, asks: Any) -> Any:
    data = {"s": "btc_usdt", "fi": first, "i": last, "a": asks, "b": bids, "t": MS}
    return {"topic": "depth_update", "event": "depth_update@btc_usdt", "data": data}


def _xt_whole(number: int, bids: Any, asks: Any) -> Any:
    result = {"timestamp": MS, "lastUpdateId": number, "bids": bids, "asks": asks}
    return {"rc": 0, "mc": "SUCCESS", "ma": [], "result": result}


def _xt_futures_change(first: int, last: int, bids: Any, asks: Any) -> Any:
    numbers = {"pu": str(first - 1), "fu": str(first), "u": str(last)}
    data = {"s": "btc_usdt", **numbers, "a": asks, "b": bids, "t": MS}
    return {"topic": "depth_update", "event": "depth_update@btc_usdt", "data": data}


def _xt_futures_whole(number: int, bids: Any, asks: Any) -> Any:
    result = {"t": MS, "s": "btc_usdt", "u": number, "b": bids, "a": asks}
    return {"returnCode": 0, "msgInfo": "success", "error": None, "result": result}


VENUES = (
    RestVenue(
        "bitstamp",
        "wss://ws.bitstamp.net",
        _bitstamp_change,
        lambda number, bids, asks: (
            {"timestamp": "1790000000", "microtimestamp": str(number), "bids": bids, "asks": asks}
        ),
        "BTC/USD",
        "btcusd",
        begun=({"event": "bts:subscription_succeeded", "channel": "diff_order_book_btcusd", "data": {}},),
        is_consecutive=False,
    ),
    RestVenue(
        "kucoin",
        "wss://ws-api-spot.kucoin.com/?token=x",
        _kucoin_change,
        lambda number, bids, asks: (
            {"code": "200000", "data": {"sequence": str(number), "time": MS, "bids": bids, "asks": asks}}
        ),
        market_id="BTC-USDT",
    ),
    RestVenue(
        "gate",
        "wss://fx-ws.gateio.ws/v4/ws/usdt",
        _gate_change,
        _gate_whole,
        "BTC/USDT:USDT",
        "BTC_USDT",
        begun=({"time": 1, "id": 1, "channel": "futures.order_book_update", "event": "subscribe"},),
        noted={
            "1": "orderbook:BTC/USDT:USDT",
            "orderbook:BTC/USDT:USDT": {"symbol": "BTC/USDT:USDT", "limit": 100},
        },
    ),
    RestVenue(
        "backpack",
        "wss://ws.backpack.exchange",
        _backpack_change,
        lambda number, bids, asks: ({"asks": asks, "bids": bids, "lastUpdateId": str(number), "timestamp": MS * 1000}),
        market_id="BTC_USDT",
    ),
    RestVenue("mexc", "wss://contract.mexc.com/edge", _mexc_change, _mexc_whole, "BTC/USDT:USDT", "BTC_USDT"),
    RestVenue("xt", "wss://stream.xt.com/public", _xt_change, _xt_whole, market_id="btc_usdt"),
    RestVenue(
        "xt",
        "wss://fstream.xt.com/ws/market",
        _xt_futures_change,
        _xt_futures_whole,
        "BTC/USDT:USDT",
        "btc_usdt",
    ),
)


class Rest:
    """A feed of one book, and the venue: what it has after each change, and what it answers over REST."""

    def __init__(self, venue: RestVenue, monkeypatch: pytest.MonkeyPatch) -> None:
        self.venue = venue
        self.wire = Wire(venue.exchange, {venue.symbol: venue.market_id}, venue.url, order_book_interval_ms=0)
        self.book = ModelBook({"100": "1", "99": "2"}, {"101": "1.5", "102": "2.5"})
        self.number = 1000
        self.asked = 0
        self.answers: list[tuple[int, ModelBook]] = []  # the last one again and again
        self.wire.exchange.market(venue.symbol)["stock"] = False  # asked for by backpack's code
        monkeypatch.setattr(self.wire.exchange, "fetch", self._fetch)
        self.note()
        self.wire.frames(*map(json.dumps, venue.begun))

    def note(self) -> None:
        """As the library does when it subscribes."""
        self.wire.client.subscriptions.update(self.venue.noted)

    async def _fetch(self, _url: str, *_: Any, **__: Any) -> Any:
        number, book = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return self.venue.whole(number, [list(r) for r in book.rows("bids")], [list(r) for r in book.rows("asks")])

    def change(self, *, told: bool = True) -> None:
        """The next change: another amount of one of a few levels."""
        first, self.number = self.number + 1, self.number + STEP
        price, amount = f"{98 + self.number % 5 / 10:g}", str(self.number)
        self.book.change("bids", price, amount)
        if told:
            self.wire.frames(json.dumps(self.venue.change(first, self.number, [[price, amount]], [])))

    def now(self, *, before: int = 0) -> tuple[int, ModelBook]:
        """The book as it is, with a number that is so much less than the last change's."""
        return self.number - before, ModelBook(dict(self.book.bids), dict(self.book.asks))

    async def until_begun(self, books: int = 0) -> None:
        """Until there is a record more than so many, with changes coming, as they do."""
        for _ in range(300):
            if len(self.records) > books:
                return
            await asyncio.sleep(0.005)  # the library paces its requests
            self.change()
        raise AssertionError("there is no book")

    @property
    def records(self) -> list[BookSnapshot]:
        return self.wire.intake.of(BookSnapshot)


@pytest.fixture(params=VENUES, ids=lambda venue: f"{venue.exchange} {venue.symbol}")
async def rest(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rest]:
    made = Rest(request.param, monkeypatch)
    yield made
    await made.wire.close()


@pytest.mark.parametrize("off", [0, 1, 2])
async def test_the_changes_that_are_newer_than_the_reply_go_onto_it(rest: Rest, off: int) -> None:
    """Its number is that of a change, or within those of one (whose amounts it may have or not)."""
    for _ in range(3):
        rest.change()
    number, book = rest.now(before=0 if rest.venue.is_consecutive else -off)
    rest.answers = [(number - (off if rest.venue.is_consecutive else 0), book)]
    for _ in range(GATHERED):
        rest.change()
    await rest.until_begun()
    assert stored(rest.records[-1]) == rest.book.as_numbers()

    rest.change()
    assert stored(rest.records[-1]) == rest.book.as_numbers()
    assert rest.asked == 1


async def test_a_reply_that_is_older_than_what_was_gathered_is_asked_for_again(rest: Rest) -> None:
    rest.answers = [rest.now()]
    rest.change(told=False)
    rest.change(told=False)
    rest.change()
    rest.answers.append(rest.now())
    for _ in range(GATHERED):
        rest.change()
    await rest.until_begun()

    assert stored(rest.records[-1]) == rest.book.as_numbers()
    assert rest.asked == 2


async def test_a_change_that_is_missing_among_those_that_were_gathered(rest: Rest) -> None:
    """The reply must be newer than what is missing."""
    if not rest.venue.is_consecutive:
        return  # nobody could tell
    rest.change()
    rest.answers = [rest.now()]
    rest.change()
    rest.change(told=False)
    rest.change()
    rest.answers.append(rest.now())
    for _ in range(GATHERED):
        rest.change()
    await rest.until_begun()

    assert stored(rest.records[-1]) == rest.book.as_numbers()
    assert rest.asked == 2


async def test_a_change_that_is_missing_later_has_the_book_begun_anew(rest: Rest) -> None:
    if not rest.venue.is_consecutive:
        return
    rest.change()
    rest.answers = [rest.now()]
    for _ in range(GATHERED):
        rest.change()
    await rest.until_begun()

    rest.change(told=False)
    books = len(rest.records)
    rest.change()
    rest.answers = [rest.now()]
    for _ in range(GATHERED):
        rest.change()
        rest.note()
    await rest.until_begun(books)

    assert stored(rest.records[-1]) == rest.book.as_numbers()
    opened, ended = rest.wire.intake.of(FeedGap)
    assert (opened.cause, opened.ended_at) == ("book_broken", None)
    assert ended.ended_at is not None
    kinds = [type(record) for record in rest.wire.intake.records]
    assert kinds.index(FeedGap) == books


def _bitvavo(wire: Wire) -> tuple[str, Callable[[int, str], str]]:
    wire.client.subscriptions["book@BTC-EUR"] = {"symbol": "BTC/EUR", "watchingOrderBookSnapshot@BTC-EUR": True}
    wire.frames('{"event":"subscribed","subscriptions":{"book":["BTC-EUR"]}}')
    book = {"market": "BTC-EUR", "nonce": 10, "bids": [["100", "1"]], "asks": [["101", "1"]]}

    def change(number: int, amount: str) -> str:
        said = {"event": "book", "market": "BTC-EUR", "nonce": number, "bids": [["100", amount]], "asks": []}
        return json.dumps(said)

    return json.dumps({"action": "getBook", "response": book}), change


def _bittrade(wire: Wire) -> tuple[str, Callable[[int, str], str]]:
    name = "market.btceur.mbp.150"
    note = {"id": "5", "symbol": "BTC/EUR", "messageHash": name, "limit": 150}
    wire.client.subscriptions["5"] = {**note, "method": wire.exchange.handle_order_book_snapshot}
    wire.exchange.orderbooks["BTC/EUR"] = wire.exchange.order_book({}, 150)
    data = {"seqNum": 10, "bids": [[100, 1]], "asks": [[101, 1]]}

    def change(number: int, amount: str) -> str:
        tick = {"seqNum": number, "prevSeqNum": number - 1, "bids": [[100, float(amount)]], "asks": []}
        return json.dumps({"ch": name, "ts": MS, "tick": tick})

    return json.dumps({"id": "5", "rep": name, "status": "ok", "ts": MS, "data": data}), change


@pytest.mark.parametrize(
    ("exchange", "url", "begin"),
    [("bitvavo", "wss://ws.bitvavo.com/v2", _bitvavo), ("bittrade", "wss://api-cloud.bittrade.co.jp/ws", _bittrade)],
)
@pytest.mark.parametrize("missing", ["while it is gathered", "later"])
async def test_a_change_is_missing_where_the_whole_book_comes_over_the_socket(
    exchange: str, url: str, begin: Callable[[Wire], tuple[str, Callable[[int, str], str]]], missing: str
) -> None:
    market_id = "BTC-EUR" if exchange == "bitvavo" else "btceur"
    wire = Wire(exchange, {"BTC/EUR": market_id}, url, order_book_interval_ms=0)
    whole, change = begin(wire)
    if missing == "later":
        wire.frames(change(9, "7"), change(10, "8"), change(11, "3"), whole, change(12, "4"))
        assert [stored(book)[0] for book in wire.intake.of(BookSnapshot)] == [[(100.0, 3.0)], [(100.0, 4.0)]]
        wire.frames(change(14, "5"), change(15, "6"))
    else:
        wire.frames(change(9, "7"), change(12, "3"), whole, change(13, "4"))

    assert [book for book in wire.intake.of(BookSnapshot) if stored(book)[0][0][1] not in (3.0, 4.0)] == []
    assert len(wire.intake.of(BookSnapshot)) == (2 if missing == "later" else 0)
    assert wire.ledger.counts.book_resyncs == {"sequence": 1}
    await wire.close()
