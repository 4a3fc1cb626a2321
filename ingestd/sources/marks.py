"""Recognises repeated messages of a partition by their places (position and index) in their producer's journal.

A producer that restarts sends messages again that may not have arrived. Within a partition the places of a journal only
rise. So a message at or below the journal's mark, the highest place stored, is a repetition. But any program that may
write to a topic can claim any place of any journal. Two rules limit the harm:

- Only a stored record raises a mark. The rise is limited by the number of batches that a daemon can seal between the
  `received_at` of the record that raised the mark last and the record's own, which is never far ahead of our clock. So
  a backlog or a long pause of the reader makes no difference.
- A record at or below the mark is a repetition only if it was received no later than the newest record up to the mark.

A record that breaks a rule is stored, and raises no mark. The first place of an unknown journal is accepted if a daemon
can have reached it since 2026, when the first journals were written.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from ingestd.errors import EnvelopeError
from ingestd.kafka.envelope import POSITION_HEADER, parse_position
from ingestd.kafka.messages import Message
from ingestd.sources.base import JournalPlace
from ingestd.storage.writer.positions import Mark

JOURNALS_KEPT = 100  # in each partition; beyond that, forget the one whose mark was raised longest ago
_INDEX_BITS = 20  # bits for the index: no batch has more records
_LARGEST_MARK = 2**63 - 1
_LONGEST_ID = 64  # ids of ingestd's journals have 16 characters
# The shortest time from one batch to the next: 10,000 batches a second. A daemon usually seals 50, and with its journal
# in memory up to 2,300.
_BATCH_US = 100
# How far a journal may be ahead of that rate, in case a clock was set back: half an hour of usual batches.
_AHEAD_US = 100_000 * _BATCH_US
_NO_JOURNAL_BEFORE_US = 1_767_225_600_000_000  # 2026-01-01


class Verdict(enum.Enum):
    """The verdict about a record by its place."""

    NEW = "new"
    REPEATED = "repeated"
    DOUBTFUL = "doubtful"  # no daemon can have written this place, or the one of the mark


def journal_place(message: Message) -> JournalPlace | None:
    """The journal place in the message's header. None without a header or with a malformed one (empty, null, other
    text): such a message is always new."""
    for name, value in message.headers:
        if name == POSITION_HEADER:
            try:
                journal_id, position, index = parse_position(value or b"")
            except EnvelopeError:
                return None
            mark = (position << _INDEX_BITS) + index
            fits = index < 1 << _INDEX_BITS and mark <= _LARGEST_MARK and len(journal_id) <= _LONGEST_ID
            return (journal_id, mark) if fits else None
    return None


@dataclass(slots=True)
class _Journal:
    """A journal's mark, the time of receipt of the newest record up to it, and how far it is ahead of the rate."""

    mark: int
    received_at: int
    ahead_us: int = 0
    batch_end: int = 0  # the first mark of the batch after that of `mark`


class Marks:
    """The marks of one partition, for the journals that wrote to it most recently. Pure."""

    def __init__(self, stored: Mapping[str, Mark]) -> None:
        """`stored`: the marks by journal id, in the order in which they were last raised."""
        self._journals = {journal_id: _Journal(mark.position, mark.received_at) for journal_id, mark in stored.items()}
        self._raised: dict[str, None] = {}
        self._forgotten: dict[str, None] = {}
        self._last = _NONE  # the journal whose mark was raised last since `stored`

    def reaches(self, place: JournalPlace) -> bool | None:
        """Whether the journal's mark is at or above this place; None if the journal has no mark."""
        known = self._journals.get(place[0])
        return None if known is None else place[1] <= known.mark

    def judge(self, place: JournalPlace, received_at: int) -> Verdict:
        """Judge a storable record by its place. A new record raises the mark."""
        journal_id, mark = place
        known = self._journals.get(journal_id)
        if known is self._last and known.mark < mark < known.batch_end:
            # Fast path, same effect as below: nearly every record is the next one of the same batch.
            known.mark = mark
            if received_at > known.received_at:
                known.ahead_us = known.ahead_us and max(0, known.ahead_us - received_at + known.received_at)
                known.received_at = received_at
            return Verdict.NEW
        if known is None:
            known = _Journal(0, _NO_JOURNAL_BEFORE_US)
        elif mark <= known.mark:
            return Verdict.REPEATED if received_at <= known.received_at else Verdict.DOUBTFUL
        position = mark >> _INDEX_BITS
        ahead_us = known.ahead_us + (position - (known.mark >> _INDEX_BITS)) * _BATCH_US
        if received_at > known.received_at:
            ahead_us -= received_at - known.received_at
        if ahead_us > _AHEAD_US:
            return Verdict.DOUBTFUL
        if known is not self._last:
            self._move_last(journal_id, known)
        known.mark, known.batch_end, known.ahead_us = mark, (position + 1) << _INDEX_BITS, max(0, ahead_us)
        known.received_at = max(known.received_at, received_at)
        return Verdict.NEW

    def raised(self) -> dict[str, Mark]:
        """The marks raised since `stored`, by journal id."""
        return {journal_id: Mark(known.mark, known.received_at) for journal_id in self._raised
                if (known := self._journals.get(journal_id)) is not None}  # fmt: skip

    def forgotten(self) -> list[str]:
        """The ids of the journals forgotten since `stored`."""
        return list(self._forgotten)

    def stored(self) -> None:
        """Note that the raised marks are stored and the forgotten ones deleted."""
        self._raised.clear()
        self._forgotten.clear()
        self._last = _NONE

    def _move_last(self, journal_id: str, known: _Journal) -> None:
        self._journals.pop(journal_id, None)
        self._journals[journal_id] = self._last = known
        self._raised[journal_id] = None
        self._forgotten.pop(journal_id, None)
        if len(self._journals) > JOURNALS_KEPT:
            oldest = next(iter(self._journals))
            del self._journals[oldest]
            self._raised.pop(oldest, None)
            self._forgotten[oldest] = None


_NONE = _Journal(0, 0)
