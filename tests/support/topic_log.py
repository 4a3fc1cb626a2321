"""A broker in memory for tests of readers: topics, one group, and members that come, go, freeze and are forgotten.

It does what the contract of `sources.base` says and nothing more; that a real broker does the same is tested apart.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ingestd.kafka import envelope
from ingestd.kafka.messages import Membership, Message, Part
from ingestd.records import Record
from tests.support.topics import headers_of, topic_of


@dataclass
class TopicLog:
    """The broker. `first` is the oldest offset a partition still has."""

    partitions: int = 2
    log: dict[Part, list[Message]] = field(default_factory=dict)
    first: dict[Part, int] = field(default_factory=dict)
    members: list[MemoryConsumer] = field(default_factory=list)
    committed: dict[Part, int] = field(default_factory=dict)

    def create(self, topics: Sequence[str]) -> None:
        for topic in topics:
            for number in range(self.partitions):
                self.log.setdefault((topic, number), [])

    def append(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes | None]] = ()
    ) -> Message:
        part = (topic, zlib.crc32(key) % self.partitions)
        messages = self.log.setdefault(part, [])
        message = Message(topic, part[1], self.first.get(part, 0) + len(messages), key, value, headers)
        messages.append(message)
        return message

    def append_record(self, record: Record, journal_id: str, position: int, index: int) -> None:
        headers = headers_of(journal_id, position, index)
        self.append(topic_of("wolfinch", record), envelope.key(record), envelope.encode(record), headers)

    def delete_before(self, part: Part, offset: int) -> None:
        """What retention does."""
        self.log[part] = self.log[part][offset - self.first.get(part, 0) :]
        self.first[part] = offset

    def end(self, part: Part) -> int:
        return self.first.get(part, 0) + len(self.log.get(part, []))

    async def rebalance(self) -> None:
        """Share the partitions among the members, the eager way."""
        for member in self.members:
            parts, member.positions = list(member.positions), {}
            await member.membership.revoked(parts)
        shares: dict[int, list[Part]] = {index: [] for index in range(len(self.members))}
        for index, part in enumerate(sorted(self.log)):
            if shares:
                shares[index % len(shares)].append(part)
        for index, member in enumerate(self.members):
            member.positions = dict.fromkeys(shares[index], -1)
            member.membership.assigned(shares[index])

    async def forget(self, member: MemoryConsumer) -> None:
        """The session of this member timed out; nobody tells it."""
        if member in self.members:
            self.members.remove(member)
            await self.rebalance()


class MemoryConsumer:
    """One member. A position of -1 is a partition that is paused."""

    def __init__(self, broker: TopicLog, topics: Sequence[str], membership: Membership) -> None:
        self.broker = broker
        self.membership = membership
        self.positions: dict[Part, int] = {}
        broker.create(topics)

    async def start(self) -> None:
        self.broker.members.append(self)
        await self.broker.rebalance()

    async def stop(self) -> None:
        await self.broker.forget(self)

    async def poll(self, timeout_s: float, max_records: int) -> Sequence[Message]:
        found: list[Message] = []
        for part, position in list(self.positions.items()):
            if position < 0:
                continue
            first = self.broker.first.get(part, 0)
            start = max(position, first) - first
            taken = self.broker.log[part][start : start + max_records - len(found)]
            found += taken
            if taken:
                self.positions[part] = taken[-1].offset + 1
        await asyncio.sleep(0.001 if found else min(timeout_s, 0.003))
        return found

    async def bounds(self, parts: Sequence[Part]) -> Mapping[Part, tuple[int, int]]:
        await asyncio.sleep(0)
        return {part: (self.broker.first.get(part, 0), self.broker.end(part)) for part in parts}

    def begin(self, part: Part, offset: int) -> None:
        if part in self.positions:
            self.positions[part] = offset

    def pause(self, part: Part) -> None:
        if part in self.positions:
            self.positions[part] = -1

    async def commit(self, offsets: Mapping[Part, int]) -> None:
        self.broker.committed.update(offsets)

    async def ends(self, parts: Sequence[Part]) -> Mapping[Part, int]:
        return {part: self.broker.end(part) for part in parts}

    async def missing_topics(self) -> Collection[str]:
        return ()
