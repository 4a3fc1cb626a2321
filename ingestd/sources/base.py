"""The contract between a reader of topics and the store that turns messages into rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ingestd.kafka.messages import Message, Part
from ingestd.storage.database import Database
from ingestd.storage.writer.positions import Mark, Move

JournalPlace: TypeAlias = tuple[str, int]  # a journal's id, and a place in it; places of one journal only rise


@dataclass(frozen=True, slots=True)
class Item:
    """A message, ready to be stored. `rejected` is the reason if it will be put aside instead.

    `place` is the record's place in its producer's journal, according to the message.
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
    """A transaction, prepared."""

    async def write(self, database: Database) -> None:
        """Store the items and move the positions. May be repeated. Raises Superseded if a position has moved."""

    def committed(self, took_s: float) -> None:
        """Update metrics and caches, once the transaction is known to be committed."""


class Store(Protocol):
    """Reads and stores the messages of some topics."""

    name: str
    uses_marks: bool
    """Whether repeated messages are recognised by their places in their producers' journals (see `marks`)."""

    def topics(self) -> Sequence[str]:
        """The topics to subscribe to."""

    def read(self, messages: Sequence[Message]) -> list[Item]:
        """Read one item from each message. Never raises, whatever the bytes are."""

    def prepare(self, items: Sequence[Item], moves: Sequence[Move], marks: Mapping[str, Mark | None]) -> Prepared:
        """Prepare the transaction that stores these items."""

    def taken_over(self) -> None:
        """Note that another member may have stored some of the partitions."""


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """How many messages are held, and how long. A frozen writer's session is ended after `stalled_after_s`.

    `logs_outages`: whether this reader logs that a server is away. Only one of the readers that share a server does.
    """

    flush_s: float
    max_records: int
    session_timeout_s: float
    stalled_after_s: float
    logs_outages: bool = True


@dataclass(frozen=True, slots=True)
class ReaderStatus:
    """The state of a reader. `joined`: it is a member of its group, and the broker answers. `problem` is a sentence for
    people, None if there is no problem.
    """

    joined: bool
    partitions: int
    lag: int
    problem: str | None
