"""The publishing API: what it writes, and what it refuses before anything is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from ingestd import events
from ingestd.errors import EnvelopeError
from ingestd.sources import event_messages
from ingestd.sources.trading_events import KINDS

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
        ({"side": "hold"}, "side must be buy or sell"),
        ({"quantity": "many"}, "quantity is not a number"),
        ({"quantity": Decimal("NaN")}, "quantity is not a number"),
        ({"quantity": -1}, "quantity is not a number"),
        ({"quantity": True}, "quantity is not a number"),
        ({"note": object()}, "JSON has no form"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(EnvelopeError, match=reason):
        events.envelope("ORDER_SUBMITTED", AT, {**ORDER, **changes})


def test_an_unknown_event_names_the_known_ones() -> None:
    with pytest.raises(EnvelopeError, match="ORDER_SUBMITTED, ORDER_EXECUTED, TRADE_COMPLETED"):
        events.envelope("ORDER_LOST", AT, ORDER)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="no time zone"):
        events.envelope("ORDER_SUBMITTED", AT.replace(tzinfo=None), ORDER)


def test_publisher_and_consumer_agree() -> None:
    assert {topic: event_type for event_type, (topic, _) in events.EVENTS.items()} == {
        topic: event_type for topic, (event_type, _, _) in KINDS.items()
    }
    assert events.EVENT_ID_HEADER == event_messages.EVENT_ID_HEADER
