"""How venues number the changes of a book, where their code in the exchange library does not see that one is missing,
or does not find the first one that is newer than the book it asked for over REST. Pure."""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ingestd.gaps.consecutive import HOLES_TO_DOUBT, STEPS_TO_BELIEVE, Consecutiveness

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


class BookSteps:
    """The steps from one number of a market's book to the next: whether its changes are to be judged by them.

    Those from a whole book to its first change and those from one change to the next are counted apart: where the
    first ones never follow, the whole book is of another series.
    """

    def __init__(self) -> None:
        self.are_believed = True
        self._counts = [0, 0]
        self._judges = Consecutiveness(), Consecutiveness()
        self._since_hole = 0

    def count(self, *, follows: bool, in_turn: bool) -> bool:
        """Note a step, `in_turn` from a change. Whether they are no longer believed since this one."""
        self._counts[in_turn] += 1
        self._since_hole = self._since_hole + 1 if follows else 0
        if follows:
            self.are_believed = self.are_believed or self._since_hole >= STEPS_TO_BELIEVE
            return False
        judge, was_believed = self._judges[in_turn], self.are_believed
        if judge.judge(self._counts[in_turn], 1) != "believed" and judge.holes >= HOLES_TO_DOUBT:
            self.are_believed = False
        return was_believed and not self.are_believed


def _number(part: Mapping[str, Any], names: Sequence[str]) -> int | None:
    for name in names:
        value = part.get(name)
        if value is not None:
            try:
                return int(value)
            except (TypeError, ValueError):
                return None
    return None


NUMBERINGS: Mapping[str, Numbering] = {
    "backpack": Numbering(("U",), ("u",)),  # https://docs.backpack.exchange/#tag/Streams/Public/Depth
    "bitstamp": Numbering((), ("microtimestamp",), consecutive=False),  # https://www.bitstamp.net/websocket/v2/
    "gate": Numbering(("U",), ("u",)),  # https://www.gate.com/docs/developers/apiv4/ws/en/#changed-order-book-levels
    "kucoin": Numbering(("sequenceStart", "sequence", "O"), ("sequenceEnd", "sequence", "C")),
    "mexc": Numbering(("fromVersion", "begin", "version", "r"), ("toVersion", "end", "version", "r")),
    "xt": Numbering(("fi", "fu"), ("i", "u"), before=("pu",)),
    # Their whole book comes over the socket, and their code does not see that a change is missing after it.
    "bittrade": Numbering((), ("seqNum",), before=("prevSeqNum",), within="tick"),
    "bitvavo": Numbering(("nonce",), ("nonce",)),  # https://docs.bitvavo.com/docs/manage-order-book
    # The same, and their numbers are looked at frame by frame: the documents are named in `numbered_frames`.
    "apex": Numbering(("u",), ("u",)),
    "blofin": Numbering((), ("seqId",), before=("prevSeqId",)),
    "bybit": Numbering(("u",), ("u",)),
    "coinbaseinternational": Numbering((), ("change_id",), before=("prev_change_id",)),
    "deribit": Numbering((), ("change_id",), before=("prev_change_id",)),
    "grvt": Numbering((), ("sequence_number",), before=("prev_sequence_number",)),
    "hitbtc": Numbering(("s",), ("s",)),
    "htx": Numbering(("version",), ("version",)),  # of contracts; of spot the venue's code compares the numbers
    "krakenfutures": Numbering(("seq",), ("seq",)),
    "lighter": Numbering((), ("nonce",), before=("begin_nonce",)),
    "nado": Numbering((), ("max_timestamp",), before=("last_max_timestamp",), by_time=True),
    "poloniex": Numbering((), ("id",), before=("lastId",)),
    "weex": Numbering(("U",), ("u",)),  # `U` is the number before, or the one after it: both are let pass
    "whitebit": Numbering((), ("update_id",), before=("past_update_id",)),
}
"""By the name of the venue's code in the exchange library."""
