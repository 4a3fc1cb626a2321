"""docs/kafka.md, word for word: its examples are what is sent, its consumer's rule is run as printed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer

from ingestd.channels import ROWS
from ingestd.clock import to_datetime
from ingestd.config.models import KafkaConfig
from ingestd.events.messages import EVENT_TYPES, Cancelled, Snapshot, read_event
from ingestd.kafka import envelope
from ingestd.records import FeedGap, Record, Rejected
from ingestd.sinks.kafka.flush import TOO_LARGE
from tests.support.brokers import Broker, config_for
from tests.support.kafka_rig import KafkaRig, send
from tests.support.records import NOW_US, book, trade
from tests.support.topics import arrived

PAGE = (Path(__file__).parents[3] / "docs" / "kafka.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_are_what_is_sent() -> None:
    market = [text for text in blocks("json") if json.loads(text)["event_type"] not in EVENT_TYPES]
    assert [json.loads(text) for text in market] == [
        json.loads(envelope.encode(record)) for record in (trade(1), book(1))
    ]


def test_the_examples_of_events_are_read() -> None:
    events = [text for text in blocks("json") if json.loads(text)["event_type"] in EVENT_TYPES]
    now = to_datetime(NOW_US)
    read = [read_event(json.loads(text)["event_type"], text.encode(), [], now) for text in events]
    assert [type(event) for event in read] == [Cancelled, Snapshot]


def test_every_topic_event_and_field_is_named() -> None:
    sent: dict[str, tuple[str, type[Record]]] = {row.name: (row.event_type, row.record) for row in ROWS}
    sent |= {"gaps": ("GAP", FeedGap), "rejected": ("REJECTED", Rejected)}
    assert sent.keys() == set(envelope.TOPIC_KINDS)
    for kind, (event_type, record) in sent.items():
        assert f"`wolfinch.market.{kind}` | `{event_type}`" in PAGE
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{event_type}` |")]
        assert [name for name in record.__struct_fields__[4:] if f"`{name}`" not in row] == []
    assert TOO_LARGE in PAGE


async def test_the_consumer_s_rule_drops_what_was_sent_twice(apache_kafka: Broker, tmp_path: Path) -> None:
    config = config_for(apache_kafka)
    first = KafkaRig(tmp_path, config)
    first.journal.cursor("slow")
    records: list[Record] = [trade(number, symbol=f"S{number % 7}") for number in range(100)]
    for start in range(0, 100, 20):
        await first.journal.append(records[start : start + 20])
    await first.drain()
    (tmp_path / "kafka.cursor").unlink()
    await send(tmp_path, config)
    scope: dict[str, Any] = {}
    (code,) = blocks("python")
    exec(code, scope)  # it is our own page
    seen, new = consume(config, scope["is_new"], 200)
    assert seen == 200
    assert sorted(new) == sorted(str(number) for number in range(100))


def consume(config: KafkaConfig, is_new: Callable[[object], bool], count: int) -> tuple[int, list[str]]:
    """With a group, as a service would."""
    consumer = Consumer(
        {
            "bootstrap.servers": config.bootstrap_servers[0],
            "group.id": config.topic_prefix,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    try:
        consumer.subscribe([f"{config.topic_prefix}.market.trades"])
        seen, new = 0, []
        trouble: list[str] = []
        deadline = time.monotonic() + 60
        while seen < count:
            assert time.monotonic() < deadline, f"{seen} of {count} read; the client said {trouble}"
            for message in arrived(consumer, 100, trouble):
                seen += 1
                if is_new(message):
                    new.append(json.loads(message.value() or b"")["data"]["trade_id"])
        return seen, new
    finally:
        consumer.close()
