"""A message as it is read, and the contract between a member of a consumer group and its consumer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Part: TypeAlias = tuple[str, int]  # topic, partition


class Message(Protocol):
    """A message of a topic. `timestamp` is in milliseconds since the epoch, by the producer's or the broker's clock."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...  # Kafka knows headers without a value
    @property
    def timestamp(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for the messages from `first_offset` to `offset`, which cannot be read or are too large.

    `reason` is a short word for the metrics, `error` a sentence for people.
    """

    topic: str
    partition: int
    first_offset: int
    offset: int
    reason: str
    error: str
    key: None = None
    value: None = None
    headers: tuple[()] = ()
    timestamp: int = 0


class Membership(Protocol):
    """Whom the consumer tells which partitions it has."""

    def assigned(self, parts: Sequence[Part]) -> None:
        """From now on this member has these partitions and no others. They are paused."""

    async def revoked(self, parts: Sequence[Part]) -> None:
        """These partitions go to another member as soon as this returns."""


class Consumer(Protocol):
    """A member of a consumer group. After KafkaError or ConnectionLost a new one must be made."""

    async def start(self) -> None:
        """Join the group. Assignments go to the Membership."""

    async def stop(self) -> None:
        """Leave the group. Never raises."""

    async def poll(self, timeout_s: float, max_records: int) -> Sequence[Message]:
        """The messages that have arrived, of partitions that are not paused, in order within each."""

    async def bounds(self, parts: Sequence[Part]) -> Mapping[Part, tuple[int, int]]:
        """The first offset that is kept, and the one that the next message will have."""

    def begin(self, part: Part, offset: int) -> None:
        """Read this partition from this offset. Does nothing if it is no longer this member's."""

    def pause(self, part: Part) -> None:
        """Stop reading this partition. Does nothing if it is no longer this member's."""

    async def commit(self, offsets: Mapping[Part, int]) -> None:
        """Tell the broker how far messages are stored, for whoever watches the group's lag. Never raises."""

    async def ends(self, parts: Sequence[Part]) -> Mapping[Part, int]:
        """The offset that the next message of each will have. Returns or raises within a few seconds."""

    async def missing_topics(self) -> Collection[str]:
        """The subscribed topics that do not exist. With `kafka.create_topics` they are created first. Returns or raises
        within a few seconds."""
