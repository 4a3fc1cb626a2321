"""Coinbase Advanced Trade: its frames and requests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingestd.records import Tick, Trade
from ingestd.venues.coinbase import CoinbaseAdvanced
from ingestd.venues.messages import BookChange, FrameNumber, Message, Notice
from ingestd.venues.venue import Asked, Venue

SYMBOLS = {"BTC-USD": "BTC/USD", "ETH-USD": "ETH/USD"}
AT = 1_790_000_000_000_123
SENT = "2026-04-07T14:30:02.789012Z"
TIME = 1_775_572_202_789_012


def decoded(document: Any) -> list[Message]:
    frame = document if isinstance(document, bytes) else json.dumps(document).encode()
    return list(CoinbaseAdvanced({}).decoder(SYMBOLS, 41)(frame, AT))


def sent(channel: str, *events: Any) -> dict[str, Any]:
    return {"channel": channel, "client_id": "", "timestamp": SENT, "sequence_num": 5, "events": list(events)}


def trade(number: str, **changes: Any) -> dict[str, Any]:
    row = {"trade_id": number, "product_id": "BTC-USD", "price": "68900.50", "size": "0.00150000", "side": "BUY"}
    return {**row, "time": SENT, **changes}


def level(side: str, price: str, amount: str) -> dict[str, str]:
    return {"side": side, "event_time": "1970-01-01T00:00:00Z", "price_level": price, "new_quantity": amount}


def test_trades_come_newest_first_and_leave_oldest_first() -> None:
    """`side` is the maker's on the wire, the taker's in the record."""
    events = [{"type": "update", "trades": [trade("8", side="SELL"), trade("7")]}, {"trades": [trade("9")]}]

    assert decoded(sent("market_trades", *events)) == [
        FrameNumber(5),
        Trade("coinbase", "BTC/USD", TIME, AT, "7", 7, "sell", "68900.50", "0.00150000"),
        Trade("coinbase", "BTC/USD", TIME, AT, "8", 8, "buy", "68900.50", "0.00150000"),
        Trade("coinbase", "BTC/USD", TIME, AT, "9", 9, "sell", "68900.50", "0.00150000"),
    ]


def test_a_trade_whose_side_or_id_is_not_said() -> None:
    frame = sent("market_trades", {"trades": [trade("", side="UNKNOWN_ORDER_SIDE"), trade("x-1")]})
    _, first, second = decoded(frame)

    assert isinstance(first, Trade)
    assert isinstance(second, Trade)
    assert (first.trade_id, first.seq) == ("x-1", 42)  # arrivals are counted from where the decoder was told to
    assert (second.side, second.trade_id[:2], second.seq) == (None, "s-", 43)


def test_best_prices_with_the_time_of_the_message() -> None:
    ticker = {"type": "ticker", "product_id": "BTC-USD", "price": "1", "best_bid": "68900.10"}
    ticker |= {"best_bid_quantity": "0.10", "best_ask": "68900.90", "best_ask_quantity": "0.20"}
    half = {"product_id": "BTC-USD", "best_bid": "", "best_ask": "2.50", "best_ask_quantity": "1"}
    none = {"product_id": "BTC-USD", "best_bid": "0", "best_ask": "0.00"}
    empty = {"type": "ticker", "product_id": "", "price": ""}  # the venue does send these

    assert decoded(sent("ticker", {"tickers": [ticker, half, none, empty]})) == [
        FrameNumber(5),
        Tick("coinbase", "BTC/USD", TIME, AT, "68900.10", "0.10", "68900.90", "0.20"),
        Tick("coinbase", "BTC/USD", TIME, AT, None, None, "2.50", "1"),
    ]


def test_a_book_and_its_change() -> None:
    rows = [level("bid", "68900.00", "1.50000000"), level("offer", "68901.00", "0.00000000")]
    snapshot = {"type": "snapshot", "product_id": "BTC-USD", "updates": rows}
    sides = ([("68900.00", "1.50000000")], [("68901.00", "0.00000000")])

    assert decoded(sent("l2_data", snapshot, {**snapshot, "type": "update"})) == [
        FrameNumber(5),
        BookChange("BTC/USD", TIME, AT, *sides, is_snapshot=True),
        BookChange("BTC/USD", TIME, AT, *sides),
    ]


def test_a_market_that_is_not_followed_is_left_out_and_its_frame_counts() -> None:
    other = {"product_id": "SOL-USD"}

    assert decoded(sent("market_trades", {"trades": [trade("7", **other)]})) == [FrameNumber(5)]
    assert decoded(sent("ticker", {"tickers": [{**other, "best_bid": "1"}]})) == [FrameNumber(5)]
    assert decoded(sent("l2_data", {**other, "type": "snapshot", "updates": []})) == [FrameNumber(5)]


def test_what_is_about_the_connection() -> None:
    subscribed = sent("subscriptions", {"subscriptions": {"level2": ["BTC-USD"], "ticker": ["ETH-USD"]}})

    assert decoded(sent("heartbeats", {"heartbeat_counter": 42})) == [FrameNumber(5), Notice("heartbeat")]
    assert decoded(subscribed) == [
        FrameNumber(5),
        Notice("subscribed", "level2", "BTC-USD"),
        Notice("subscribed", "ticker", "ETH-USD"),
    ]
    assert decoded(sent("candles")) == [FrameNumber(5)]
    assert decoded(sent("status")) == [FrameNumber(5)]


def test_a_refusal_names_its_market_where_it_does() -> None:
    named, unnamed = "BTC-USD is not a valid product", "rate limit exceeded"

    assert decoded({"type": "error", "message": named}) == [Notice("refused", named, "BTC-USD")]
    assert decoded({"type": "error", "message": unnamed}) == [Notice("refused", unnamed, None)]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"pong",
        b'{"channel":',
        b'{"y":' * 100_000,
        b'{"channel":"candles","y":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        [],
        {},
        {"channel": "market_trades"},
        sent("market_trades", {"trades": [trade("7"), trade("8", price=1.5)]}),
        sent("market_trades", {"trades": [trade("7", size="")]}),
        sent("market_trades", {"trades": [trade("7", time="yesterday")]}),
        sent("ticker", {"tickers": [{"product_id": "BTC-USD", "best_bid": "x"}]}),
        {**sent("ticker", {"tickers": [{"product_id": "BTC-USD", "best_bid": "1"}]}), "timestamp": ""},
        sent("l2_data", {"type": "other", "product_id": "BTC-USD", "updates": []}),
        sent("l2_data", {"type": "update", "product_id": "BTC-USD", "updates": [level("ask", "1", "1")]}),
        {**sent("heartbeats"), "sequence_num": -1},
        {**sent("market_trades"), "sequence_num": None},
    ],
)
def test_a_malformed_frame_is_refused_whole(document: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        decoded(document)


def test_what_is_asked_for() -> None:
    venue: Venue = CoinbaseAdvanced({})
    streams = [Asked("trades", "BTC-USD"), Asked("ticks", "BTC-USD"), Asked("order_book", "BTC-USD")]
    streams.append(Asked("trades", "ETH-USD"))

    assert [json.loads(message) for message in venue.subscribe(streams, 7)] == [
        {"type": "subscribe", "product_ids": ["BTC-USD", "ETH-USD"], "channel": "market_trades"},
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "ticker"},
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "level2"},
        {"type": "subscribe", "channel": "heartbeats"},
    ]
    assert [json.loads(message) for message in venue.unsubscribe(streams[:1], 8)] == [
        {"type": "unsubscribe", "product_ids": ["BTC-USD"], "channel": "market_trades"}
    ]
    assert venue.address({}, "trades") == "wss://advanced-trade-ws.coinbase.com"
    assert not venue.book_over_rest


def test_no_message_asks_for_more_than_is_allowed() -> None:
    venue: Venue = CoinbaseAdvanced({})
    streams = [Asked("trades", f"A{number}-USD") for number in range(2 * venue.limits.streams_per_message + 1)]

    asked = [json.loads(message).get("product_ids") for message in venue.subscribe(streams, 1)[:-1]]

    assert [len(ids) for ids in asked] == [venue.limits.streams_per_message] * 2 + [1]
    assert [name for ids in asked for name in ids] == [stream.market_id for stream in streams]
