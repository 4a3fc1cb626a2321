"""Binance: its frames, requests and the order of its book changes, as its documents have them.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingestd.records import Tick, Trade
from ingestd.venues.binance import Binance
from ingestd.venues.messages import BookChange, Message, Notice
from ingestd.venues.venue import Asked, Venue

SYMBOLS = {"BNBBTC": "BNB/BTC", "BTCUSDT": "BTC/USDT:USDT"}
AT = 1_790_000_000_000_123
SENT = 1672515782136
TIME = SENT * 1000


def decoded(document: Any, exchange: str = "binance") -> list[Message]:
    frame = document if isinstance(document, bytes) else json.dumps(document).encode()
    return list(Binance(exchange, {}).decoder(SYMBOLS, 1)(frame, AT))


TRADE = {
    "e": "trade", "E": SENT, "s": "BNBBTC", "t": 12345, "p": "0.00100", "q": "100.0", "T": SENT, "m": True, "M": True,
}  # fmt: skip
AGGREGATE = {
    "e": "aggTrade", "E": SENT, "s": "BNBBTC", "a": 12345, "p": "0.001", "q": "100", "f": 100, "l": 105, "T": SENT - 1,
    "m": False, "M": True,
}  # fmt: skip
SPOT_TICKER = {"u": 400900217, "s": "BNBBTC", "b": "25.35190000", "B": "31.21", "a": "25.36520000", "A": "40.66"}
FUTURES_TICKER = {
    "e": "bookTicker", "u": 400900217, "E": SENT, "T": SENT - 4, "s": "BTCUSDT", "b": "25.3", "B": "31", "a": "25.4",
    "A": "40",
}  # fmt: skip
DEPTH = {
    "e": "depthUpdate", "E": SENT, "s": "BNBBTC", "U": 157, "u": 160, "b": [["0.0024", "10"]], "a": [["0.0026", "0"]],
}  # fmt: skip


def trade(side: str, time: int = TIME, **more: Any) -> Trade:
    return Trade("binance", "BNB/BTC", time, AT, "12345", 12345, side, "0.00100", "100.0", **more)  # type: ignore[arg-type]


def test_a_trade_is_the_takers_the_venue_says_whether_the_buyer_made_it() -> None:
    assert decoded(TRADE) == [trade("sell")]
    assert decoded({**TRADE, "m": False}) == [trade("buy")]


def test_an_aggregate_has_the_id_of_its_own_series() -> None:
    assert decoded(AGGREGATE) == [
        Trade("binance", "BNB/BTC", TIME - 1000, AT, "12345", 12345, "buy", "0.001", "100"),
    ]


def test_a_time_in_microseconds_is_kept_as_it_is() -> None:
    assert decoded({**TRADE, "T": TIME + 7}) == [trade("sell", TIME + 7)]


@pytest.mark.parametrize(
    ("mark", "kind", "in_candles"),
    [
        ("MARKET", None, True),
        ("RPI", "rpi", True),
        ("INSURANCE_FUND", "insurance_fund", False),
        ("ADL", "adl", False),
        ("BLOCK", "block", True),
        ("A_NEW_ONE", "other", True),
    ],
)
def test_what_kind_of_trade_a_contract_s_is(mark: str, kind: Any, in_candles: bool) -> None:
    assert decoded({**TRADE, "X": mark}) == [trade("sell", kind=kind, in_candles=in_candles)]


def test_the_best_price_of_spot_has_no_time_of_its_own() -> None:
    assert decoded(SPOT_TICKER) == [
        Tick("binance", "BNB/BTC", AT, AT, "25.35190000", "31.21", "25.36520000", "40.66"),
    ]


def test_the_best_price_of_a_contract_has_the_venue_s_time() -> None:
    expected = [Tick("binanceusdm", "BTC/USDT:USDT", TIME, AT, "25.3", "31", "25.4", "40")]
    assert decoded(FUTURES_TICKER, "binanceusdm") == expected
    # Without its name, and in another order, it is one all the same.
    assert decoded({"s": "BTCUSDT", **{k: v for k, v in FUTURES_TICKER.items() if k != "e"}}, "binanceusdm") == expected


@pytest.mark.parametrize(("side", "without"), [("b", (None, "31.21")), ("a", ("25.35190000", "31.21"))])
def test_a_side_without_a_price_is_empty(side: str, without: tuple[str | None, str]) -> None:
    (tick,) = decoded({**SPOT_TICKER, side: "0.00000000"})
    assert isinstance(tick, Tick)
    assert (tick.bid_price, tick.bid_volume) == without
    assert (tick.ask_price is None) is (side == "a")
    assert decoded({**SPOT_TICKER, "b": "0.0", "a": "0.0"}) == []


def test_a_change_of_the_book() -> None:
    (change,) = decoded(DEPTH)
    assert isinstance(change, BookChange)
    assert (change.symbol, change.time, change.received_at) == ("BNB/BTC", TIME, AT)
    assert (change.first, change.last, change.previous, change.is_snapshot) == (157, 160, None, False)
    assert [list(map(tuple, side)) for side in (change.bids, change.asks)] == [[("0.0024", "10")], [("0.0026", "0")]]
    (change,) = decoded({**DEPTH, "pu": 149})
    assert isinstance(change, BookChange)
    assert change.previous == 149


@pytest.mark.parametrize("document", [TRADE, AGGREGATE, SPOT_TICKER, DEPTH, FUTURES_TICKER])
def test_a_combined_stream_says_the_same_and_another_market_nothing(document: dict[str, Any]) -> None:
    assert decoded({"stream": "bnbbtc@trade", "data": document}) == decoded(document) != []
    assert decoded({**document, "s": "NOUSDT"}) == []


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"result": None, "id": 312}, [Notice("subscribed")]),
        ({"error": {"code": 2, "msg": "Invalid request"}, "id": 3}, [Notice("refused", "2: Invalid request")]),
        ({"code": 0, "msg": "Unknown property", "id": 3}, [Notice("subscribed")]),
        ({"code": 3, "msg": "Invalid JSON: expected"}, [Notice("refused", "3: Invalid JSON: expected")]),
        ({"e": "serverShutdown", "E": SENT}, [Notice("restarting", "serverShutdown")]),
        ({"e": "24hrMiniTicker", "E": SENT, "s": "BNBBTC"}, []),
        ({"e": "kline", "s": "BNBBTC"}, []),
        (b'{"stream":"x","data":' * 5 + b"{}" + b"}" * 5, []),
    ],
)
def test_answers_and_what_is_left_out(frame: Any, expected: list[Notice]) -> None:
    assert decoded(frame) == expected


@pytest.mark.parametrize(
    "frame",
    [
        {**TRADE, "T": 0},
        {**TRADE, "T": str(SENT)},
        {**TRADE, "t": -1},
        {**TRADE, "t": 2**63},
        {**TRADE, "p": 0.001},
        {**TRADE, "p": ""},
        {**TRADE, "m": 1},
        {**AGGREGATE, "a": "12345"},
        {**DEPTH, "b": None},
        {**DEPTH, "a": [[]]},
        {**DEPTH, "u": None},
        {**FUTURES_TICKER, "E": 0},
        {"stream": "bnbbtc@trade", "data": {**TRADE, "q": ""}},
        b'{"e":"trade","E":1,"s":"BNBBTC","t":7,"p":"1.0","q":"2.0","T":1672515782136}',
        b'{"e":"trade","E":1,"s":"BNBBTC","t":7,"q":"2.0","T":1672515782136,"m":true}',
        b'{"e":"depthUpdate","E":1672515782136,"s":"BNBBTC","U":101,"u":102,"b":[["1.0"]],"a":[]}',
        b'{"u":1,"s":"BNBBTC","b":1.5,"B":"1","a":"2","A":"1"}',
        b'{"e":"trade"',
        b"[]",
        b"null",
        b"7",
        b'{"stream":"bnbbtc@trade"}',
        b'{"e":' + b"[" * 100_000,
    ],
)
def test_what_is_not_documented_is_refused_whole(frame: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the library's
        decoded(frame)


@pytest.mark.parametrize(
    ("change", "sequence", "follows"),
    [
        ({"first": 101, "last": 105}, 100, True),  # spot: the next number
        ({"first": 99, "last": 105}, 100, True),  # ccxt gives up where it is not just the next
        ({"first": 95, "last": 100}, 100, None),
        ({"first": 102, "last": 105}, 100, False),
        ({"first": 110, "last": 120, "previous": 100}, 100, True),  # contracts: the one before is named
        ({"first": 110, "last": 120, "previous": 105}, 100, False),
        ({"first": 90, "last": 120, "previous": 80}, 100, True),  # the first after a snapshot reaches over it
        ({"first": 90, "last": 99, "previous": 80}, 100, None),
        ({"first": 90, "last": 100, "previous": 80}, 100, True),
        ({"first": 101, "last": 105}, None, False),
        ({"last": 105}, 100, False),
        ({"first": 105}, 100, False),
    ],
)
def test_how_changes_follow(change: dict[str, int], sequence: int | None, follows: bool | None) -> None:
    assert Binance.book_rule.follows(BookChange("BNB/BTC", 0, 0, (), (), **change), sequence) is follows  # type: ignore[arg-type]


def test_it_asks_for_the_streams_that_ccxt_asks_for() -> None:
    venue: Venue = Binance("binance", {})
    streams = [Asked(channel, "BNBBTC") for channel in ("trades", "ticks", "order_book")]
    names = ["bnbbtc@trade", "bnbbtc@bookTicker", "bnbbtc@depth@100ms"]

    assert [json.loads(message) for message in venue.subscribe(streams, 3)] == [
        {"method": "SUBSCRIBE", "params": names, "id": 3}
    ]
    assert [json.loads(message) for message in venue.unsubscribe(streams, 4)] == [
        {"method": "UNSUBSCRIBE", "params": names, "id": 4}
    ]
    assert {"trades", "ticks", "order_book"} <= venue.channels


def test_requests_are_within_the_limits() -> None:
    venue = Binance("binance", {})
    streams = [Asked("ticks", f"{number}USDT") for number in range(250)]

    asked = [json.loads(message)["params"] for message in venue.subscribe(streams, 8)]

    assert [len(names) for names in asked] == [100, 100, 50]
    assert [name for names in asked for name in names] == [f"{number}usdt@bookTicker" for number in range(250)]


AGGREGATES = {"watchTradesForSymbols": {"name": "aggTrade"}}


@pytest.mark.parametrize(
    ("options", "stream"),
    [
        ({}, "x@trade"),
        (AGGREGATES, "x@aggTrade"),
        ({"watchTradesForSymbols": {"name": None}}, "x@trade"),
        ({"watchTrades": {"name": "aggTrade"}}, "x@trade"),  # of a call that is not made
    ],
)
def test_an_option_chooses_the_stream_of_trades_as_in_ccxt(options: dict[str, Any], stream: str) -> None:
    (message,) = Binance("binance", options).subscribe([Asked("trades", "X")], 1)
    assert json.loads(message)["params"] == [stream]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"watchTradesForSymbols": {"name": "blockTrade"}}, "trades"),
        ({"watchOrderBook": {"maxRetries": 1}}, "order_book"),
        ({"watchOrderBookRate": 1000}, "order_book"),
        ({"watchBidsAsks": {"name": "ticker"}}, "ticks"),
    ],
)
def test_what_an_option_asks_for_and_it_does_not_decode_is_left_to_ccxt(options: dict[str, Any], left: str) -> None:
    assert Binance("binance", {}).channels - Binance("binance", options).channels == {left}


MICROSECONDS = {"timeUnit": "MICROSECOND"}


@pytest.mark.parametrize(
    ("exchange", "market", "options", "channel", "address"),
    [
        ("binance", {"spot": True}, {}, "trades", "wss://stream.binance.com:9443/ws"),
        ("binance", {"spot": True}, MICROSECONDS, "trades", "wss://stream.binance.com:9443/ws?timeUnit=MICROSECOND"),
        ("binanceus", {"spot": True}, {}, "trades", "wss://stream.binance.us:9443/ws"),
        ("binanceusdm", {"linear": True}, {}, "trades", "wss://fstream.binance.com/public/ws"),
        ("binanceusdm", {"linear": True}, AGGREGATES, "trades", "wss://fstream.binance.com/market/ws"),
        ("binanceusdm", {"linear": True}, AGGREGATES, "ticks", "wss://fstream.binance.com/public/ws"),
        ("binance", {"linear": True}, MICROSECONDS, "order_book", "wss://fstream.binance.com/public/ws"),
        ("binancecoinm", {"inverse": True}, {}, "trades", "wss://dstream.binance.com/ws"),
    ],
)
def test_each_kind_of_market_has_its_socket(
    exchange: str, market: dict[str, Any], options: dict[str, Any], channel: Any, address: str
) -> None:
    assert Binance(exchange, options).address(market, channel) == address


@pytest.mark.parametrize(
    ("exchange", "markets"),
    [
        ("binance", {"spot", "linear", "inverse"}),
        ("binanceusdm", {"linear"}),
        ("binancecoinm", {"inverse"}),
        ("binanceus", {"spot"}),
    ],
)
def test_which_markets_each_of_its_names_has(exchange: str, markets: set[str]) -> None:
    assert Binance(exchange, {}).markets == markets
