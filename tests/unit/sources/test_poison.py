"""Whatever a message holds costs only that message: the stores read everything, and the reader goes on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd import envelope, event_messages
from ingestd.ops.metrics import Metrics
from ingestd.records import Rejected
from ingestd.sources.kafka_topics import MarketStore
from ingestd.sources.partitions import replay_place
from ingestd.sources.trading_events import EventStore
from ingestd.validation import TimeWindow
from tests.support.records import trade
from tests.support.topic_log import LoggedMessage

headers = st.lists(
    st.tuples(
        st.sampled_from(["ingestd-event-id", "ingestd-position", "x"]),
        st.none() | st.binary(max_size=20) | st.sampled_from([b"j:1:0", b"j:" + b"9" * 5000 + b":0", b"::"]),
    ),
    max_size=3,
)
good = envelope.encode(trade(1))
bodies = st.none() | st.binary(max_size=40) | st.integers(0, 2000).map(lambda depth: b"[" * depth + b"]" * depth)
event_bodies = st.integers(0, 2000).map(
    lambda depth: (
        b'{"event_type":"ORDER_SUBMITTED","timestamp":"2024-10-23T18:00:00Z","data":{"note":'
        + b"[" * depth
        + b"]" * depth
        + b"}}"
    )
)


@given(bodies | st.just(good), headers)
def test_any_market_message_is_read(value: bytes | None, given_headers: list[tuple[str, bytes | None]]) -> None:
    store = MarketStore("wolfinch", lambda _now: TimeWindow({}, 10**16), Metrics())
    message = LoggedMessage("wolfinch.market.trades", 0, 5, b"k", value, given_headers)
    [item] = store.read([message])
    assert (item.offset, item.rejected is None) == (5, value == good)
    replay_place(message)


@given(bodies | event_bodies, headers)
def test_any_event_message_is_read(value: bytes | None, given_headers: list[tuple[str, bytes | None]]) -> None:
    store = EventStore("wolfinch", Metrics())
    [item] = store.read([LoggedMessage("wolfinch.orders.submitted", 0, 5, None, value, given_headers)])
    assert item.rejected == "poison"
    assert isinstance(item.content, Rejected)
    assert json.loads(item.content.record)["offset"] == 5


def test_a_mistake_of_ours_costs_only_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("nobody thought of it")

    monkeypatch.setitem(event_messages._READERS, "ORDER_SUBMITTED", broken)
    value = json.dumps({"event_type": "ORDER_SUBMITTED", "timestamp": "2024-10-23T18:00:00Z", "data": {}}).encode()
    [item] = EventStore("wolfinch", Metrics()).read([LoggedMessage("wolfinch.orders.submitted", 0, 5, None, value)])
    assert item.rejected == "poison"
    assert "nobody thought of it" in item.content.record


def test_a_header_without_a_place_makes_the_message_new() -> None:
    for value in (None, b"", b"nonsense"):
        assert replay_place(LoggedMessage("t", 0, 0, None, good, [("ingestd-position", value)])) is None
