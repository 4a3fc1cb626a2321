"""A venue that tells the truth is never contradicted; a wrong level always is."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ingestd.feeds.books.states import BookState, book_state, compare, has_passed

SHOWN = 8
Book = tuple[dict[int, int], dict[int, int]]  # the amounts of bids and of asks by price


class Market:
    """A book that moves one level at a time; no level twice within one frame."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.bids = {price: price for price in range(88, 100)}
        self.asks = {price: price for price in range(101, 113)}
        self.history: list[Book] = [self._copy()]

    def frame(self, updates: int) -> int:
        """So many updates; the number of the last."""
        for price in self._random.sample([*range(85, 100), *range(101, 116)], updates):
            side = self.bids if price < 100 else self.asks
            if price in side and len(side) > SHOWN and self._random.random() < 0.5:
                del side[price]
            else:
                side[price] = self._random.randrange(1, 1000)
            self.history.append(self._copy())
        return len(self.history) - 1

    def state(self, number: int, *, numbered: bool = True) -> BookState:
        bids, asks = self.history[number]
        return shown(bids, asks, number if numbered else None)

    def _copy(self) -> Book:
        return dict(self.bids), dict(self.asks)


def shown(bids: dict[int, int], asks: dict[int, int], sequence: int | None) -> BookState:
    book = {
        "bids": [[price, bids[price]] for price in sorted(bids, reverse=True)],
        "asks": [[price, asks[price]] for price in sorted(asks)],
        "nonce": sequence,
    }
    return book_state(book, SHOWN)


frames = st.lists(st.integers(1, 6), min_size=1, max_size=12)


@given(seed=st.integers(0, 2**32), sizes=frames, at=st.floats(0, 1), kept=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_truthful_venue_that_numbers_its_books_is_never_contradicted(
    seed: int, sizes: list[int], at: float, kept: tuple[float, float]
) -> None:
    """Also when its book is older or newer than all that was kept of ours."""
    market = Market(seed)
    ends = [0, *(market.frame(size) for size in sizes)]
    first, last = sorted(round(share * (len(ends) - 1)) for share in kept)
    ours = [market.state(number) for number in ends[first : last + 1]]
    number = round(at * ends[-1])
    late = len(ours) == 1 and number > ends[first]  # a book that stands still is what it looks like

    verdict = compare(ours, market.state(number), one_series=True)

    if not late:
        assert verdict.result != "differs", verdict
    if number in ends[first : last + 1]:
        assert verdict.result == "equal"


@given(seed=st.integers(0, 2**32), sizes=frames, at=st.floats(0, 1))
def test_a_truthful_venue_without_numbers_is_never_contradicted(seed: int, sizes: list[int], at: float) -> None:
    market = Market(seed)
    ends = [0, *(market.frame(size) for size in sizes)]
    ours = [market.state(number, numbered=False) for number in ends]

    verdict = compare(ours, market.state(round(at * ends[-1]), numbered=False), one_series=False)

    assert verdict.result != "differs", verdict


@given(
    seed=st.integers(0, 2**32),
    sizes=frames,
    at=st.floats(0, 1),
    side=st.sampled_from(["bids", "asks"]),
    level=st.integers(0, SHOWN - 3),
    damage=st.sampled_from(["amount", "missing", "extra"]),
)
def test_a_wrong_level_is_found(seed: int, sizes: list[int], at: float, side: str, level: int, damage: str) -> None:
    """Under the same number: a changed amount, a level too few, a level too many (between two prices)."""
    market = Market(seed)
    ends = [0, *(market.frame(size) for size in sizes)]
    number = ends[round(at * (len(ends) - 1))]
    bids, asks = (dict(levels) for levels in market.history[number])
    mine: dict[float, int] = {float(p): a for p, a in (bids if side == "bids" else asks).items()}
    price = sorted(mine, reverse=side == "bids")[level]
    if damage == "amount":
        mine[price] += 1
    elif damage == "missing":
        del mine[price]
    else:
        price += -0.5 if side == "bids" else 0.5
        mine[price] = 7
    ours = shown(mine, asks, number) if side == "bids" else shown(bids, mine, number)  # type: ignore[arg-type]
    states = [market.state(other) for other in ends if other < number] + [ours]

    verdict = compare(states, market.state(number), one_series=True)

    assert verdict.result == "differs"
    assert verdict.wrong == {(side, price)}


def state(bid: float, ask: float, sequence: int | None = None) -> BookState:
    return BookState(((10.0, bid), (9.0, 1.0)), ((11.0, ask), (12.0, 1.0)), sequence)


def test_a_level_that_moved_around_the_request_proves_nothing() -> None:
    venue = state(3.0, 5.0)
    assert compare([state(1.0, 5.0), state(2.0, 5.0)], venue, one_series=False).result == "equal"  # 1 of 4 moved
    assert compare([state(1.0, 5.0)], venue, one_series=False).wrong == {("bids", 10.0)}


def test_a_book_most_of_which_moved_is_inconclusive() -> None:
    ours = [BookState(((10.0, a), (9.0, a)), ((11.0, a), (12.0, 1.0))) for a in (1.0, 2.0)]
    venue = BookState(((10.0, 1.0), (9.0, 2.0)), ((11.0, 1.0), (12.0, 1.0)))
    assert compare(ours, venue, one_series=False).result == "inconclusive"


def test_nothing_to_compare_is_inconclusive() -> None:
    assert compare([], state(1.0, 1.0), one_series=False).result == "inconclusive"
    assert compare([state(1.0, 1.0)], BookState((), ()), one_series=False).result == "inconclusive"


def test_a_book_that_stands_still_while_the_venues_goes_on_differs() -> None:
    verdict = compare([state(1.0, 1.0, 5)], state(1.0, 2.0, 9), one_series=True)
    assert verdict.wrong == {("asks", 11.0)}


def test_numbers_of_two_series_are_not_compared() -> None:
    ours = [state(1.0, 1.0, 5), state(1.0, 2.0, 6)]
    assert compare(ours, state(1.0, 1.0, 900_000), one_series=False).result == "equal"


def test_ours_has_passed_the_venues_when_its_number_is_as_high() -> None:
    assert has_passed([state(1.0, 1.0, 5)], state(1.0, 1.0, 5))
    assert not has_passed([state(1.0, 1.0, 5)], state(1.0, 1.0, 6))
    assert not has_passed([state(1.0, 1.0)], state(1.0, 1.0, 6))
    assert not has_passed([], state(1.0, 1.0, 6))


def test_orders_at_one_price_are_one_level_and_what_has_no_price_is_none() -> None:
    raw = {"bids": [[10.0, 0.1, "a"], [10.0, 0.2, "b"], [None, 1.0, "c"], [9.0, 1, "d"]], "asks": [], "nonce": "x"}
    assert book_state(raw, SHOWN) == BookState(((10.0, 0.3), (9.0, 1.0)), (), None)
