"""The publishing API: what it writes, and what it refuses before anything is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from ingestd.errors import EnvelopeError
from ingestd.events import messages
from ingestd.events import publisher as events

AT = datetime(2024, 10, 23, 18, tzinfo=UTC)
ORDER: dict[str, Any] = {"order_id": "12345", "symbol": "BTC-USD", "side": "buy", "quantity": Decimal("0.10")}


def test_the_envelope_is_the_documented_one() -> None:
    key, value = events.envelope("ORDER_SUBMITTED", AT, {**ORDER, "price": 50000, "order_type": "MARKET"})
    assert key == b"BTC-USD"
    assert json.loads(value) == {
        "event_type": "ORDER_SUBMITTED",
        "timestamp": "2024-10-23T18:00:00Z",
        "data": {
            "order_id": "12345",
            "symbol": "BTC-USD",
            "side": "buy",
            "quantity": 0.10,
            "price": 50000,
            "order_type": "MARKET",
        },
    }
    assert b'"quantity":0.10' in value


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"order_id": None}, "needs order_id"),
        ({"symbol": ""}, "needs symbol"),
        ({"side": "hold"}, "side is neither buy nor sell"),
        ({"strategy": ""}, "strategy is not a text"),
        ({"exchange": True}, "exchange is not a text"),
        ({"order_id": "x" * 300}, "order_id is not a text"),
        ({"order_id": "a\x00b"}, "NUL"),
        ({"quantity": "1e70"}, "too many digits"),
        ({"quantity": "1e999999"}, "quantity is not a number"),
        ({"note": 10**70}, "too many digits"),
        ({"symbol": "\ud800"}, "JSON has no form|surrogate"),
        ({"quantity": "many"}, "quantity is not a number"),
        ({"quantity": Decimal("NaN")}, "quantity is not a number"),
        ({"quantity": -1}, "quantity is not a number that is not negative"),
        ({"quantity": True}, "quantity is not a number"),
        ({"note": object()}, "JSON has no form"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(EnvelopeError, match=reason):
        events.envelope("ORDER_SUBMITTED", AT, {**ORDER, **changes})


def test_an_unknown_event_names_the_known_ones() -> None:
    with pytest.raises(EnvelopeError, match="ORDER_SUBMITTED, ORDER_EXECUTED, ORDER_REJECTED"):
        events.envelope("ORDER_LOST", AT, ORDER)


def test_balances_keep_their_digits_and_go_by_their_exchange() -> None:
    held = [{"asset": "BTC", "available": Decimal("1.50"), "locked": "0.10"}]
    key, value = events.envelope("BALANCE_SNAPSHOT", AT, {"balances": held, "exchange": "kraken"})
    assert key == b"kraken"
    snapshot = messages.read_event("BALANCE_SNAPSHOT", value, [], AT)
    assert isinstance(snapshot, messages.Snapshot)
    assert snapshot.balances == (messages.Balance("BTC", "1.50", "0.10"),)
    with pytest.raises(EnvelopeError, match="needs balances"):
        events.envelope("BALANCE_SNAPSHOT", AT, {"exchange": "kraken"})


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="no time zone"):
        events.envelope("ORDER_SUBMITTED", AT.replace(tzinfo=None), ORDER)


def test_a_time_that_the_consumer_refuses_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="before 2009"):
        events.envelope("ORDER_SUBMITTED", AT.replace(year=2001), ORDER)


@pytest.mark.parametrize(("said", "stored"), [("BUY", "buy"), ("long", "buy"), ("Short", "sell")])
def test_the_sides_that_the_consumer_knows_may_be_published(said: str, stored: str) -> None:
    _, value = events.envelope("ORDER_SUBMITTED", AT, {**ORDER, "side": said})
    event = messages.read_event("ORDER_SUBMITTED", value, [], AT)
    assert isinstance(event, messages.Submitted)
    assert event.side == stored


@pytest.mark.parametrize("event_id", ["", "\ud800"])
async def test_an_event_id_that_says_nothing_is_refused_before_anything_is_sent(event_id: str) -> None:
    publisher = events.EventPublisher(["127.0.0.1:1"])  # nobody listens there: sending would raise ConnectionLost
    with pytest.raises(EnvelopeError, match="ingestd-event-id"):
        await publisher.publish("ORDER_SUBMITTED", event_id=event_id, timestamp=AT, **ORDER)
