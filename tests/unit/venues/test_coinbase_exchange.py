"""Coinbase Exchange: its frames and requests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingestd.records import Tick, Trade
from ingestd.venues.coinbase_exchange import CoinbaseExchange
from ingestd.venues.messages import BookChange, Message, Notice
from ingestd.venues.venue import Asked, Venue

SYMBOLS = {"BTC-USD": "BTC/USD"}
AT = 1_790_000_000_000_123
SENT = "2026-04-07T14:30:02.789012Z"
TIME = 1_775_572_202_789_012

MATCH = {
    "type": "match",
    "trade_id": 7,
    "maker_order_id": "27fff20b-af29-4f45-8744-56dd1ef57dc0",
    "taker_order_id": "1da6ce16-c8da-4732-9f71-6049f4c6aaf8",
    "side": "sell",
    "size": "985.10",
    "price": "0.00001305",
    "product_id": "BTC-USD",
    "sequence": 177100030,
    "time": SENT,
}
TICKER = {
    "type": "ticker",
    "product_id": "BTC-USD",
    "price": "14.7775",
    "best_bid": "14.70",
    "best_bid_size": "1.0",
    "best_ask": "14.80",
    "best_ask_size": "2.00",
    "time": SENT,
}
SNAPSHOT = {"type": "snapshot", "product_id": "BTC-USD", "asks": [["14.80", "12.770"]], "bids": [["14.7", "1"]]}
UPDATE = {
    "type": "l2update",
    "product_id": "BTC-USD",
    "changes": [["sell", "14.80", "0.00000000"], ["buy", "14.70", "2.50"], ["sell", "14.81", "1"]],
    "time": SENT,
}


def decoded(document: Any) -> list[Message]:
    frame = document if isinstance(document, bytes) else json.dumps(document).encode()
    return list(CoinbaseExchange({}).decoder(SYMBOLS, 0)(frame, AT))


def test_a_trade_is_the_takers_the_venue_says_the_makers_side() -> None:
    assert decoded(MATCH) == [Trade("coinbaseexchange", "BTC/USD", TIME, AT, "7", 7, "buy", "0.00001305", "985.10")]
    (bought,) = decoded({**MATCH, "side": "buy"})
    assert isinstance(bought, Trade)
    assert bought.side == "sell"


def test_the_trade_before_the_subscription_is_a_trade() -> None:
    assert decoded({**MATCH, "type": "last_match"}) == decoded(MATCH)


def test_best_prices() -> None:
    old = {key: value for key, value in TICKER.items() if not key.endswith("_size") and key != "time"}

    assert decoded(TICKER) == [Tick("coinbaseexchange", "BTC/USD", TIME, AT, "14.70", "1.0", "14.80", "2.00")]
    assert decoded(old) == [Tick("coinbaseexchange", "BTC/USD", AT, AT, "14.70", None, "14.80", None)]
    assert decoded({**TICKER, "best_bid": "0"}) == [
        Tick("coinbaseexchange", "BTC/USD", TIME, AT, None, "1.0", "14.80", "2.00")
    ]
    assert decoded({**TICKER, "best_bid": "", "best_ask": "0.00"}) == []


def test_a_book_and_its_change() -> None:
    sides = [("14.7", "1")], [("14.80", "12.770")]

    assert decoded(SNAPSHOT) == [BookChange("BTC/USD", AT, AT, *sides, is_snapshot=True)]
    assert decoded({**SNAPSHOT, "time": SENT}) == [BookChange("BTC/USD", TIME, AT, *sides, is_snapshot=True)]
    assert decoded(UPDATE) == [
        BookChange("BTC/USD", TIME, AT, [("14.70", "2.50")], [("14.80", "0.00000000"), ("14.81", "1")])
    ]


@pytest.mark.parametrize("frame", [MATCH, TICKER, SNAPSHOT, UPDATE])
def test_a_market_that_is_not_followed_is_left_out(frame: dict[str, Any]) -> None:
    assert decoded(frame)
    assert decoded({**frame, "product_id": "ETH-USD"}) == []


def test_what_is_about_the_connection() -> None:
    channels = [{"name": "ticker", "product_ids": ["BTC-USD", "ETH-USD"]}, {"name": "status"}]
    refused = {"type": "error", "message": "Failed to subscribe", "reason": "BTC-USD is not a valid product"}

    assert decoded({"type": "subscriptions", "channels": channels}) == [
        Notice("subscribed", "ticker", "BTC-USD"),
        Notice("subscribed", "ticker", "ETH-USD"),
    ]
    assert decoded(refused) == [
        Notice("refused", "Failed to subscribe: BTC-USD is not a valid product", "BTC-USD"),
    ]
    assert decoded({"type": "error", "message": "rate limit"}) == [Notice("refused", "rate limit", None)]
    assert decoded({"type": "heartbeat", "last_trade_id": 7}) == [Notice("heartbeat")]


def test_types_nobody_knows_are_left_out_as_the_venue_wants() -> None:
    assert decoded({"type": "auction", "product_id": "BTC-USD"}) == []


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff",
        b'{"type":"match"',
        b'{"y":' * 100_000,
        [],
        {},
        {"type": None},
        {**MATCH, "trade_id": "7"},
        {**MATCH, "trade_id": -1},
        {**MATCH, "trade_id": 2**63},
        {**MATCH, "side": "SELL"},
        {**MATCH, "price": ""},
        {**MATCH, "size": 1.5},
        {**MATCH, "time": None},
        {**MATCH, "time": "2026-04-07"},
        {**TICKER, "best_ask": "x"},
        {**SNAPSHOT, "bids": [["1"]]},
        {**UPDATE, "changes": [["bid", "1", "1"]]},
        {**UPDATE, "time": ""},
        {"type": "l2update", "product_id": "BTC-USD"},
    ],
)
def test_a_malformed_frame_is_refused_whole(document: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        decoded(document)


def test_books_are_asked_for_without_a_key() -> None:
    venue: Venue = CoinbaseExchange({})
    streams = [Asked("trades", "BTC-USD"), Asked("ticks", "BTC-USD"), Asked("order_book", "BTC-USD")]

    assert [json.loads(message) for message in venue.subscribe(streams, 7)] == [
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["matches"]},
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["ticker"]},
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["level2_batch"]},
    ]
    assert [json.loads(message) for message in venue.unsubscribe(streams[2:], 8)] == [
        {"type": "unsubscribe", "product_ids": ["BTC-USD"], "channels": ["level2_batch"]}
    ]
    assert venue.address({}, "order_book") == "wss://ws-feed.exchange.coinbase.com"
    assert venue.channels == {"trades", "ticks", "order_book"}


def test_its_books_are_not_numbered() -> None:
    change = BookChange("BTC/USD", TIME, AT, [], [])

    assert CoinbaseExchange({}).book_rule.follows(change, None) is True
