"""Whatever a message holds costs only that message: the stores read everything, and the reader goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.clock import now_us
from ingestd.config.loading import parse
from ingestd.kafka import envelope
from ingestd.kafka.messages import Message
from ingestd.ops.health import readiness
from ingestd.ops.metrics import Metrics
from ingestd.records import Rejected, Trade
from ingestd.sink_service import SinkService
from ingestd.sources import trading_events
from ingestd.sources.market_topics import MarketStore
from ingestd.sources.marks import journal_place
from ingestd.sources.trading_events import EventTopics
from ingestd.validation import TimeWindow
from ingestd.venues.market_names import Names
from tests.support.records import trade

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
    store = MarketStore("wolfinch", lambda _now: TimeWindow({}, 10**16), Metrics(), sent=Names(), stored=Names())
    message = Message("wolfinch.market.trades", 0, 5, b"k", value, given_headers)
    [item] = store.read([message])
    assert (item.offset, item.rejected is None) == (5, value == good)
    journal_place(message)


@given(bodies | event_bodies, headers)
def test_any_event_message_is_read(value: bytes | None, given_headers: list[tuple[str, bytes | None]]) -> None:
    store = EventTopics("wolfinch", Metrics())
    [item] = store.read([Message("wolfinch.orders.submitted", 0, 5, None, value, given_headers)])
    assert item.rejected == "poison"
    assert isinstance(item.content, Rejected)
    assert json.loads(item.content.record)["offset"] == 5


def test_a_mistake_of_ours_costs_only_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("nobody thought of it")

    monkeypatch.setattr(trading_events, "read_event", broken)
    value = json.dumps({"event_type": "ORDER_SUBMITTED", "timestamp": "2024-10-23T18:00:00Z", "data": {}}).encode()
    [item] = EventTopics("wolfinch", Metrics()).read([Message("wolfinch.orders.submitted", 0, 5, None, value)])
    assert item.rejected == "poison"
    assert "nobody thought of it" in item.content.record


def test_of_a_long_key_and_value_the_beginning_is_kept() -> None:
    """Bytes that are no text are five characters each once they are escaped."""
    store = MarketStore("wolfinch", lambda _now: TimeWindow({}, 10**16), Metrics(), sent=Names(), stored=Names())
    for data, beginning in ((b"\xff" * 100_000, "\\xff"), ("界".encode() * 100_000, "界"), (b"x" * 100_000, "x")):
        [item] = store.read([Message("wolfinch.market.trades", 0, 5, data, data)])
        kept = json.loads(item.content.record)
        assert (kept["key"], kept["value"]) == ((beginning * 10_000)[:10_000],) * 2
        assert kept["value_bytes"] == len(data)


@pytest.mark.parametrize(
    "value",
    [
        b'{"event_type":"' + b"A" * 4_000_000 + b'"}',
        b'{"' + b"A" * 4_000_000 + b'":1}',
        b'{"event_type":"' + "\N{NULL}".encode() * 400_000 + b'"}',
        good.replace(b"BTC/USDT", b"B" * 4_000_000),
    ],
)
def test_the_row_of_a_message_is_short_whatever_its_error_quotes(value: bytes) -> None:
    market = MarketStore("wolfinch", lambda _now: TimeWindow({}, 10**16), Metrics(), sent=Names(), stored=Names())
    events = EventTopics("wolfinch", Metrics())
    for store, topic in ((market, "wolfinch.market.trades"), (events, "wolfinch.orders.submitted")):
        [item] = store.read([Message(topic, 0, 5, None, value)])
        assert item.rejected is not None
        kept = json.loads(item.content.record)
        assert len(item.content.record) < 100_000
        assert (kept["topic"], kept["partition"], kept["offset"]) == (topic, 0, 5)
        assert len(kept.get("error", "")) <= 2000


def test_a_record_that_may_not_be_stored_is_cut_as_in_the_daemon() -> None:
    store = MarketStore("wolfinch", lambda _now: TimeWindow({}, 10**16), Metrics(), sent=Names(), stored=Names())
    value = envelope.encode(trade(1, symbol="B" * 100_000))
    [item] = store.read([Message("wolfinch.market.trades", 0, 5, None, value)])
    kept = json.loads(item.content.record)
    assert item.rejected == "text"
    assert kept["characters"] > 100_000
    assert kept["begins"].startswith('{"exchange":')
    assert len(kept["begins"]) == 8000


def test_a_header_without_a_place_makes_the_message_new() -> None:
    for value in (None, b"", b"nonsense"):
        assert journal_place(Message("t", 0, 0, None, good, [("ingestd-position", value)])) is None


def test_a_topic_whose_messages_are_all_put_aside_makes_the_role_sink_unready(tmp_path: Path) -> None:
    """A clock that is ahead, and messages that nobody can read; until one is stored."""
    kafka = {"bootstrap_servers": ["127.0.0.1:1"]}
    document = {"instance": {"name": "a", "role": "sink", "state_dir": str(tmp_path)}, "kafka": kafka}
    service = SinkService(parse({**document, "database": {"dsn": "postgresql://nobody@127.0.0.1:1/none"}}, {}))
    store = service.market
    prefix = service.config.kafka.topic_prefix if service.config.kafka is not None else ""

    def read(*records: Trade | bytes) -> list[str]:
        values = [record if isinstance(record, bytes) else envelope.encode(record) for record in records]
        store.read([Message(f"{prefix}.market.trades", 0, 5, b"k", value, []) for value in values])
        return [reason for reason in readiness(service.snapshot()).reasons if "is rejected" in reason]

    now = now_us()
    ahead = [trade(number, time=now + 8 * 3_600_000_000, received_at=now) for number in range(3)]
    assert read(*ahead[:2]) == []
    (reason,) = read(ahead[2])
    assert "trades BTC/USDT of binance (too_far_ahead)" in reason
    assert read(trade(4, time=now, received_at=now)) == []
    (reason,) = read(b"{", b"[", b"no")
    assert f"the topic {prefix}.market.trades (poison)" in reason
    assert read(trade(5, time=now, received_at=now)) == []
