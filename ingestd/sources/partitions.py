"""A partition that a member reads: its first offset, the messages held, and which messages were stored before."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from ingestd.channels import ROWS
from ingestd.clock import from_datetime
from ingestd.errors import Superseded
from ingestd.kafka.messages import Message, Part
from ingestd.sources.base import Item
from ingestd.sources.marks import JOURNALS_KEPT, Marks, Verdict, journal_place
from ingestd.storage.database import Database
from ingestd.storage.writer import positions
from ingestd.storage.writer.positions import Mark, Move, Place

log = structlog.get_logger()

# The channels whose rows can be stored again without effect. Candles are not: an older one would replace a newer.
_HAVE_IDS = frozenset({"gaps", *(row.name for row in ROWS if row.key and not row.replaces)})
REPLAY_PREFIX = "kafka-replay:"
# The newest marks of each partition, the newest last; others are deleted. The row without journal id: the fingerprint.
_READ_MARKS = """
WITH ranked AS (
    SELECT start, source, position, epoch, updated_at,
           row_number() OVER (PARTITION BY start ORDER BY source = start DESC, updated_at DESC, epoch DESC) AS rank
    FROM ingest_positions JOIN unnest($1::text[]) AS wanted (start) ON starts_with(source, start)
), gone AS (
    DELETE FROM ingest_positions USING ranked WHERE ingest_positions.source = ranked.source AND rank > $2 + 1
)
SELECT start, substr(source, length(start) + 1) AS journal_id, position, epoch, updated_at
FROM ranked WHERE rank <= $2 + 1 ORDER BY updated_at, epoch
"""


@dataclass(slots=True)
class Partition:
    """A claimed partition. `next` is the offset after the last message taken, `place` the row in `ingest_positions`.

    `verify_previous_message`: read the message before `next` first, because a recreated topic may have grown past it.
    `unmarked` is the fingerprint of a message that was stored although its place is above its journal's mark.
    """

    part: Part
    source: str
    place: Place
    next: int
    marks: Marks
    unmarked: int = 0
    held: list[Item] = field(default_factory=list)
    repeated: Counter[str] = field(default_factory=Counter)  # by channel, since the last flush
    doubtful: Counter[str] = field(default_factory=Counter)  # by journal id, until they are logged
    verify_previous_message: bool = False
    _newest_unmarked: Message | None = None

    @property
    def first_read(self) -> int:
        """The offset of the first message to read."""
        return self.next - 1 if self.verify_previous_message else self.next

    def begin(self, first: int) -> int:
        """Begin at the row's offset, or at `first` if the topic begins later. Return how many messages are lost."""
        stored = self.place.position
        self.verify_previous_message = stored > first
        self.next = max(stored, first)
        return max(0, first - stored) if stored else 0

    def never_had(self, message: Message) -> bool:
        """Whether this message cannot be the one that was stored at its offset."""
        place = journal_place(message)
        return place is not None and self.marks.reaches(place) is False and _fingerprint(message) != self.unmarked

    def is_wanted(self, item: Item, message: Message) -> bool:
        """Whether the item must be stored. If its place is plausible, it raises the journal's mark."""
        if item.place is None:
            return True
        if item.rejected is None:
            verdict = self.marks.judge(item.place, item.content.received_at)
            if verdict is Verdict.NEW:
                return True
        else:
            verdict = Verdict.REPEATED if self.marks.reaches(item.place) else Verdict.NEW
        if verdict is Verdict.REPEATED and item.channel not in _HAVE_IDS:
            self.repeated[item.channel] += 1
            return False
        self._newest_unmarked = message
        if verdict is Verdict.DOUBTFUL:
            self.doubtful[item.place[0]] += 1
        return True

    def taken(self) -> Counter[str]:
        """The number of messages taken and not yet stored, by channel."""
        return self.repeated + Counter(item.channel for item in self.held)

    @property
    def has_more(self) -> bool:
        """Whether messages were taken that are not stored yet."""
        return self.next != self.place.position

    @property
    def move(self) -> Move:
        """The move of the row once everything held is stored."""
        return Move(self.source, self.place.position, self.next, self.place.epoch)

    def mark_rows(self) -> dict[str, Mark | None]:
        """The marks to write in the same transaction, by row name; None deletes the row."""
        start = replay_source(self.part)
        rows: dict[str, Mark | None] = {f"{start}{journal_id}": None for journal_id in self.marks.forgotten()}
        rows.update({f"{start}{journal_id}": mark for journal_id, mark in self.marks.raised().items()})
        newest = self._newest_unmarked
        if newest is not None and newest.offset == self.next - 1:
            self.unmarked = _fingerprint(newest)
            rows[start] = Mark(self.unmarked, 0)
        return rows

    def stored(self) -> None:
        """Note that everything held is committed."""
        self.place = Place(self.next, self.place.epoch)
        self.held, self.repeated = [], Counter()
        self._newest_unmarked = None
        self.marks.stored()


def _fingerprint(message: Message) -> int:
    """A hash of the message; never 0."""
    digest = hashlib.blake2b(digest_size=7)
    for part in (message.key, message.value, *(value for _, value in message.headers)):
        digest.update(b"%d:" % len(part or b"") + (part or b""))
    return 1 + int.from_bytes(digest.digest(), "big")


def replay_source(part: Part) -> str:
    """The prefix of the names of the rows that keep this partition's marks."""
    return f"{REPLAY_PREFIX}{part[0]}:{part[1]}:"


def position_source(prefix: str, part: Part) -> str:
    """The name of the row that keeps this partition's next offset."""
    return f"kafka:{prefix}:{part[0]}:{part[1]}"


async def take_over(
    database: Database, prefix: str, parts: Sequence[Part], stalled_after_s: float, *, with_marks: bool
) -> list[Partition]:
    """Fence off the member that stored these partitions before, and read the stored offsets."""
    sources = {position_source(prefix, part): part for part in parts}
    places = await positions.claim(database, sorted(sources), stalled_after_s=stalled_after_s)
    rows = await database.fetch(
        _READ_MARKS, [replay_source(part) for part in parts] if with_marks else [], JOURNALS_KEPT
    )
    marks: dict[str, dict[str, Mark]] = {}
    for row in rows:
        # Earlier versions wrote no time of receipt. It was before the time when the row was written.
        mark = Mark(row["position"], row["epoch"] or from_datetime(row["updated_at"]))
        marks.setdefault(row["start"], {})[row["journal_id"]] = mark
    taken = []
    for source, part in sources.items():
        of_part = marks.get(replay_source(part), {})
        unmarked = of_part.pop("", Mark(0, 0)).position
        taken.append(Partition(part, source, places[source], places[source].position, Marks(of_part), unmarked))
    return taken


async def rewind(database: Database, remade: Sequence[Partition], firsts: Mapping[Part, int]) -> None:
    """Store the first existing offset as the position of these partitions, whose topics were recreated."""
    for partition in remade:
        stored, first = partition.place.position, firsts[partition.part]
        log.error("topic_was_made_anew", partition=partition.part, stored_up_to=stored, reading_from=first)
    moves = [Move(part.source, part.place.position, firsts[part.part], part.place.epoch) for part in remade]
    # An attempt whose reply was lost may have moved the row. If another member did, the next transaction is refused.
    with contextlib.suppress(Superseded):
        await positions.advance(database, moves)
    for partition in remade:
        partition.place = Place(firsts[partition.part], partition.place.epoch)
        partition.next = partition.place.position
