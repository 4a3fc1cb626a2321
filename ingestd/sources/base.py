"""The contract between a reader of topics and a store, which says what becomes of the messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ingestd.kafka.messages import Message, Part
from ingestd.storage.database import Database
from ingestd.storage.writer.positions import Mark, Move

JournalPlace: TypeAlias = tuple[str, int]  # a journal's id, and a place in it; within one journal places only rise


@dataclass(frozen=True, slots=True)
class Item:
    """A message as it will be stored. `rejected` is the reason if it will be put aside instead.

    `place` is where the record was in the journal of its producer, as the message says.
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
    """One transaction."""

    async def write(self, database: Database) -> None:
        """Store the items and move the positions. May be repeated. Raises Superseded if a position has moved."""

    def count(self, took_s: float) -> None:
        """Count what was stored, once it is known to be committed."""

    def after_commit(self) -> None:
        """Do what is no part of the transaction, best effort."""


class Store(Protocol):
    """What becomes of the messages of some topics."""

    name: str
    uses_marks: bool
    """Whether repeated messages are recognised by their places in their producers' journals (see `marks`)."""

    def topics(self) -> Sequence[str]:
        """The topics to subscribe to."""

    def read(self, messages: Sequence[Message]) -> list[Item]:
        """One item for each message. Never raises, whatever the bytes are."""

    def prepare(self, items: Sequence[Item], moves: Sequence[Move], marks: Mapping[str, Mark | None]) -> Prepared:
        """The transaction that stores these items."""

    def taken_over(self) -> None:
        """Another member reads some of the partitions from now on."""


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """How much is held, and for how long. After `stalled_after_s` a frozen writer's database session is ended.

    `logs_outages`: whether this reader logs that a server is away. Of those that use one server, one does.
    """

    flush_s: float
    max_records: int
    session_timeout_s: float
    stalled_after_s: float
    logs_outages: bool = True


@dataclass(frozen=True, slots=True)
class ReaderStatus:
    """A reader at this moment. `joined`: it is a member of its group, and the broker answers. `problem` is a sentence
    for people, None while all is well.
    """

    name: str
    joined: bool
    partitions: int
    lag: int
    problem: str | None
