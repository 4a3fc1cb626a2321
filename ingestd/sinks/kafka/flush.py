"""One flush to Kafka: the messages of some journal batches, as one chain of messages for each partition.

A chain sends its next batch only after the previous one is acknowledged. So whatever fails, a partition never holds a
record whose predecessor is missing, and a repeated chain continues after its last acknowledgement. Chains are sent
concurrently.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import structlog

from ingestd.channels import CHANNEL_OF, TABLE_OF, channel_of
from ingestd.clock import monotonic_s
from ingestd.errors import MessageTooLarge
from ingestd.journal.journal import Batch
from ingestd.kafka import envelope
from ingestd.kafka.producer import Message, partition_for, size_of
from ingestd.log_limit import LogLimit
from ingestd.records import Record, Rejected
from ingestd.validation import rejection
from ingestd.venues.market_names import UNKNOWN_MARKET
from ingestd.venues.market_names import Names as SymbolNames

log = structlog.get_logger()

TOO_LARGE = "kafka_too_large"
_VERSION = (envelope.VERSION_HEADER, envelope.VERSION)
_REJECTIONS = "rejections"  # the channel of rejected records
_KEYS_KEPT = 50_000
_SHOWN_S = 60.0
_SHOWN_CHARACTERS = 200


class Sender(Protocol):
    """The part of a producer that a flush uses; see `kafka.producer.Producer`."""

    async def send(self, topic: str, partition: int, messages: Sequence[Message]) -> int: ...


@dataclass(slots=True)
class Chain:
    """The messages for one partition, in order, all counted under one channel in the metrics.

    After the broker has refused a batch for its size, `at_most` limits the number of messages in the next one.
    `refused` is the number of messages in the refused batch, if known.
    """

    topic: str
    partition: int
    channel: str
    messages: list[Message] = field(default_factory=list)
    uncounted: list[Message] = field(default_factory=list)  # summaries of records that are counted already
    sent: int = 0
    at_most: int | None = None
    refused: int | None = None

    async def send(self, producer: Sender) -> None:
        """Send the messages that are not sent yet."""
        while self.sent < len(self.messages):
            end = None if self.at_most is None else self.sent + self.at_most
            left = self.messages[self.sent : end] if self.sent or end is not None else self.messages
            self.sent += await producer.send(self.topic, self.partition, left)


_Chains: TypeAlias = dict[tuple[str, int], Chain]  # by topic and partition
_Encode: TypeAlias = Callable[[Record], bytes]
_Headers: TypeAlias = list[tuple[str, bytes]]  # those that all messages of a stream have
_Place: TypeAlias = tuple[bytes, _Encode, _Headers, str, int]  # a stream's key, encoder, headers, topic and partition
_Route: TypeAlias = tuple[bytes, _Encode, _Headers, Callable[[Message], None], Chain]


class PutAside:
    """Logs messages that are too large: once a minute, their number by topic."""

    def __init__(self) -> None:
        self._log_limit = LogLimit()
        self._unlogged: Counter[str] = Counter()  # messages, by topic
        self._last: tuple[float, str] | None = None

    def note(self, topic: str, message: Message) -> None:
        """Count one more message that was put aside."""
        self._last = monotonic_s(), topic
        self._unlogged[topic] += 1
        if not self._log_limit.allows(topic):
            return
        log.warning(
            "message_too_large",
            topic=topic,
            key=message[1][:_SHOWN_CHARACTERS].decode("utf-8", "replace"),
            bytes=size_of(message),
            messages=self._unlogged.pop(topic),
            effect="put aside and counted; raise kafka.max_message_bytes and the topic's max.message.bytes to keep it",
        )

    @property
    def problem(self) -> str | None:
        """A sentence for people; None if no message was put aside lately."""
        if self._last is None or monotonic_s() - self._last[0] >= _SHOWN_S:
            return None
        return f"messages are too large for the topic {self._last[1]} and are put aside; raise its max.message.bytes"


@dataclass(slots=True)
class Flush:
    """The chains of some batches, and the number of records too large for a message. `spoilt`: the broker refused a
    batch, so the producer of the last `send` cannot be used any more."""

    chains: list[Chain]
    partitions: Mapping[str, int]
    rejected: Counter[tuple[str, str]]  # by channel and reason
    put_aside: PutAside
    spoilt: bool = False

    async def send(self, producer: Sender) -> list[Chain]:
        """Send the rest of every chain. Return the chains whose next messages are too large for the broker. Any other
        error is raised after all chains have ended."""
        waiting = [chain for chain in self.chains if chain.sent < len(chain.messages)]
        results = await asyncio.gather(*(chain.send(producer) for chain in waiting), return_exceptions=True)
        failures = [(chain, result) for chain, result in zip(waiting, results, strict=True) if result is not None]
        self.spoilt = False
        too_large = []
        for chain, failure in failures:
            if not isinstance(failure, MessageTooLarge):
                raise failure
            chain.refused = failure.messages
            self.spoilt |= not failure.foreseen
            too_large.append(chain)
        return too_large

    def shrink(self, chain: Chain) -> None:
        """After a refusal for size, send fewer messages in a batch. A message refused on its own is put aside."""
        tried = chain.refused or (len(chain.messages) - chain.sent if chain.at_most is None else chain.at_most)
        if min(tried, len(chain.messages) - chain.sent) > 1:
            chain.at_most = max(1, tried // 2)
            return
        message = chain.messages.pop(chain.sent)
        self.put_aside.note(chain.topic, message)
        if not any(message is other for other in chain.uncounted):
            self.rejected[chain.channel, TOO_LARGE] += 1
        chain.at_most = None


class Preparer:
    """Turns batches into flushes. With `keep_rejected`, a record that no message can hold is reported in the topic of
    rejections, without its content, so that the database behind Kafka gets a row for it."""

    def __init__(self, prefix: str, max_message_bytes: int, names: SymbolNames, *, keep_rejected: bool) -> None:
        self._symbols = names
        self._names: dict[str, str] = {kind: envelope.topic_name(prefix, kind) for kind in envelope.TOPIC_KINDS}
        self._max_message_bytes = max_message_bytes
        self._keep_rejected = keep_rejected
        self._places: dict[tuple[str, str, str], _Place] = {}
        self._partitions: Mapping[str, int] = {}
        self.put_aside = PutAside()

    @property
    def topics(self) -> list[str]:
        """All topics that flushes may send to."""
        return list(self._names.values())

    def needed(self, batches: Sequence[Batch]) -> set[str]:
        """The topics of which `prepare` needs the number of partitions."""
        channels = {channel for batch in batches for channel, count in batch.counts.items() if count}
        if self._keep_rejected or self._symbols.style == "venue":
            channels.add(_REJECTIONS)
        return {self._names["rejected" if channel == _REJECTIONS else channel] for channel in channels}

    def prepare(self, batches: Sequence[Batch], partitions: Mapping[str, int]) -> Flush:
        """The flush of these batches. `partitions` is the number of partitions of each topic. Raises MarketUnknown
        while a feed is still to bring its list of markets."""
        if partitions != self._partitions:
            self._places, self._partitions = {}, dict(partitions)
        chains: _Chains = {}
        routes: dict[tuple[type, str, str], _Route] = {}  # of the streams in these batches
        rejected: Counter[tuple[str, str]] = Counter()
        name = envelope.POSITION_HEADER
        # Compute the exact size of a message only if its value is larger than this.
        suspicious = self._max_message_bytes // 2
        for batch in batches:
            prefix = f"{batch.journal_id}:{batch.position}:".encode("ascii")
            for index, record in enumerate(self._named(batch.records, rejected)):
                kind = type(record)
                route = routes.get((kind, record.exchange, record.symbol))
                if route is None:
                    route = routes[kind, record.exchange, record.symbol] = self._route(record, chains)
                key, encode, headers, add, chain = route
                value = encode(record)
                message = (record.received_at // 1000, key, value, [(name, b"%b%d" % (prefix, index)), *headers])
                if len(value) <= suspicious or size_of(message) <= self._max_message_bytes:
                    add(message)
                    continue
                self.put_aside.note(chain.topic, message)
                rejected[channel_of(record), TOO_LARGE] += 1
                if self._keep_rejected:
                    self._add_summary(record, message, chains)
        return Flush([chain for chain in chains.values() if chain.messages], self._partitions, rejected, self.put_aside)

    def _route(self, record: Record, chains: _Chains) -> _Route:
        key, encode, headers, topic, partition = self._place(record)
        chain = chains.get((topic, partition))
        if chain is None:
            chain = chains[topic, partition] = Chain(topic, partition, channel_of(record))
        return key, encode, headers, chain.messages.append, chain

    def _add_summary(self, record: Record, message: Message, chains: _Chains) -> None:
        summary = _summary(record)
        key, encode, _, add, chain = self._route(summary, chains)
        instead = message[0], key, encode(summary), message[3]
        if size_of(instead) > self._max_message_bytes:
            self.put_aside.note(chain.topic, instead)
            return
        add(instead)
        chain.uncounted.append(instead)

    def _place(self, record: Record) -> _Place:
        kind = envelope.topic_kind(record)
        known = self._places.get((kind, record.exchange, record.symbol))
        if known is None:
            if len(self._places) >= _KEYS_KEPT:
                self._places.clear()
            symbol, topic, headers = self._name_of(record), self._names[kind], [_VERSION]
            if symbol != record.symbol:
                headers.append((envelope.SYMBOL_HEADER, record.symbol.encode()))
            key, encode = envelope.key(record, symbol), envelope.encoder_of(record, symbol)
            known = key, encode, headers, topic, partition_for(key, self._partitions[topic])
            self._places[kind, record.exchange, record.symbol] = known
        return known

    def _named(self, records: Sequence[Record], rejected: Counter[tuple[str, str]]) -> Sequence[Record]:
        """The records; instead of those whose market has no name in this style, their rejections."""
        if self._symbols.style != "venue":
            return records
        named: list[Record] = []
        for record in records:
            if isinstance(record, Rejected) or self._symbols.has(record.exchange, record.symbol):
                named.append(record)
            else:
                rejected[channel_of(record), UNKNOWN_MARKET] += 1
                named.append(rejection(record, _table_of(record), UNKNOWN_MARKET))
        return named

    def _name_of(self, record: Record) -> str:
        """The symbol to send. A rejection keeps what came, which may be no market's."""
        return record.symbol if isinstance(record, Rejected) else self._symbols.name(record.exchange, record.symbol)


def _table_of(record: Record) -> str:
    return TABLE_OF[type(record)] if type(record) in CHANNEL_OF else channel_of(record)  # type: ignore[index]


def _summary(record: Record) -> Rejected:
    exchange, symbol = record.exchange[:_SHOWN_CHARACTERS], record.symbol[:_SHOWN_CHARACTERS]
    return Rejected(exchange, symbol, record.time, record.received_at, _table_of(record), TOO_LARGE, "{}")
