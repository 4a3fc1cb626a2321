"""Kraken spot: its frames, requests and the checksum of its books."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from ingestd.records import Tick, Trade
from ingestd.venues.kraken import Kraken
from ingestd.venues.messages import BookChange, Message, Notice, Row
from ingestd.venues.venue import Asked, Venue

SYMBOLS = {"BTC/USD": "BTC/USD", "ETH/USD": "ETH/USD"}
AT = 1_790_000_000_000_123
SENT = "2026-04-07T14:30:02.789012Z"
TIME = 1_775_572_202_789_012

TRADE = (
    '{"symbol":"BTC/USD","side":"buy","price":105944.20,"qty":0.00027620,"ord_type":"limit","trade_id":7,"timestamp":"'
    f'{SENT}"}}'
)


def decoded(frame: str | bytes) -> list[Message]:
    """Frames are written by hand: a number's text is what counts."""
    return list(Kraken({}).decoder(SYMBOLS, 0)(frame.encode() if isinstance(frame, str) else frame, AT))


def sent(channel: str, *rows: str, kind: str = "update") -> str:
    return f'{{"channel":"{channel}","type":"{kind}","data":[{",".join(rows)}]}}'


def test_trades_in_their_order_with_the_texts_of_their_numbers() -> None:
    other = TRADE.replace("105944.20", "1e-7").replace("0.00027620", "40").replace('"trade_id":7', '"trade_id":9')
    other = other.replace("buy", "sell").replace("BTC/USD", "ETH/USD")

    assert decoded(sent("trade", TRADE, other)) == [
        Trade("kraken", "BTC/USD", TIME, AT, "7", 7, "buy", "105944.20", "0.00027620"),
        Trade("kraken", "ETH/USD", TIME, AT, "9", 9, "sell", "1e-7", "40"),
    ]


def test_best_prices() -> None:
    full = f'{{"symbol":"BTC/USD","bid":105944.20,"bid_qty":2.50,"ask":105944.3,"ask_qty":3,"timestamp":"{SENT}"}}'

    assert decoded(sent("ticker", full)) == [
        Tick("kraken", "BTC/USD", TIME, AT, "105944.20", "2.50", "105944.3", "3"),
    ]
    assert decoded(sent("ticker", '{"symbol":"BTC/USD","bid":0.0,"bid_qty":0,"ask":7}')) == [
        Tick("kraken", "BTC/USD", AT, AT, None, "0", "7", None),
    ]
    assert decoded(sent("ticker", '{"symbol":"BTC/USD","bid":0,"ask":null}')) == []


def test_a_book_and_its_change() -> None:
    row = (
        '{"symbol":"BTC/USD","bids":[{"price":0.5660,"qty":0}],"asks":[{"price":7,"qty":1.50}],"checksum":2439117997%s}'
    )
    timed = row % f',"timestamp":"{SENT}"'
    rows = [("0.5660", "0")], [("7", "1.50")]

    assert decoded(sent("book", row % "", kind="snapshot")) == [
        BookChange("BTC/USD", AT, AT, *rows, is_snapshot=True, checksum=2439117997)
    ]
    assert decoded(sent("book", timed)) == [BookChange("BTC/USD", TIME, AT, *rows, checksum=2439117997)]
    assert decoded(sent("book", '{"symbol":"BTC/USD"}')) == [BookChange("BTC/USD", AT, AT, [], [])]


def test_a_market_that_is_not_followed_is_left_out() -> None:
    for channel in ("trade", "ticker", "book"):
        row = TRADE if channel == "trade" else '{"symbol":"BTC/USD","bid":1}'
        assert decoded(sent(channel, row))
        assert decoded(sent(channel, row.replace("BTC/USD", "SOL/USD"))) == []


def test_what_is_about_the_connection() -> None:
    def answer(method: str) -> str:
        result = '"result":{"channel":"book","depth":10,"symbol":"BTC/USD","warnings":["x"]}'
        return f'{{"method":"{method}",{result},"success":true,"req_id":7}}'

    assert decoded('{"channel":"heartbeat"}') == [Notice("heartbeat")]
    assert decoded('{"method":"pong","req_id":7}') == [Notice("heartbeat")]
    assert decoded(answer("subscribe")) == [Notice("subscribed", "book", "BTC/USD")]
    assert decoded(answer("unsubscribe")) == [Notice("unsubscribed", "book", "BTC/USD")]
    assert decoded(sent("status", '{"system":"online"}')) == [Notice("heartbeat", "system online")]
    assert decoded(sent("status", '{"system":"maintenance"}')) == [Notice("restarting", "system maintenance")]
    assert decoded(sent("ohlc")) == []


