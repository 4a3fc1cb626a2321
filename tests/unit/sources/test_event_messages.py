"""What is read from an event's message, and what is refused, with the reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.errors import EnvelopeError
from ingestd.sources.event_messages import Completed, Event, Executed, Submitted, read_event
from tests.support.topic_log import LoggedMessage

NOW = datetime(2026, 11, 20, tzinfo=UTC)

# As the documentation of the topics prints them.
SUBMITTED = """{"event_type": "ORDER_SUBMITTED", "timestamp": "2024-10-23T18:00:00Z", "data": {"order_id": "12345",
 "symbol": "BTC-USD", "side": "buy", "quantity": 0.1, "price": 50000, "order_type": "MARKET"}}"""
EXECUTED = """{"event_type": "ORDER_EXECUTED", "timestamp": "2024-10-23T18:00:01Z", "data": {"order_id": "12345",
 "symbol": "BTC-USD", "executed_price": 50000, "executed_quantity": 0.1}}"""
COMPLETED = """{"event_type": "TRADE_COMPLETED", "timestamp": "2024-10-23T18:05:00Z", "data": {"trade_id": "67890",
 "symbol": "BTC-USD", "entry_price": 50000, "exit_price": 51000, "pnl": 100, "strategy": "momentum"}}"""


def read(event_type: str, text: str | bytes, headers: list[tuple[str, bytes]] | None = None) -> Event:
    value = text if isinstance(text, bytes) else text.encode()
    return read_event(event_type, LoggedMessage("t", 0, 0, None, value, headers or []), NOW)


def executed(**changes: Any) -> str:
    data = {**json.loads(EXECUTED)["data"], **changes}
    return json.dumps({**json.loads(EXECUTED), "data": {key: value for key, value in data.items() if value != "-"}})


def test_the_documented_messages() -> None:
    submitted = read("ORDER_SUBMITTED", SUBMITTED)
    assert isinstance(submitted, Submitted)
    assert (submitted.order_id, submitted.side, submitted.quantity, submitted.price) == ("12345", "buy", "0.1", "50000")
    assert submitted.at == datetime(2024, 10, 23, 18, tzinfo=UTC)
    execution = read("ORDER_EXECUTED", EXECUTED)
    assert isinstance(execution, Executed)
    assert (execution.price, execution.quantity, execution.side) == ("50000", "0.1", None)
    trade = read("TRADE_COMPLETED", COMPLETED)
    assert isinstance(trade, Completed)
    assert (trade.pnl, trade.strategy) == ("100", "momentum")


@pytest.mark.parametrize("digits", ["0.10", "0.123456789012345678901234567890", "12345678901234567890.5", "1E-7", "7."])
def test_digits_are_kept(digits: str) -> None:
    as_text = read("ORDER_EXECUTED", executed(executed_quantity=digits))
    assert isinstance(as_text, Executed)
    assert as_text.quantity == digits
    if digits != "7.":  # which is no JSON number
        as_number = read("ORDER_EXECUTED", executed(executed_quantity="@").replace('"@"', digits))
        assert isinstance(as_number, Executed)
        assert as_number.quantity == digits
        assert f'"executed_quantity":{digits}' in as_number.data
        assert as_number.id == as_text.id, "a number and its text are the same event"


def test_an_id_of_the_producer_is_the_identity() -> None:
    header = [("ingestd-event-id", b"e1")]
    first = read("ORDER_EXECUTED", executed(), header)
    assert first.id == read("ORDER_EXECUTED", executed(fee="1"), header).id
    assert first.id == read("ORDER_EXECUTED", executed(event_id="e1")).id
    assert first.id != read("ORDER_EXECUTED", executed()).id
    assert read("ORDER_EXECUTED", executed()).id == read("ORDER_EXECUTED", executed(executed_quantity="0.100")).id
    assert read("ORDER_EXECUTED", executed()).id != read("ORDER_EXECUTED", executed(executed_quantity="0.2")).id


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        ("[]", "not a JSON object"),
        ("{" * 5000, "not JSON"),
        ("[" * 100_000, "not JSON"),
        (SUBMITTED, "event_type is not ORDER_EXECUTED"),
        (EXECUTED.replace("2024-10-23T18:00:01Z", "yesterday"), "timestamp is not ISO 8601"),
        (EXECUTED.replace("2024-10-23T18:00:01Z", "2024-10-23T18:00:01"), "no time zone"),
        (EXECUTED.replace("2024", "1970"), "before 2009"),
        (EXECUTED.replace("2024", "2124"), "a day ahead"),
        (executed(order_id="-"), "order_id is missing"),
        (executed(order_id=""), "order_id is not a text"),
        (executed(order_id=["x"]), "order_id is not a text"),
        (executed(order_id="x" * 201), "order_id is not a text"),
        (executed(symbol="a\u0000b"), "NUL"),
        (executed(note="\ud800"), "surrogate"),
        (executed(executed_quantity="-1"), "not negative"),
        (executed(executed_quantity=-1), "not negative"),
        (executed(executed_quantity=True), "not negative"),
        (executed(executed_quantity="1e999"), "not negative"),
        (EXECUTED.replace("0.1", "NaN"), "not JSON"),
        (EXECUTED.replace("0.1", "1e999"), "too many digits"),
        (executed(executed_price=None), "executed_price is missing"),
        (executed(side="hold"), "neither buy nor sell"),
    ],
)
def test_what_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(EnvelopeError, match=reason):
        read("ORDER_EXECUTED", text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["order_id", "symbol", "executed_price", "executed_quantity", "x"]), json_values)
)
def test_any_data_is_read_or_refused(data: dict[str, Any]) -> None:
    text = json.dumps({"event_type": "ORDER_EXECUTED", "timestamp": "2024-10-23T18:00:01Z", "data": data})
    try:
        event = read("ORDER_EXECUTED", text)
    except EnvelopeError:
        return
    assert json.loads(event.data) == data
