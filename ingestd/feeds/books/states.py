"""States of a book at single moments, and their comparison with a snapshot from the venue. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

AUDITED_LEVELS = 100
_MOST_MUST_BE_STILL = 0.5  # least share of unchanged levels: if more moved, the comparison is inconclusive
_SUM_DECIMALS = 12  # rounding, so that a sum of floats does not differ from the venue's in its last bits

Result = Literal["equal", "differs", "inconclusive"]
Levels = tuple[tuple[float, float], ...]
Place = tuple[str, float]  # side, price


@dataclass(frozen=True, slots=True)
class BookState:
    """The best levels (price, amount), best first, and the venue's sequence number, if it has one."""

    bids: Levels
    asks: Levels
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a comparison. `wrong`: the levels at which our book differs from the venue's."""

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
    """Compare a snapshot from the venue with the states of our book around the request, oldest first.

    The snapshot is from an unknown moment among these states. A level with the same amount in all states must have that
    amount in the snapshot; a level in no state must not be in it. `one_series`: REST and the socket share one sequence,
    which narrows the states down to the one with the snapshot's number, or to its two neighbours.
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
    """Whether our newest state is at or after the venue's snapshot."""
    newest = ours[-1].sequence if ours else None
    return newest is not None and venue.sequence is not None and newest >= venue.sequence


def _around(ours: Sequence[BookState], sequence: int) -> Sequence[BookState]:
    """The state with that sequence number, else its two neighbours.

    Empty if the number is older than all states, or newer than all of several states: then the stream is late. If there
    is only one state and it is older, it is returned: the book has not changed since.
    """
    numbered = [(state.sequence, state) for state in ours if state.sequence is not None]
    same = [state for number, state in numbered if number == sequence]
    if same:
        return same[-1:]  # several states may have one number: the last one received is the book
    before = [state for number, state in numbered if number < sequence]
    after = [state for number, state in numbered if number > sequence]
    if before and after:
        return [before[-1], after[0]]
    return before if len(numbered) == 1 else []


def _within(side: str, all_levels: Sequence[Levels]) -> Iterator[Iterable[tuple[float, float]]]:
    """The levels of each book down to the depth that the shallowest of them reaches."""
    if not all(all_levels):
        return iter([() for _ in all_levels])
    sign = -1 if side == "bids" else 1
    reach = min(sign * levels[-1][0] for levels in all_levels)
    return ([level for level in levels if sign * level[0] <= reach] for levels in all_levels)


def _levels(levels: Iterable[Sequence[Any]]) -> Levels:
    amounts: dict[float, float] = {}
    for price, amount, *_ in levels:
        if price is not None and amount is not None:
            held = amounts.get(price)
            amounts[float(price)] = float(amount) if held is None else round(held + float(amount), _SUM_DECIMALS)
    return tuple(amounts.items())
