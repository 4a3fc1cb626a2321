"""The contract between a reader of topics and what becomes of the messages. `tests/contract` knows both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ingestd.kafka.messages import Message, Part
from ingestd.storage.database import Database
from ingestd.storage.writer.positions import Mark, Move

JournalPlace: TypeAlias = tuple[str, int]  # a journal's id, and where in it; places of one journal only rise


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
