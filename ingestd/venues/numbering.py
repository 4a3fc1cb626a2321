"""Checks sequence numbers of book changes, for venues whose ccxt code does not do so correctly. Pure.

That code misses a lost change, or does not find the first change that is newer than a REST snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["follows", "old", "hole"]


@dataclass(frozen=True, slots=True)
class Numbering:
    """The field names for the first and last sequence number of a change; `before`: the number of the previous change.

    If the numbers are not `consecutive`, they only rise, and prove nothing about changes between two of them.
    """

    first: tuple[str, ...]
    last: tuple[str, ...]
    before: tuple[str, ...] = ()
    within: str | None = None  # the part of the message that has these fields
    consecutive: bool = True
    by_time: bool = False  # the snapshot has no number, but a time that is not before its last change

    def last_number(self, change: Mapping[str, Any]) -> int | None:
        """The book's number after the change; None if the change has no number."""
        return _number(self._part(change), self.last)

    def number_before(self, change: Mapping[str, Any]) -> int | None:
        """The book's number before the change; None if the change does not tell."""
        part = self._part(change)
        before, start = _number(part, self.before), _number(part, self.first)
        return before if before is not None or start is None else start - 1

    def verdict(self, change: Mapping[str, Any], number: int | None) -> Verdict:
        """Whether the change follows a book with this number, is older, or leaves a hole."""
        last = self.last_number(change)
        if last is None or number is None:
            return "follows"
        part = self._part(change)
        before = _number(part, self.before)
        if before == number:
            return "follows"  # also if the venue restarts its numbering
        if last <= number:
            return "old"
        start = _number(part, self.first) if before is None else before + 1
        return "follows" if not self.consecutive or start is None or start <= number + 1 else "hole"

    def start(self, number: int | None, changes: MutableSequence[Mapping[str, Any]]) -> int | None:
        """The index of the first buffered change that is newer than a snapshot with this number.

        None: the snapshot is older than the buffered changes, or a change is missing, so a newer snapshot is needed.
        Changes before a hole are removed from the buffer.
        """
        is_whole = not self._drop_before_hole(changes)
        if self.by_time:  # amounts are absolute: changes that the book contains already do no harm
            return 0 if is_whole else None
        if number is None:
            return None
        for index, change in enumerate(changes):
            verdict = self.verdict(change, number)
            if verdict == "hole" or (verdict == "follows" and index == 0 and not self.consecutive):
                return None  # if numbers only rise, the snapshot must not be older than the buffered changes
            if verdict == "follows":
                return index
        return len(changes)

    def _drop_before_hole(self, changes: MutableSequence[Mapping[str, Any]]) -> bool:
        """Drop the changes before the last hole. Return whether there was a hole."""
        for index in range(len(changes) - 1, 0, -1):
            if self.verdict(changes[index], self.last_number(changes[index - 1])) == "hole":
                del changes[:index]
                return True
        return False

    def _part(self, change: Mapping[str, Any]) -> Mapping[str, Any]:
        part = change if self.within is None else change.get(self.within)
        return part if isinstance(part, Mapping) else {}


def _number(part: Mapping[str, Any], names: Sequence[str]) -> int | None:
    for name in names:
        value = part.get(name)
        if value is not None:
            try:
                return int(value)
            except (TypeError, ValueError):
                return None
    return None
