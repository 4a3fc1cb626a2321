"""What a broker hands over, and the contract of one member of a consumer group."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Part: TypeAlias = tuple[str, int]  # topic, partition


class Message(Protocol):
    """What a broker hands over; `timestamp` is milliseconds since the epoch, by a clock of Kafka's."""

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
    """Stands for the messages from `first_offset` to `offset`, which cannot be read or are too large: it is put aside.

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
    """Who is told which partitions come and go."""

    def assigned(self, parts: Sequence[Part]) -> None:
        """These partitions, and no others, are this member's from now on. They are paused."""

    async def revoked(self, parts: Sequence[Part]) -> None:
        """These partitions go to another member as soon as this returns."""


class Consumer(Protocol):
    """One member of a consumer group. Calls may raise KafkaError or ConnectionLost; then a new one must be made."""

    async def start(self) -> None:
        """Join the group; assignments are told to the Membership."""

    async def stop(self) -> None:
        """Leave the group. Never raises."""

    async def poll(self, timeout_s: float, max_records: int) -> Sequence[Message]:
        """What has arrived of the partitions that are not paused, in order within each."""

    async def bounds(self, parts: Sequence[Part]) -> Mapping[Part, tuple[int, int]]:
        """The first offset kept, and the one the next message will have."""

    def begin(self, part: Part, offset: int) -> None:
        """Read this partition from here on; nothing when it is no longer this member's."""

    def pause(self, part: Part) -> None:
        """Stop reading it; nothing when it is no longer this member's."""

    async def commit(self, offsets: Mapping[Part, int]) -> None:
        """Tell the broker, for whoever looks at the group's lag. Only a hint; never raises."""

    async def ends(self, parts: Sequence[Part]) -> Mapping[Part, int]:
        """The offset the next message of each will have. Answers or raises within a few seconds."""

    async def missing_topics(self) -> Collection[str]:
        """What was subscribed to and does not exist. Those that this program may make are made first. Answers or
        raises within a few seconds."""
