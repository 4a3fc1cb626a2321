"""What is read from an event's message, and what is refused, with the reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.errors import EnvelopeError
from ingestd.events.messages import (
    Balance,
    Cancelled,
    Completed,
    Event,
    Executed,
    Refused,
    Snapshot,
    Submitted,
    read_event,
)

NOW = datetime(2026, 11, 20, tzinfo=UTC)

# As the documentation of the topics prints them.
SUBMITTED = """{"event_type": "ORDER_SUBMITTED", "timestamp": "2024-10-23T18:00:00Z", "data": {"order_id": "12345",
 "symbol": "BTC-USD", "side": "buy", "quantity": 0.1, "price": 50000, "order_type": "MARKET"}}"""
EXECUTED = """{"event_type": "ORDER_EXECUTED", "timestamp": "2024-10-23T18:00:01Z", "data": {"order_id": "12345",
 "symbol": "BTC-USD", "executed_price": 50000, "executed_quantity": 0.1}}"""
COMPLETED = """{"event_type": "TRADE_COMPLETED", "timestamp": "2024-10-23T18:05:00Z", "data": {"trade_id": "67890",
 "symbol": "BTC-USD", "entry_price": 50000, "exit_price": 51000, "pnl": 100, "strategy": "momentum"}}"""


def read(event_type: str, text: str | bytes, headers: list[tuple[str, bytes | None]] | None = None) -> Event:
    value = text if isinstance(text, bytes) else text.encode()
    return read_event(event_type, value, headers or [], NOW)


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


def message(event_type: str, **data: Any) -> str:
    return json.dumps({"event_type": event_type, "timestamp": "2024-10-23T18:00:00Z", "data": data})


def test_the_endings_of_an_order() -> None:
    order = {"order_id": "1", "symbol": "BTC-USD"}
    refused = read("ORDER_REJECTED", message("ORDER_REJECTED", **order, reason="no money\nat all", side="BUY"))
    assert isinstance(refused, Refused)
    assert (refused.ending, refused.reason, refused.side) == ("REJECTED", "no money\nat all", "buy")
    cancelled = read("ORDER_CANCELLED", message("ORDER_CANCELLED", **order))
    assert isinstance(cancelled, Cancelled)
    assert (cancelled.ending, cancelled.reason) == ("CANCELLED", None)
    expired = read("ORDER_CANCELLED", message("ORDER_CANCELLED", **order, status="expired"))
    assert isinstance(expired, Cancelled)
    assert expired.ending == "EXPIRED"


def test_a_snapshot_of_balances() -> None:
    balances = [{"asset": "BTC", "available": 1.50, "locked": "0.10"}, {"asset": "USD", "available": "-7", "x": 1}]
    text = message("BALANCE_SNAPSHOT", exchange="kraken", balances=balances).replace("1.5,", "1.50,")
    snapshot = read("BALANCE_SNAPSHOT", text)
    assert isinstance(snapshot, Snapshot)
    assert snapshot.exchange == "kraken"
    assert snapshot.balances == (Balance("BTC", "1.50", "0.10"), Balance("USD", "-7", "0"))


BTC = {"asset": "BTC", "available": "1"}


@pytest.mark.parametrize(
    ("balances", "reason"),
    [
        (None, "balances is missing"),
        ([], "not a list of 1 to"),
        ({"BTC": 1}, "not a list of 1 to"),
        ([[]], r"balances\[0\] is not an object"),
        ([BTC, {"asset": "ETH"}], r"balances\[1\].available is missing"),
        ([{"available": "1"}], r"balances\[0\].asset is missing"),
        ([{**BTC, "available": "much"}], r"balances\[0\].available is not a number"),
        ([{**BTC, "locked": True}], r"balances\[0\].locked is not a number"),
        ([{**BTC, "asset": ""}], r"balances\[0\].asset is not a text"),
        ([BTC, BTC], "an asset twice"),
    ],
)
def test_balances_that_are_refused(balances: Any, reason: str) -> None:
    with pytest.raises(EnvelopeError, match=reason):
        read("BALANCE_SNAPSHOT", message("BALANCE_SNAPSHOT", balances=balances))


@pytest.mark.parametrize(("field", "value"), [("status", "FILLED"), ("reason", ["late"])])
def test_endings_that_are_refused(field: str, value: Any) -> None:
    with pytest.raises(EnvelopeError, match=field):
        read("ORDER_CANCELLED", message("ORDER_CANCELLED", order_id="1", symbol="BTC-USD", **{field: value}))


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
    header: list[tuple[str, bytes | None]] = [("ingestd-event-id", b"e1")]
    first = read("ORDER_EXECUTED", executed(), header)
    assert first.id == read("ORDER_EXECUTED", executed(fee="1"), header).id
    assert first.id == read("ORDER_EXECUTED", executed(event_id="e1")).id
    assert first.id != read("ORDER_EXECUTED", executed()).id
    assert read("ORDER_EXECUTED", executed()).id == read("ORDER_EXECUTED", executed(executed_quantity="0.100")).id
    assert read("ORDER_EXECUTED", executed()).id != read("ORDER_EXECUTED", executed(executed_quantity="0.2")).id


THIRTY_TWO = "1" * 31


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"order_id": "007"}, {"order_id": "7"}),
        ({"order_id": "1e2"}, {"order_id": "100"}),
        ({"order_id": THIRTY_TWO + "1"}, {"order_id": THIRTY_TWO + "2"}),
        ({"strategy": "1.0"}, {"strategy": "1"}),
        ({"executed_price": "1." + "0" * 28 + "1"}, {"executed_price": "1." + "0" * 28 + "2"}),
        ({"executed_price": "1." + "0" * 59 + "1"}, {"executed_price": "1"}),
        ({"note": "1"}, {"note": 1}),
        ({"note": {"id": "01"}}, {"note": {"id": "1"}}),
        ({"note": "true"}, {"note": True}),
    ],
)
def test_what_differs_is_not_taken_for_a_repetition(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert read("ORDER_EXECUTED", executed(**one)).id != read("ORDER_EXECUTED", executed(**other)).id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"executed_price": "0.10"}, {"executed_price": 0.1}),
        ({"executed_price": "1E+2"}, {"executed_price": 100}),
        ({"fee": "-0.0"}, {"fee": 0}),
        ({"order_id": 7}, {"order_id": "7"}),
        ({"note": {"a": 1, "b": 2}}, {"note": {"b": 2, "a": 1}}),
    ],
)
def test_the_same_said_otherwise_is_a_repetition(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert read("ORDER_EXECUTED", executed(**one)).id == read("ORDER_EXECUTED", executed(**other)).id


def test_nanoseconds_tell_events_apart() -> None:
    first, second, same = (
        read("ORDER_EXECUTED", EXECUTED.replace("18:00:01Z", f"18:00:01.{digits}Z")).id
        for digits in ("123456700", "123456800", "1234567")
    )
    assert first != second
    assert first == same


@pytest.mark.parametrize(("value", "reason"), [(None, "is empty"), (b"", "is empty"), (b"\xff", "is not UTF-8")])
def test_an_id_that_says_nothing_is_refused(value: bytes | None, reason: str) -> None:
    with pytest.raises(EnvelopeError, match=reason):
        read("ORDER_EXECUTED", executed(), [("ingestd-event-id", value)])


@pytest.mark.parametrize("levels", [65, 400, 500, 600, 700])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused(levels: int, opening: str, closing: str) -> None:
    text = executed(note="@").replace('"@"', opening * levels + "1" + closing * levels)
    with pytest.raises(EnvelopeError, match=r"nested deeper|not JSON"):
        read("ORDER_EXECUTED", text)


def test_what_programs_nest_is_read() -> None:
    text = executed(note="@").replace('"@"', "[" * 60 + "1" + "]" * 60)
    assert read("ORDER_EXECUTED", text).data == read("ORDER_EXECUTED", text).data
    assert "[" * 60 + "1" in read("ORDER_EXECUTED", text).data


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
