"""A partition that this member reads: from where, what it holds of it, and which messages it has had before.

A producer that starts again sends what it is not sure of once more. Each of its messages names its place in the
producer's journal, which only rises within a partition, so a mark per journal tells a repetition.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from ingestd.envelope import POSITION_HEADER, parse_position
from ingestd.errors import EnvelopeError
from ingestd.sinks.timescale import positions
from ingestd.sinks.timescale.positions import Move, Place, Superseded
from ingestd.sources.base import Item, Message, Part
from ingestd.storage.database import Database

log = structlog.get_logger()

REPLAY_PREFIX = "kafka-replay:"
_INDEX_BITS = 20  # a batch has fewer records than this can count
_LARGEST_MARK = 2**63 - 1


@dataclass(slots=True)
class Partition:
    """`next` is the offset after the last message taken; `place` is what the position row says.

    `proves_itself`: the message before `next` is read first, since a topic that was made anew may have grown past it.
    """

    part: Part
    source: str
    place: Place
    next: int
    marks: dict[str, int]  # journal id -> the highest place had of it, stored or held
    held: list[Item] = field(default_factory=list)
    repeated: Counter[str] = field(default_factory=Counter)  # by channel, since the last flush
    new_marks: dict[str, int] = field(default_factory=dict)
    proves_itself: bool = False

    @property
    def first_read(self) -> int:
        """Where to begin reading."""
        return self.next - 1 if self.proves_itself else self.next

    def never_had(self, message: Message) -> bool:
        """Whether the message that stands where one was stored is certainly another one."""
        place = replay_place(message)
        return place is not None and place[0] in self.marks and place[1] > self.marks[place[0]]

    def is_new(self, message: Message, channel: str) -> bool:
        """Whether the message was not had before; then it counts as had from now on."""
        place = replay_place(message)
        if place is None:
            return True
        journal_id, mark = place
        if mark <= self.marks.get(journal_id, -1):
            self.repeated[channel] += 1
            return False
        self.marks[journal_id] = self.new_marks[journal_id] = mark
        return True

    @property
    def move(self) -> Move:
        """The step that storing everything held makes."""
        return Move(self.source, self.place.position, self.next, self.place.epoch)

    def mark_rows(self) -> dict[str, int]:
        """The marks to write in the same transaction, by row."""
        return {f"{replay_source(self.part)}{journal_id}": mark for journal_id, mark in self.new_marks.items()}

    def stored(self) -> None:
        """What was held is committed."""
        self.place = Place(self.next, self.place.epoch)
        self.held, self.repeated, self.new_marks = [], Counter(), {}


def replay_place(message: Message) -> tuple[str, int] | None:
    """The journal and the place in it that the message names; None for a producer that has no journal. A header that
    names none (empty, null, other text) makes the message new: what is right in it is stored."""
    for name, value in message.headers:
        if name == POSITION_HEADER:
            try:
                journal_id, position, index = parse_position(value or b"")
            except EnvelopeError:
                return None
            mark = (position << _INDEX_BITS) + index
            return (journal_id, mark) if index < 1 << _INDEX_BITS and mark <= _LARGEST_MARK else None
    return None


def replay_source(part: Part) -> str:
    """The start of the names of the rows that keep this partition's marks."""
    return f"{REPLAY_PREFIX}{part[0]}:{part[1]}:"


def position_source(prefix: str, part: Part) -> str:
    """The name of the row that keeps this partition's next offset."""
    return f"kafka:{prefix}:{part[0]}:{part[1]}"


async def take_over(
    database: Database, prefix: str, parts: Sequence[Part], *, stalled_after_s: float
) -> list[Partition]:
    """Fence off whoever wrote these partitions before, and read how far they are stored."""
    sources = {position_source(prefix, part): part for part in parts}
    places = await positions.claim(database, sorted(sources), stalled_after_s=stalled_after_s)
    rows = await database.fetch(
        "SELECT start, substr(source, length(start) + 1) AS journal_id, position FROM ingest_positions "
        "JOIN unnest($1::text[]) AS wanted (start) ON starts_with(source, start)",
        [replay_source(part) for part in parts],
    )
    marks: dict[str, dict[str, int]] = {}
    for row in rows:
        marks.setdefault(row["start"], {})[row["journal_id"]] = row["position"]
    return [
        Partition(part, source, places[source], places[source].position, marks.get(replay_source(part), {}))
        for source, part in sources.items()
    ]


async def rewind(database: Database, remade: Sequence[Partition], firsts: Mapping[Part, int]) -> None:
    """Their topics were made anew: store that these partitions begin at the first offset there is now."""
    for partition in remade:
        stored, first = partition.place.position, firsts[partition.part]
        log.error("topic_was_made_anew", partition=partition.part, stored_up_to=stored, reading_from=first)
    moves = [Move(part.source, part.place.position, firsts[part.part], part.place.epoch) for part in remade]
    # Superseded by an attempt whose reply was lost, or by another member: then the next flush is refused.
    with contextlib.suppress(Superseded):
        await positions.advance(database, moves)
    for partition in remade:
        partition.place = Place(firsts[partition.part], partition.place.epoch)
        partition.next = partition.place.position
