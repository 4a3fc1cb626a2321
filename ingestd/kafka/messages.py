"""A message read from Kafka, and the contract between a member of a consumer group and its consumer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

Part: TypeAlias = tuple[str, int]  # topic, partition


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message of a topic. A header may have no value."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Unreadable(Message, frozen=True, kw_only=True, gc=False):
    """A placeholder for the messages from `first_offset` to `offset`, which cannot be read or are too large.

    `reason` is a short word for the metrics, `error` a sentence for people.
    """

    first_offset: int
    reason: str
    error: str


class Membership(Protocol):
    """Receives assignments from the consumer."""

    def assigned(self, parts: Sequence[Part]) -> None:
        """Take a new assignment: this member has these partitions and no others. They are paused."""

    async def revoked(self, parts: Sequence[Part]) -> None:
        """Give up these partitions. They go to another member as soon as this returns."""


class Consumer(Protocol):
    """A member of a consumer group. After KafkaError or ConnectionLost a new one must be made."""

    async def start(self) -> None:
        """Join the group. Assignments are passed to the Membership."""

    async def stop(self) -> None:
        """Leave the group. Never raises."""

    async def poll(self, timeout_s: float, max_records: int) -> Sequence[Message]:
        """The messages that come within `timeout_s`, of partitions that are not paused, in order within each one."""

    async def bounds(self, parts: Sequence[Part]) -> Mapping[Part, tuple[int, int]]:
        """Each partition's first offset, and its end offset (that of the next message)."""

    def begin(self, part: Part, offset: int) -> None:
        """Read this partition from this offset. Does nothing if the partition is no longer this member's."""

    def pause(self, part: Part) -> None:
        """Stop reading this partition. Does nothing if the partition is no longer this member's."""

    async def commit(self, offsets: Mapping[Part, int]) -> None:
        """Commit stored offsets to the broker, for tools that watch the group's lag. Never raises."""

    async def ends(self, parts: Sequence[Part]) -> Mapping[Part, int]:
        """The end offset of each partition. Returns or raises within a few seconds."""

    async def missing_topics(self) -> Collection[str]:
        """The subscribed topics that do not exist; none if `kafka.create_topics` creates them. Takes a few seconds."""
