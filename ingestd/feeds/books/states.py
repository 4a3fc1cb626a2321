"""A book as it was at one moment, and what a venue's own book says of the moments around it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

AUDITED_LEVELS = 100
_MOST_MUST_BE_STILL = 0.5  # of the levels: where more of them moved, the comparison says too little
_SUM_DECIMALS = 12  # a sum of floats is not to differ from the venue's by its last bits

Result = Literal["equal", "differs", "inconclusive"]
Levels = tuple[tuple[float, float], ...]
Place = tuple[str, float]  # side, price


@dataclass(frozen=True, slots=True)
class BookState:
    """The best levels (price, amount), best first, and the venue's sequence, if it has one."""

    bids: Levels
    asks: Levels
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`wrong`: the levels of our book that the venue's contradicts."""

    result: Result
    wrong: frozenset[Place] = frozenset()


def book_state(book: Mapping[str, Any], levels: int) -> BookState:
    """The state of a book in the exchange library's form. Orders at one price are one level."""
    sequence = book.get("nonce")
    return BookState(
        bids=_levels(book["bids"][:levels]),
        asks=_levels(book["asks"][:levels]),
        sequence=sequence if isinstance(sequence, int) else None,
    )


def compare(ours: Sequence[BookState], venue: BookState, *, one_series: bool) -> Verdict:
    """What the venue's own book says of the states ours went through around the request, the oldest first.

    The venue's is from an unknown moment among them. A level that had one amount in all of them must have it there
    too, one that was in none must not be there. `one_series`: the venue numbers the books of both its interfaces
    alike, which narrows the states down to those on either side of its book, or to the one that is the same.
    """
    if not ours or not (venue.bids and venue.asks):
        return Verdict("inconclusive")
    if one_series and venue.sequence is not None:
        ours = _around(ours, venue.sequence)
        if not ours:
            return Verdict("inconclusive")
    still = moving = 0
    wrong: set[Place] = set()
    for side in ("bids", "asks"):
        seen = [dict(levels) for levels in _within(side, [*(getattr(s, side) for s in ours), getattr(venue, side)])]
        theirs, states = seen[-1], seen[:-1]
        for price in set().union(*seen):
            amounts = {state.get(price) for state in states}
            if len(amounts) > 1:
                moving += 1
            elif theirs.get(price) in amounts:
                still += 1
            else:
                wrong.add((side, price))
    if wrong:
        return Verdict("differs", frozenset(wrong))
    return Verdict("equal" if still and still >= _MOST_MUST_BE_STILL * (still + moving) else "inconclusive")


def has_passed(ours: Sequence[BookState], venue: BookState) -> bool:
    """Whether our newest state is the venue's or a later one."""
    newest = ours[-1].sequence if ours else None
    return newest is not None and venue.sequence is not None and newest >= venue.sequence


def _around(ours: Sequence[BookState], sequence: int) -> Sequence[BookState]:
    """The state of that number, else those before and after it. None when it is older than all, or ahead of all of
    several: then the stream is late. A single state that it is ahead of is a book that stands still, and is compared.
    """
    numbered = [(state.sequence, state) for state in ours if state.sequence is not None]
    same = [state for number, state in numbered if number == sequence]
    if same:
        return same[-1:]  # what was received last under that number is what is kept
    before = [state for number, state in numbered if number < sequence]
    after = [state for number, state in numbered if number > sequence]
    if before and after:
        return [before[-1], after[0]]
    return before if len(numbered) == 1 else []


def _within(side: str, all_levels: Sequence[Levels]) -> Iterator[Iterable[tuple[float, float]]]:
    """The levels that every one of these books would show: as far from the market as the shortest of them reaches."""
    if not all(all_levels):
        return iter([() for _ in all_levels])
    if side == "bids":
        reach = max(levels[-1][0] for levels in all_levels)
        return ([level for level in levels if level[0] >= reach] for levels in all_levels)
    reach = min(levels[-1][0] for levels in all_levels)
    return ([level for level in levels if level[0] <= reach] for levels in all_levels)


def _levels(levels: Iterable[Sequence[Any]]) -> Levels:
    amounts: dict[float, float] = {}
    for price, amount, *_ in levels:
        if price is not None and amount is not None:
            held = amounts.get(price)
            amounts[float(price)] = float(amount) if held is None else round(held + float(amount), _SUM_DECIMALS)
    return tuple(amounts.items())
