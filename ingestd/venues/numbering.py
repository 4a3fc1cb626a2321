"""How venues number the changes of a book, where their code in ccxt does not see that one is missing,
or does not find the first one that is newer than the book it asked for over REST. Pure."""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["follows", "old", "hole"]


@dataclass(frozen=True, slots=True)
class Numbering:
    """Under which names a change states its first and last number; `before`: that of the change before it.

    Not `consecutive`: the numbers only rise, and nothing can be said of what is between two of them.
    """

    first: tuple[str, ...]
    last: tuple[str, ...]
    before: tuple[str, ...] = ()
    within: str | None = None  # the part of the message that has them
    consecutive: bool = True
    by_time: bool = False  # the whole book states no number, but a time that is not before its last change

    def last_number(self, change: Mapping[str, Any]) -> int | None:
        """The number of the book once the change is in it; None when it states none."""
        return _number(self._part(change), self.last)

    def number_before(self, change: Mapping[str, Any]) -> int | None:
        """The number of the book on which the change follows; None when it states none."""
        part = self._part(change)
        before, start = _number(part, self.before), _number(part, self.first)
        return before if before is not None or start is None else start - 1

    def verdict(self, change: Mapping[str, Any], number: int | None) -> Verdict:
        """Whether the change follows on a book of that number."""
        last = self.last_number(change)
        if last is None or number is None:
            return "follows"
        part = self._part(change)
        before = _number(part, self.before)
        if before == number:
            return "follows"  # also where the venue begins to count anew
        if last <= number:
            return "old"
        start = _number(part, self.first) if before is None else before + 1
        return "follows" if not self.consecutive or start is None or start <= number + 1 else "hole"

    def start(self, number: int | None, changes: MutableSequence[Mapping[str, Any]]) -> int | None:
        """The first of the changes that were gathered which is newer than a book of that number.

        None: the book is older than what was gathered, or something is missing, and a newer one is needed. Changes
        before a hole are dropped.
        """
        is_whole = not self._let_go_before_a_hole(changes)
        if self.by_time:  # amounts are absolute: those that are in the book already do no harm
            return 0 if is_whole else None
        if number is None:
            return None
        for index, change in enumerate(changes):
            verdict = self.verdict(change, number)
            if verdict == "hole" or (verdict == "follows" and index == 0 and not self.consecutive):
                return None  # where numbers only rise, the book must be no older than what was gathered
            if verdict == "follows":
                return index
        return len(changes)

    def _let_go_before_a_hole(self, changes: MutableSequence[Mapping[str, Any]]) -> bool:
        """Whether there was one."""
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
