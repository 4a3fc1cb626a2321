"""Kraken Futures: its frames, requests and the order of its book changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingestd.records import Tick, Trade
from ingestd.venues.kraken_futures import KrakenFutures
from ingestd.venues.messages import BookChange, Message, Notice
from ingestd.venues.venue import Asked, Venue

SYMBOLS = {"PI_XBTUSD": "BTC/USD:BTC", "PF_ETHUSD": "ETH/USD:USD"}
AT = 1_790_000_000_000_123
TIME = 1_789_999_999_999_000

TRADE = (
    '{"feed":"trade","product_id":"PI_XBTUSD","uid":"%s","side":"sell","type":"fill","seq":653355,'
    '"time":1789999999999,"qty":440.0,"price":34893.50}'
)
CHANGE = (
    '{"feed":"book","product_id":"PI_XBTUSD","side":"sell","seq":8,"price":34981,"qty":0.0,"timestamp":1789999999999}'
)
SNAPSHOT = (
    '{"feed":"book_snapshot","product_id":"PI_XBTUSD","timestamp":1789999999999,"seq":7,"tickSize":null,'
    '"bids":[{"price":34892.50,"qty":6385}],"asks":[{"price":34911.5,"qty":20598.10}]}'
)
LITE = '{"feed":"ticker_lite","product_id":"PI_XBTUSD","bid":34932,"ask":34949.50,"change":3.3,"pair":"XBT:USD"}'


def decoded(frame: str | bytes) -> list[Message]:
    return list(KrakenFutures({}).decoder(SYMBOLS, 41)(frame.encode() if isinstance(frame, str) else frame, AT))


def test_a_trade_is_ordered_by_its_arrival() -> None:
    assert decoded(TRADE % "05af78ac-a774") == [
        Trade("krakenfutures", "BTC/USD:BTC", TIME, AT, "05af78ac-a774", 42, "sell", "34893.50", "440.0")
    ]


def test_a_snapshot_of_trades_comes_newest_first_and_leaves_oldest_first() -> None:
    rows = ",".join([TRADE % "b", TRADE % "a", (TRADE % "c").replace("PI_XBTUSD", "PI_NO")])
    found = decoded(f'{{"feed":"trade_snapshot","product_id":"PI_XBTUSD","trades":[{rows}]}}')

    assert [(trade.trade_id, trade.seq) for trade in found if isinstance(trade, Trade)] == [("a", 42), ("b", 43)]


def test_a_trade_without_an_id_is_named_after_its_fields() -> None:
    (found,) = decoded(TRADE % "")
    (again,) = decoded(TRADE % "")

    assert isinstance(found, Trade)
    assert isinstance(again, Trade)
    assert found.trade_id.startswith("s-")
    assert found.trade_id == again.trade_id


def test_best_prices_have_sizes_and_a_time_where_the_feed_has_them() -> None:
    full = (
        '{"feed":"ticker","time":1789999999999,"product_id":"PI_XBTUSD","bid":21978.5,"ask":21987.0,"bid_size":2536.0,'
    )
    full += '"ask_size":13948,"funding_rate":-6.2604214e-11}'

    assert decoded(LITE) == [Tick("krakenfutures", "BTC/USD:BTC", AT, AT, "34932", None, "34949.50", None)]
    assert decoded(full) == [Tick("krakenfutures", "BTC/USD:BTC", TIME, AT, "21978.5", "2536.0", "21987.0", "13948")]
    assert decoded(LITE.replace("34932", "0.0")) == [
        Tick("krakenfutures", "BTC/USD:BTC", AT, AT, None, None, "34949.50", None)
    ]
    assert decoded('{"feed":"ticker_lite","product_id":"PI_XBTUSD"}') == []


def test_a_book_and_its_change() -> None:
    assert decoded(SNAPSHOT) == [
        BookChange("BTC/USD:BTC", TIME, AT, [("34892.50", "6385")], [("34911.5", "20598.10")], is_snapshot=True, last=7)
    ]
    assert decoded(CHANGE) == [BookChange("BTC/USD:BTC", TIME, AT, (), (("34981", "0.0"),), first=8, last=8)]
    assert decoded(CHANGE.replace('"sell"', '"buy"')) == [
        BookChange("BTC/USD:BTC", TIME, AT, (("34981", "0.0"),), (), first=8, last=8)
    ]


@pytest.mark.parametrize(
    ("sequence", "follows"), [(None, True), (7, True), (8, None), (9, None), (6, False), (0, False)]
)
def test_changes_are_numbered_one_by_one(sequence: int | None, follows: bool | None) -> None:
    (change,) = decoded(CHANGE)
    assert isinstance(change, BookChange)

    assert KrakenFutures({}).book_rule.follows(change, sequence) is follows


@pytest.mark.parametrize("frame", [TRADE % "x", CHANGE, SNAPSHOT, LITE])
def test_a_market_that_is_not_followed_is_left_out(frame: str) -> None:
    assert decoded(frame)
    assert decoded(frame.replace("PI_XBTUSD", "PI_NO")) == []


@pytest.mark.parametrize(
    ("frame", "notices"),
    [
        ({"event": "info", "version": 1}, []),
        ({"event": "pong"}, [Notice("heartbeat")]),
        ({"feed": "heartbeat", "time": 1534262350627}, [Notice("heartbeat")]),
        (
            {"event": "subscribed", "feed": "book", "product_ids": ["PI_XBTUSD", "PF_ETHUSD"]},
            [Notice("subscribed", "book", "PI_XBTUSD"), Notice("subscribed", "book", "PF_ETHUSD")],
        ),
        (
            {"event": "unsubscribed", "feed": "trade", "product_ids": ["PI_XBTUSD"]},
            [Notice("unsubscribed", "trade", "PI_XBTUSD")],
        ),
        (
            {"event": "subscribed_failed", "feed": "trade", "product_ids": ["PI_NO"]},
            [Notice("refused", "trade", "PI_NO")],
        ),
        ({"event": "error", "message": "Invalid product id"}, [Notice("refused", "Invalid product id", None)]),
        (
            {"event": "alert", "message": "Already subscribed to feed, re-requesting"},
            [Notice("subscribed", "Already subscribed to feed, re-requesting", None)],
        ),
    ],
)
def test_what_is_about_the_connection(frame: dict[str, Any], notices: list[Notice]) -> None:
    assert decoded(json.dumps(frame)) == notices


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "pong",
        '{"feed":"trade"',
        b'{"y":' * 100_000,
        "[]",
        "{}",
        '{"feed":"nobody knows it"}',
        '{"event":"nobody knows it"}',
        '{"feed":"trade","product_id":"PI_XBTUSD"}',
        (TRADE % "x").replace("34893.50", "null"),
        (TRADE % "x").replace("34893.50", "{}"),
        (TRADE % "x").replace("sell", "short"),
        (TRADE % "x").replace("1789999999999", "0"),
        (TRADE % "x").replace("1789999999999", '"now"'),
        CHANGE.replace('"seq":8', '"seq":-8'),
        CHANGE.replace('"qty":0.0', '"qty":null'),
        SNAPSHOT.replace('"price":34892.50,', ""),
        LITE.replace("34932", "false"),
        LITE.replace("34932", '"x"'),
        f'{{"feed":"trade_snapshot","product_id":"PI_XBTUSD","trades":[{TRADE % "x"},{{}}]}}',
    ],
)
def test_a_malformed_frame_is_refused_whole(frame: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decoded(frame)


@pytest.mark.parametrize(
    ("options", "ticker"),
    [({}, "ticker_lite"), ({"watchBidsAsks": {"name": "ticker"}}, "ticker"), ({"watchBidsAsks": 1}, "ticker_lite")],
)
def test_what_is_asked_for(options: dict[str, Any], ticker: str) -> None:
    venue: Venue = KrakenFutures(options)
    streams = [Asked("trades", "PI_XBTUSD"), Asked("ticks", "PI_XBTUSD"), Asked("order_book", "PI_XBTUSD")]
    streams.append(Asked("trades", "PF_ETHUSD"))

    for event, messages in (("subscribe", venue.subscribe(streams, 7)), ("unsubscribe", venue.unsubscribe(streams, 7))):
        assert [json.loads(message) for message in messages] == [
            {"event": event, "feed": "trade", "product_ids": ["PI_XBTUSD", "PF_ETHUSD"]},
            {"event": event, "feed": ticker, "product_ids": ["PI_XBTUSD"]},
            {"event": event, "feed": "book", "product_ids": ["PI_XBTUSD"]},
        ]
    assert venue.address({}, "ticks") == "wss://futures.kraken.com/ws/v1"
