"""What stands in Kafka, read with another client than the daemon's, and the consumer's rule of docs/kafka.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from ingestd.kafka.envelope import (
    POSITION_HEADER,
    VERSION,
    VERSION_HEADER,
    decode,
    parse_position,
    topic_kind,
    topic_name,
    topics,
)
from ingestd.records import Record

T = TypeVar("T")
Place: TypeAlias = tuple[str, int]  # topic, partition


@dataclass(frozen=True)
class Read:
    """One message as another client sees it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]

    @property
    def position(self) -> tuple[str, int, int]:
        return parse_position(self.headers[POSITION_HEADER])

    def record(self, prefix: str) -> Record:
        return decode(topics(prefix)[self.topic], self.value)


def topic_of(prefix: str, record: Record) -> str:
    """The topic that a record goes to, such as `wolfinch.market.trades`."""
    return topic_name(prefix, topic_kind(record))


def position_header(journal_id: str, position: int, index: int) -> bytes:
    """Where the record stands in the journal that it came from; `index` counts within its batch, from 0."""
    return f"{journal_id}:{position}:{index}".encode("ascii")


def headers_of(journal_id: str, position: int, index: int) -> list[tuple[str, bytes]]:
    """The headers of one message."""
    return [(POSITION_HEADER, position_header(journal_id, position, index)), (VERSION_HEADER, VERSION)]


def read_everything(bootstrap: str, prefix: str, timeout_s: float = 60) -> dict[Place, list[Read]]:
    """Every message of every market topic, by partition, in order."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False, "fetch.wait.max.ms": 20}
    )
    try:
        known = _patiently(lambda: consumer.list_topics(timeout=timeout_s).topics, timeout_s)
        places = [(name, number) for name in topics(prefix) if name in known for number in known[name].partitions]
        ends = {place: _end(consumer, place, timeout_s) for place in places}
        found: dict[Place, list[Read]] = {place: [] for place in places}
        left = {place for place, end in ends.items() if end > 0}
        if not left:
            return found
        consumer.assign([TopicPartition(*place, 0) for place in left])
        deadline = time.monotonic() + timeout_s
        # The embedded broker counts its last batch as one message: what the client has got is taken to its end.
        trouble: list[str] = []
        while (messages := arrived(consumer, 5000, trouble)) or left:
            assert time.monotonic() < deadline, f"not read to the end: {left}; the client said {trouble}"
            for message in messages:
                read = _read(message)
                place = read.topic, read.partition
                found[place].append(read)
                if read.offset + 1 >= ends[place]:
                    left.discard(place)
        for place, reads in found.items():
            assert [read.offset for read in reads] == list(range(len(reads))), f"offsets of {place} are left out"
        return found
    finally:
        consumer.close()


def arrived(consumer: Consumer, count: int, trouble: list[str]) -> list[Any]:
    """Messages that came within a moment. A client tells in their place of what passes: a topic just made that it does
    not know yet, a broker it lost and finds again. That is added to `trouble`; who waits has a limit of his own."""
    came = consumer.consume(count, timeout=0.2)
    trouble += [str(message.error()) for message in came if message.error() is not None]
    return [message for message in came if message.error() is None]


def _end(consumer: Consumer, place: Place, timeout_s: float) -> int:
    """The offset after the last message."""

    def ask() -> int:
        consumer.list_topics(place[0], timeout=timeout_s)  # a client keeps saying what it was told while none led it
        return int(consumer.get_watermark_offsets(TopicPartition(*place), timeout=timeout_s)[1])

    return _patiently(ask, timeout_s)


def _patiently(ask: Callable[[], T], timeout_s: float) -> T:
    """A broker denies for a moment that it leads a topic that was just made."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _read(message: Any) -> Read:
    """The client's message as plain values; none of them is missing in what the daemon writes."""
    return Read(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        dict(message.headers() or []),
    )


def without_replays(messages: Iterable[Read]) -> list[Read]:
    """The consumer's rule: of each journal, what is not beyond the highest position seen in this partition is old."""
    highest: dict[str, tuple[int, int]] = {}
    kept: list[Read] = []
    for message in messages:
        journal_id, position, index = message.position
        if (position, index) > highest.get(journal_id, (0, -1)):
            highest[journal_id] = (position, index)
            kept.append(message)
    return kept
