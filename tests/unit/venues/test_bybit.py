"""Bybit: its frames, requests and the order of its book changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingestd.records import Tick, Trade
from ingestd.venues.bybit import Bybit
from ingestd.venues.messages import BookChange, Message, Notice
from ingestd.venues.venue import Asked, Venue

SYMBOLS = {"BTCUSDT": "BTC/USDT:USDT", "ETHUSDT": "ETH/USDT:USDT"}
START = 1_000
AT = 1_790_000_000_000_123
SENT = 1_789_999_999_999
TIME = SENT * 1000


def decoded(*documents: Any) -> list[Message]:
    """What the last of these frames says."""
    decode = Bybit({}).decoder(SYMBOLS, START)
    frames = [document if isinstance(document, bytes) else json.dumps(document).encode() for document in documents]
    return [list(decode(frame, AT)) for frame in frames][-1]


def trades(*rows: dict[str, Any], topic: str = "publicTrade.BTCUSDT") -> dict[str, Any]:
    return {"topic": topic, "type": "snapshot", "ts": SENT, "data": list(rows)}


def trade(name: str, **changes: Any) -> dict[str, Any]:
    return {"T": SENT, "s": "BTCUSDT", "S": "Buy", "v": "0.0010", "p": "10.10", "i": name, "BT": False, **changes}


def book(depth: int, kind: str, bids: Any, asks: Any, **changes: Any) -> dict[str, Any]:
    data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": 5, "seq": 7961638724}
    return {"topic": f"orderbook.{depth}.BTCUSDT", "type": kind, "ts": SENT, "data": data, "cts": 1, **changes}


BEST = book(1, "snapshot", [["10.10", "2.0"]], [["10.20", "3.0"]])


def test_trades_in_their_order_with_their_text() -> None:
    """An id that is no number is put in the order of arrival."""
    assert decoded(trades(trade("2290000000068683805"), trade("20f43950-d8dd", S="Sell"), trade("a", S=""))) == [
        Trade("bybit", "BTC/USDT:USDT", TIME, AT, "2290000000068683805", 2290000000068683805, "buy", "10.10", "0.0010"),
        Trade("bybit", "BTC/USDT:USDT", TIME, AT, "20f43950-d8dd", START + 1, "sell", "10.10", "0.0010"),
        Trade("bybit", "BTC/USDT:USDT", TIME, AT, "a", START + 2, None, "10.10", "0.0010"),
    ]


def tick(bid: tuple[str | None, str | None], ask: tuple[str | None, str | None]) -> list[Message]:
    return [Tick("bybit", "BTC/USDT:USDT", TIME, AT, *bid, *ask)]


def test_the_best_price() -> None:
    assert decoded(BEST) == tick(("10.10", "2.0"), ("10.20", "3.0"))


@pytest.mark.parametrize(
    ("bids", "asks", "bid", "ask"),
    [
        ([["10.10", "1.5"]], [], ("10.10", "1.5"), ("10.20", "3.0")),
        ([], [["10.20", "0"], ["10.15", "4"]], ("10.10", "2.0"), ("10.15", "4")),
        ([], [["10.15", "4"], ["10.20", "0.000"]], ("10.10", "2.0"), ("10.15", "4")),
        ([["10.10", "0"]], [], (None, None), ("10.20", "3.0")),
        ([], [["10.20", "0"]], ("10.10", "2.0"), (None, None)),
        ([["9.90", "0"]], [], ("10.10", "2.0"), ("10.20", "3.0")),
    ],
)
def test_a_change_of_the_best_price_keeps_the_other_side(bids: Any, asks: Any, bid: Any, ask: Any) -> None:
    assert decoded(BEST, book(1, "delta", bids, asks)) == tick(bid, ask)


def test_a_best_price_that_is_gone_is_no_tick() -> None:
    assert decoded(BEST, book(1, "delta", [["10.10", "0"]], [["10.20", "0"]])) == []
    assert decoded(BEST, book(1, "snapshot", [], [])) == []


def test_a_change_of_what_was_never_said_is_no_tick() -> None:
    assert decoded(book(1, "delta", [["10.10", "1"]], [])) == []


def test_best_prices_of_two_markets_stay_apart() -> None:
    other = {**BEST, "topic": "orderbook.1.ETHUSDT"}
    change = book(1, "delta", [["10.30", "1"]], [], topic="orderbook.1.ETHUSDT")

    assert decoded(BEST, other, change, book(1, "delta", [], [])) == tick(("10.10", "2.0"), ("10.20", "3.0"))


def test_a_book_and_its_change() -> None:
    (whole,) = decoded(book(50, "snapshot", [["10.10", "2.0"], ["10.00", "1"]], [["10.20", "3.0"]]))
    (change,) = decoded(book(50, "delta", [["10.00", "0"]], []))

    assert isinstance(whole, BookChange)
    assert isinstance(change, BookChange)
    assert (whole.is_snapshot, change.is_snapshot) == (True, False)
    assert (whole.last, whole.time, whole.received_at, whole.symbol) == (5, TIME, AT, "BTC/USDT:USDT")
    assert [tuple(row) for row in change.bids] == [("10.00", "0")]


ACK = {"success": True, "ret_msg": "", "conn_id": "7188110e", "req_id": "3", "op": "subscribe"}


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"success": True, "ret_msg": "pong", "conn_id": "x", "req_id": "", "op": "ping"}, [Notice("heartbeat")]),
        ({"req_id": "test", "op": "pong", "args": ["1675418560633"], "conn_id": "x"}, [Notice("heartbeat")]),
        (ACK, [Notice("subscribed")]),
        ({**ACK, "op": "unsubscribe"}, [Notice("unsubscribed")]),
        (
            {**ACK, "success": False, "ret_msg": "error:handler not found,topic:publicTrade.NOUSDT"},
            [Notice("refused", "error:handler not found,topic:publicTrade.NOUSDT", "NOUSDT")],
        ),
        (
            {**ACK, "success": False, "ret_msg": "Invalid symbol :[orderbook.50.NOUSDT,publicTrade.NEITHER]"},
            [Notice("refused", "Invalid symbol :[orderbook.50.NOUSDT,publicTrade.NEITHER]", None)],
        ),
        ({**ACK, "success": False, "ret_msg": "args size >10"}, [Notice("refused", "args size >10", None)]),
        (
            {**ACK, "success": False, "ret_msg": "error:already subscribed,topic:publicTrade.BTCUSDT"},
            [Notice("subscribed", "error:already subscribed,topic:publicTrade.BTCUSDT", "BTCUSDT")],
        ),
        ({"topic": "tickers.BTCUSDT", "type": "snapshot", "ts": SENT, "data": {"symbol": "BTCUSDT"}}, []),
        ({"topic": "kline.1.BTCUSDT", "type": "snapshot", "ts": SENT, "data": [{"open": "1"}]}, []),
        (trades(trade("1"), topic="publicTrade.XRPUSDT"), []),
        (trades(topic="liquidation.BTCUSDT"), []),
    ],
)
def test_answers_and_what_is_left_out(frame: Any, expected: list[Notice]) -> None:
    assert decoded(frame) == expected


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"pong",
        b"[]",
        b"{}",
        b'{"x":' + b"[" * 100_000,
        b'{"topic":"publicTrade.BTCUSDT","data":' + b"[" * 100_000,
        {"op": "no such answer"},
        {"topic": "publicTrade.BTCUSDT"},
        trades(trade("1"), trade("2", p="")),
        trades(trade("1"), {"T": SENT, "p": "1", "v": "1"}),
        trades(trade("")),
        trades(trade("1", T=0)),
        trades(trade("1", T=str(SENT))),
        trades(trade("1", p=10.1)),
        {**trades(), "data": BEST["data"]},
        {**BEST, "data": [trade("1")]},
        {**BEST, "type": "no such type"},
        {**BEST, "ts": 0},
        book(1, "snapshot", [["10.1"]], []),
        book(50, "delta", None, []),
        book(50, "", [], []),
        book(50, "delta", [], [], ts=-1),
    ],
)
def test_what_is_not_documented_is_refused_whole(frame: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the library's
        decoded(frame)


@pytest.mark.parametrize(
    ("last", "sequence", "follows"),
    [(6, 5, True), (5, 5, None), (4, 5, None), (7, 5, False), (6, None, False), (None, 5, False)],
)
def test_how_changes_follow(last: int | None, sequence: int | None, follows: bool | None) -> None:
    change = BookChange("BTC/USDT", 0, 0, (), (), last=last)

    assert Bybit.book_rule.follows(change, sequence) is follows


def test_it_asks_for_the_streams_that_ccxt_asks_for() -> None:
    venue: Venue = Bybit({})
    streams = [Asked(channel, "BTCUSDT") for channel in ("trades", "ticks", "order_book")]

    assert [json.loads(message) for message in venue.subscribe(streams, 3)] == [
        {
            "op": "subscribe",
            "req_id": "3",
            "args": ["publicTrade.BTCUSDT", "orderbook.1.BTCUSDT", "orderbook.50.BTCUSDT"],
        }
    ]
    assert json.loads(venue.unsubscribe(streams, 3)[0])["op"] == "unsubscribe"
    assert venue.channels == {"trades", "ticks", "order_book", "liquidations", "mark_prices"}


@pytest.mark.parametrize(
    ("market", "kind"),
    [({"spot": True}, "spot"), ({"linear": True}, "linear"), ({"inverse": True, "linear": False}, "inverse")],
)
def test_each_kind_of_market_has_its_socket(market: dict[str, Any], kind: str) -> None:
    assert Bybit({}).address(market, "trades") == f"wss://stream.bybit.com/v5/public/{kind}"


def test_requests_are_within_the_limits() -> None:
    venue = Bybit({})
    streams = [Asked("order_book", f"{number}BABYDOGEUSDT") for number in range(23)]

    asked = [json.loads(message) for message in venue.subscribe(streams, 8)]

    assert [len(message["args"]) for message in asked] == [10, 10, 3]
    assert [message["req_id"] for message in asked] == ["8", "9", "10"]
    assert [topic for message in asked for topic in message["args"]] == [f"orderbook.50.{s.market_id}" for s in streams]
