"""Which point a row of `audit.trade_logs` becomes."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.sinks.influx.points import flush_of
from ingestd.sinks.influx.trade_events import told
from tests.support.line_protocol import ReadPoint, read_line

ID = UUID(int=7)


def point_of(said: dict[str, Any], product: str = "BTC-USD", **row: Any) -> ReadPoint:
    """The point as a server reads it. A row is that of an execution, if it is not said."""
    values = {
        "seq": 1, "id": ID, "timestamp": datetime(2026, 10, 1, 12, 0, 0, 5, tzinfo=UTC), "action": "ORDER_BUY",
        "quantity": None, "price": None, "status": "filled", "order_id": "7",
    }  # fmt: skip
    ((point,),) = flush_of([told({**values, **row}, said, "kraken", product)]).points.values()
    return read_line(point.line)


@pytest.mark.parametrize(
    ("row", "said", "event_type"),
    [
        ({"status": "pending"}, {}, "order_submitted"),
        ({"status": "filled"}, {}, "order_executed"),
        ({"status": "rejected"}, {}, "order_rejected"),
        ({"status": "cancelled"}, {}, "order_cancelled"),
        ({"status": "expired"}, {}, "order_cancelled"),
        ({"status": "filled", "order_id": None}, {"trade_id": "1"}, "position_closed"),
        ({"status": "new"}, {}, "order"),
        ({"status": None}, {}, "order"),
    ],
)
def test_each_event_has_its_type(row: dict[str, Any], said: dict[str, Any], event_type: str) -> None:
    point = point_of(said, **row)
    assert point.measurement == "trade_event"
    assert point.tags["event_type"] == event_type
    assert point.tags.get("status") == row["status"]
    assert point.tags.get("order_id") == row.get("order_id", "7")
    assert point.fields == {"event_id": str(ID)}, "a point needs a field"


def test_a_closed_position_has_its_result() -> None:
    said = {"symbol": "BTC-USD", "trade_id": "1", "side": "Short", "pnl": "-1.50", "fee": ".1", "duration": "60"}
    point = point_of(said, order_id=None, price="51000", quantity="0.1", action="BUY")
    assert point.tags == {
        "event_type": "position_closed", "exchange": "kraken", "product": "BTC-USD", "side": "sell", "status": "filled",
    }  # fmt: skip
    numbers = {"price": "51000", "size": "0.1", "pnl": "-1.50", "fee": ".1", "duration": "60"}
    assert point.fields == {**{name: Decimal(digits) for name, digits in numbers.items()}, "event_id": str(ID)}


@pytest.mark.parametrize(
    ("said", "action", "side"),
    [
        ({"symbol": "x", "side": "BUY"}, "ORDER_BUY", "buy"),
        ({"symbol": "x"}, "ORDER_BUY", None),  # learned from its order: it may not have been known before
        ({"symbol": "x"}, "SELL", None),
        ({}, "SELL", "sell"),  # of another program, as the log's document has it
        ({}, "ORDER", None),
        ({}, None, None),
        ({"symbol": "x", "side": 1}, "ORDER", None),
    ],
)
def test_the_side_is_what_the_event_itself_says(said: dict[str, Any], action: str | None, side: str | None) -> None:
    assert point_of(said, action=action).tags.get("side") == side


@given(
    junk=st.sampled_from(["fee", "duration", "pnl", "fee_currency"]),
    value=st.none() | st.booleans() | st.text() | st.lists(st.integers()),
)
def test_whatever_else_an_event_holds_costs_at_most_its_field(junk: str, value: Any) -> None:
    flush = flush_of([told({"seq": 1, "id": ID, "timestamp": datetime(2026, 1, 1, tzinfo=UTC), "action": "x",
                            "quantity": "1", "price": "2", "status": "filled", "order_id": "7"},
                           {junk: value}, "kraken", "BTC-USD")])  # fmt: skip
    texts = [refusal.record for refusal in flush.refusals]
    assert not texts or junk == "fee_currency", "a text that no line can hold"
    for point in flush.points.get("trade_event", []):
        read = read_line(point.line)
        assert read.fields["price"] == 2
        assert junk not in read.fields or isinstance(value, str)


@given(seqs=st.sets(st.integers(0, 2**62), min_size=2, max_size=50))
def test_events_of_one_microsecond_stay_apart(seqs: set[int]) -> None:
    times = {point_of({}, seq=seq).time_ns for seq in seqs}
    assert len(times) == len({seq % 1000 for seq in seqs})
    assert {time // 1000 for time in times} == {int(datetime(2026, 10, 1, 12, tzinfo=UTC).timestamp()) * 10**6 + 5}
