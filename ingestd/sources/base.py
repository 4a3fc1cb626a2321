"""The contract between a reader of topics and what becomes of the messages. `tests/contract` knows both sides."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ingestd.storage.database import Database
from ingestd.storage.writer.positions import Mark, Move

Part: TypeAlias = tuple[str, int]  # topic, partition
JournalPlace: TypeAlias = tuple[str, int]  # a journal's id, and where in it; places of one journal only rise


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


@dataclass(frozen=True, slots=True)
class Item:
    """A message as it will be stored. `rejected` is why it will be put aside instead, None for a good one.

    `place` is the place in its producer's journal that the message names.
    """

    part: Part
    offset: int
    channel: str
    exchange: str
    content: Any
    rejected: str | None = None
    place: JournalPlace | None = None

    def __str__(self) -> str:
        return f"{self.part[0]}, partition {self.part[1]}, offset {self.offset}"


class Prepared(Protocol):
    """What one transaction stores."""

    async def write(self, database: Database) -> None:
        """Store it with its steps. May be repeated. Raises Superseded when a position is not where it was."""

    def count(self, took_s: float) -> None:
        """Count it, once it is known to be committed."""

    def after_commit(self) -> None:
        """What is done besides, at best."""


class Store(Protocol):
    """What becomes of the messages of some topics."""

    name: str
    heeds_places: bool
    """Whether repeated messages are told by the places that they name in their producers' journals."""

    def topics(self) -> Sequence[str]:
        """What to subscribe to."""

    def read(self, messages: Sequence[Message]) -> list[Item]:
        """One item for each message; never raises, whatever the bytes are."""

    def prepare(self, items: Sequence[Item], moves: Sequence[Move], marks: Mapping[str, Mark | None]) -> Prepared:
        """What stores these items."""

    def taken_over(self) -> None:
        """Another member has some of the partitions from now on."""


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """How much is held for how long. `stalled_after_s`: a frozen writer's database session is ended after this.
    `tells`: whether the log hears from this reader that a server is away; another one tells otherwise."""

    flush_s: float
    max_records: int
    session_timeout_s: float
    stalled_after_s: float
    tells: bool = True


@dataclass(frozen=True, slots=True)
class ReaderStatus:
    """A reader at this moment. `joined`: it is a member of its group and the broker answers. `problem` is None while
    all is well, else a sentence for people."""

    name: str
    joined: bool
    partitions: int
    lag: int
    problem: str | None