@pytest.mark.parametrize(
    ("answer", "notice"),
    [
        (
            {
                "method": "subscribe",
                "success": False,
                "error": "Currency pair not supported XX/USD",
                "symbol": "XX/USD",
            },
            Notice("refused", "Currency pair not supported XX/USD", "XX/USD"),
        ),
        (
            {"method": "subscribe", "success": False, "error": "Currency pair not supported BTC/USD"},
            Notice("refused", "Currency pair not supported BTC/USD", "BTC/USD"),
        ),
        (
            {
                "method": "subscribe",
                "success": False,
                "error": "Already subscribed to one or more",
                "symbol": "BTC/USD",
            },
            Notice("subscribed", "Already subscribed to one or more", "BTC/USD"),
        ),
        ({"Error": "Exceeded msg rate"}, Notice("refused", "Exceeded msg rate", None)),
    ],
)
def test_refusals(answer: dict[str, Any], notice: Notice) -> None:
    assert decoded(json.dumps(answer)) == [notice]


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "pong",
        '{"channel":"trade"',
        b'{"y":' * 100_000,
        "[]",
        "{}",
        '{"channel":"trade"}',
        '{"channel":"heartbeat","x":[1e]}',
        sent("trade", TRADE, TRADE.replace("105944.20", "null")),
        sent("trade", TRADE, TRADE.replace("105944.20", '""')),
        sent("trade", TRADE.replace("105944.20", "[1.5]")),
        sent("trade", TRADE.replace("105944.20", "true")),
        sent("trade", TRADE.replace("105944.20", "NaN")),
        sent("trade", TRADE.replace("buy", "Buy")),
        sent("trade", TRADE.replace('"trade_id":7', '"trade_id":7.5')),
        sent("trade", TRADE.replace(SENT, "")),
        sent("ticker", '{"symbol":"BTC/USD","bid":{}}'),
        sent("book", '{"symbol":"BTC/USD","bids":[{"price":1.5}]}'),
        sent("book", '{"symbol":"BTC/USD","bids":[[1.5,1.5]]}'),
        sent("book", '{"symbol":"BTC/USD","bids":[]}', kind="other"),
        sent("book", f'{{"symbol":"BTC/USD","asks":[{{"price":{"9" * 5000},"qty":1}}]}}'),
    ],
)
def test_a_malformed_frame_is_refused_whole(frame: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decoded(frame)


def test_what_is_asked_for() -> None:
    venue: Venue = Kraken({})
    streams = [Asked("trades", "BTC/USD"), Asked("ticks", "BTC/USD"), Asked("order_book", "BTC/USD")]
    params = [
        {"channel": "trade", "symbol": ["BTC/USD"]},
        {"channel": "ticker", "symbol": ["BTC/USD"], "event_trigger": "bbo"},
        {"channel": "book", "symbol": ["BTC/USD"], "depth": 10},
    ]

    for method, messages in (
        ("subscribe", venue.subscribe(streams, 7)),
        ("unsubscribe", venue.unsubscribe(streams, 7)),
    ):
        assert [json.loads(message) for message in messages] == [
            {"method": method, "params": param, "req_id": 7} for param in params
        ]
    assert venue.keep_alive is not None
    assert venue.keep_alive.text == b'{"method":"ping"}'
    assert Kraken({}).market_id({"id": "XXBTZUSD", "symbol": "BTC/USD"}) == "BTC/USD"


@pytest.mark.parametrize(
    ("options", "depth"),
    [
        ({}, 10),
        ({"watchOrderBook": {"depth": 100}}, 100),
        ({"watchOrderBook": {"depth": 7}}, 10),
        ({"watchOrderBook": {"checksum": True}}, 10),
        ({"watchOrderBook": None}, 10),
    ],
)
def test_books_are_as_deep_as_the_options_say(options: dict[str, Any], depth: int) -> None:
    venue = Kraken(options)
    (message,) = venue.subscribe([Asked("order_book", "BTC/USD")], 1)

    assert json.loads(message)["params"]["depth"] == depth
    assert venue.book_rule.depth == depth


# The example of https://docs.kraken.com/exchange/guides/websockets/book-checksum-v2 with its zeros.
ASKS = [
    ("45285.2", "0.00100000"),
    ("45286.4", "1.54571953"),
    ("45286.6", "1.54571109"),
    ("45289.6", "1.54560911"),
    ("45290.2", "0.15890660"),
    ("45291.8", "1.54553491"),
    ("45294.7", "0.04454749"),
    ("45296.1", "0.35380000"),
    ("45297.5", "0.09945542"),
    ("45299.5", "0.18772827"),
]
BIDS = [
    ("45283.5", "0.10000000"),
    ("45283.4", "1.54582015"),
    ("45282.1", "0.10000000"),
    ("45281.0", "0.10000000"),
    ("45280.3", "1.54592586"),
    ("45279.0", "0.07990000"),
    ("45277.6", "0.03310103"),
    ("45277.5", "0.30000000"),
    ("45277.3", "1.54602737"),
    ("45276.6", "0.15445238"),
]


def test_the_checksum_of_the_documentations_example() -> None:
    rule = Kraken({}).book_rule

    def best(rows: Sequence[Row], count: int) -> Sequence[Row]:
        return rows[:count]

    stated = BookChange("BTC/USD", TIME, AT, [], [], checksum=3310070434)
    shorter = [(price, amount.rstrip("0")) for price, amount in ASKS]

    assert rule.agrees(stated, lambda count: best(BIDS, count), lambda count: best(ASKS, count))
    assert not rule.agrees(stated, lambda count: best(BIDS, count), lambda count: best(shorter, count))
    assert not rule.agrees(stated, lambda count: best(BIDS[1:], count), lambda count: best(ASKS, count))
    assert rule.follows(stated, None) is True
