"""The delays of a subscription. No clock."""

from __future__ import annotations

import pytest

from ingestd.feeds.ccxt.call_state import Retries
from ingestd.retry import SETTLED_S, Backoff

NOW_S = 1000.0


@pytest.fixture
def retries() -> Retries:
    """Of a subscription that has brought nothing."""
    return Retries(lambda: Backoff(base_s=1.0, cap_s=8.0, draw=lambda: 1.0), 0, NOW_S)


def delay_s(retries: Retries, received: int = 0, after_s: float = 0.0, at_least_s: float = 0.0) -> float:
    return retries.delay_s(received, NOW_S + after_s, at_least_s=at_least_s)


def test_delays_double_up_to_the_cap(retries: Retries) -> None:
    assert [delay_s(retries) for _ in range(5)] == [1, 2, 4, 8, 8]
    assert retries.failures(0) == 5


def test_what_the_venue_asks_for_is_added(retries: Retries) -> None:
    assert delay_s(retries, at_least_s=120.0) == 121


def test_no_call_has_failed_since_it_delivers(retries: Retries) -> None:
    delay_s(retries)

    assert retries.failures(0) == 1
    assert retries.failures(1) == 0


@pytest.mark.parametrize(
    ("received", "after_s", "expected"),
    [(1, SETTLED_S, 1.0), (1, SETTLED_S - 1, 4.0), (0, SETTLED_S, 4.0)],
    ids=["it worked for a while", "too short", "it brought nothing"],
)
def test_only_what_has_worked_for_a_while_starts_over(
    retries: Retries, received: int, after_s: float, expected: float
) -> None:
    delay_s(retries)
    delay_s(retries)

    assert delay_s(retries, received, after_s) == expected


def test_what_is_settled_starts_over(retries: Retries) -> None:
    delay_s(retries)
    retries.settled()

    assert retries.failures(0) == 0
    assert delay_s(retries) == 1


def test_each_book_has_delays_of_its_own(retries: Retries) -> None:
    found = [retries.book_delay_s(symbols, NOW_S) for symbols in ("A", "A", "A", "B", "A")]

    assert found == [1, 2, 4, 1, 8]
    assert retries.failures(0) == 0


def test_books_that_break_together_wait_as_long_as_the_shortest(retries: Retries) -> None:
    retries.book_delay_s("A", NOW_S)

    assert retries.book_delay_s("AB", NOW_S) == 1


def test_a_book_that_held_for_a_while_starts_over(retries: Retries) -> None:
    retries.book_delay_s("A", NOW_S)
    retries.book_delay_s("A", NOW_S + 1)

    assert retries.book_delay_s("A", NOW_S + 1 + SETTLED_S) == 1
