"""One flush to Kafka: the messages of some journal batches, in chains, one for each partition.

A chain's batches go out one after the other: the next one leaves when the one before is acknowledged. So a partition
never holds a record whose predecessor is missing, whatever fails, and a chain that is sent again goes on where its
acknowledgements ended. Different chains are under way at the same time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from ingestd import envelope
from ingestd.errors import MessageTooLarge
from ingestd.journal import Batch
from ingestd.kafka_client import Message, partition_for, size_of
from ingestd.records import CHANNEL_OF, TABLE_OF, Record, Rejected, channel_of

log = structlog.get_logger()

TOO_LARGE = "kafka_too_large"
_KEYS_KEPT = 50_000
_SHOWN_CHARACTERS = 200


class Sender(Protocol):
    """What a flush needs of a producer; see `kafka_client.Producer`."""

    async def send(self, topic: str, partition: int, messages: Sequence[Message]) -> int: ...


@dataclass(slots=True)
class Chain:
    """What goes to one partition, in order. `at_most` is set once the broker has refused a batch for its size."""

    topic: str
    partition: int
    messages: list[Message] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)  # of each message, for the counts
    sent: int = 0
    at_most: int | None = None

    async def send(self, producer: Sender) -> None:
        """Send what is left."""
        while self.sent < len(self.messages):
            end = None if self.at_most is None else self.sent + self.at_most
            left = self.messages[self.sent : end] if self.sent or end is not None else self.messages
            self.sent += await producer.send(self.topic, self.partition, left)


@dataclass(slots=True)
class Flush:
    """The chains of some batches, and the records of them that no message can carry."""

    chains: list[Chain]
    partitions: Mapping[str, int]
    rejected: Counter[str]  # by channel

    async def send(self, producer: Sender) -> list[Chain]:
        """Send what is left of every chain. Returns the chains whose next message or messages the broker finds too
        large; raises what else went wrong, when all chains have come to a rest."""
        waiting = [chain for chain in self.chains if chain.sent < len(chain.messages)]
        results = await asyncio.gather(*(chain.send(producer) for chain in waiting), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if not isinstance(failure, MessageTooLarge):
                raise failure
        return [chain for chain, result in zip(waiting, results, strict=True) if isinstance(result, MessageTooLarge)]

    def shrink(self, chain: Chain) -> None:
        """After a refusal for size: try fewer messages at once, and put aside the one that is refused alone."""
        tried = len(chain.messages) - chain.sent if chain.at_most is None else chain.at_most
        if min(tried, len(chain.messages) - chain.sent) > 1:
            chain.at_most = max(1, tried // 2)
            return
        _report(chain.topic, chain.messages[chain.sent])
        self.rejected[chain.channels[chain.sent]] += 1
        del chain.messages[chain.sent], chain.channels[chain.sent]
        chain.at_most = None


class Preparer:
    """Turns batches into flushes. With `keep_rejected` a record that is too large for a message goes to the topic of
    rejections, without most of its content: behind Kafka nobody else can tell the database of it."""

    def __init__(self, prefix: str, max_message_bytes: int, *, keep_rejected: bool) -> None:
        self._names = {kind: envelope.topic_name(prefix, kind) for kind in envelope.TOPIC_KINDS}
        self._max_message_bytes = max_message_bytes
        self._keep_rejected = keep_rejected
        self._places: dict[tuple[str, str, str], tuple[bytes, str, int]] = {}
        self._partitions: Mapping[str, int] = {}

    @property
    def topics(self) -> list[str]:
        """Every topic it may send to."""
        return list(self._names.values())

    def prepare(self, batches: Sequence[Batch], partitions: Mapping[str, int]) -> Flush:
        """The flush of these batches, over topics with so many partitions each."""
        if partitions != self._partitions:
            self._places, self._partitions = {}, dict(partitions)
        chains: dict[tuple[str, int], Chain] = {}
        rejected: Counter[str] = Counter()
        add = self._adder(chains)
        for batch in batches:
            prefix = f"{batch.journal_id}:{batch.position}:"
            for index, record in enumerate(batch.records):
                position = f"{prefix}{index}".encode("ascii")
                if add(record, position):
                    continue
                rejected[channel_of(record)] += 1
                if self._keep_rejected:
                    add(_summary(record), position, counted=False)
        return Flush(list(chains.values()), self._partitions, rejected)

    def _adder(self, chains: dict[tuple[str, int], Chain]) -> Callable[..., bool]:
        # One call a record: what it needs is bound here once.
        encode, version, limit = envelope.encode, (envelope.VERSION_HEADER, envelope.VERSION), self._max_message_bytes
        # Larger than this, and only then, its exact size is looked at.
        suspicious = limit // 2

        def add(record: Record, position: bytes, *, counted: bool = True) -> bool:
            key, topic, partition = self._place(record)
            value = encode(record)
            message: Message = (
                record.received_at // 1000,
                key,
                value,
                [(envelope.POSITION_HEADER, position), version],
            )
            if len(value) > suspicious and size_of(message) > limit:
                _report(topic, message)
                return False
            chain = chains.get((topic, partition))
            if chain is None:
                chain = chains[topic, partition] = Chain(topic, partition)
            chain.messages.append(message)
            chain.channels.append(channel_of(record) if counted else "")
            return True

        return add

    def _place(self, record: Record) -> tuple[bytes, str, int]:
        kind = envelope.topic_kind(record)
        known = self._places.get((kind, record.exchange, record.symbol))
        if known is None:
            if len(self._places) >= _KEYS_KEPT:
                self._places.clear()
            key, topic = envelope.key(record), self._names[kind]
            known = key, topic, partition_for(key, self._partitions[topic])
            self._places[kind, record.exchange, record.symbol] = known
        return known


def _summary(record: Record) -> Rejected:
    table = TABLE_OF[type(record)] if type(record) in CHANNEL_OF else channel_of(record)  # type: ignore[index]
    return Rejected(
        exchange=record.exchange[:_SHOWN_CHARACTERS],
        symbol=record.symbol[:_SHOWN_CHARACTERS],
        time=record.time,
        received_at=record.received_at,
        table=table,
        reason=TOO_LARGE,
        record="{}",
    )


def _report(topic: str, message: Message) -> None:
    log.warning(
        "message_too_large",
        topic=topic,
        key=message[1][:_SHOWN_CHARACTERS].decode("utf-8", "replace"),
        bytes=size_of(message),
        effect="put aside and counted; raise kafka.max_message_bytes and the brokers' message.max.bytes to keep it",
    )
