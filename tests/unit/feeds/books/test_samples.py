"""What is sampled of books that change in place, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from ingestd.feeds.books.samples import BookSamples, named_in


def book(sequence: int | None = 1, timestamp: int = 1) -> dict[str, Any]:
    return {"symbol": "A/B", "bids": [[1.0, 1.0]], "asks": [[2.0, 1.0]], "nonce": sequence, "timestamp": timestamp}


@pytest.mark.parametrize("change", [{"nonce": None}, {"nonce": 2}, {"timestamp": 2}])
def test_a_book_that_was_changed_and_not_declared_whole_is_not_sampled(change: dict[str, Any]) -> None:
    """A checksum that failed after the change, or a snapshot that is waited for."""
    samples, mine = BookSamples(), book()
    samples.changed("A/B", mine, 10)
    mine.update(change)

    assert list(samples.take()) == []


def test_the_newest_declared_state_is_sampled() -> None:
    samples, mine = BookSamples(), book()
    samples.changed("A/B", mine, 10)
    mine["nonce"] = 2
    samples.changed("A/B", mine, 20)

    assert list(samples.take()) == [("A/B", mine, 20)]
    assert list(samples.take()) == []


def test_a_broken_book_is_not_sampled_until_it_is_delivered_again() -> None:
    samples, mine = BookSamples(), book()
    samples.changed("A/B", mine, 10)
    samples.broken("A/B")
    assert samples.is_broken("A/B")
    assert list(samples.take()) == []

    samples.delivered("A/B", mine)
    samples.changed("A/B", mine, 20)
    assert not samples.is_broken("A/B")
    assert list(samples.take()) == [("A/B", mine, 20)]


def test_states_are_kept_of_one_book_and_let_go_when_it_is_begun_anew() -> None:
    samples = BookSamples()
    states = samples.keep_states("A/B", book(1))
    samples.delivered("A/B", book(2))
    samples.delivered("C/D", book(3))
    assert [state.sequence for state in states] == [1, 2]

    samples.replaced("C/D")
    assert len(states) == 2
    samples.replaced("A/B")
    assert len(states) == 0

    samples.keep_no_states()
    samples.delivered("A/B", book(4))
    assert len(states) == 0


def test_only_so_many_states_are_kept() -> None:
    samples = BookSamples()
    states = samples.keep_states("A/B", book(0))
    for sequence in range(1, 5000):
        samples.delivered("A/B", book(sequence))

    assert len(states) == 1000
    assert states[-1].sequence == 4999


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("orderbook::BTC/USDT", "BTC/USDT"),
        ("books:BTC/USDT:USDT", "BTC/USDT:USDT"),
        ("orderbook@BTC/USDT", "BTC/USDT"),
        ("orderbook:WBTC/USDT", None),
        ("book:tBTCUSD", None),
    ],
)
def test_the_symbol_in_the_librarys_name(name: str, symbol: str | None) -> None:
    assert named_in(name, ["BTC/USDT", "BTC/USDT:USDT"]) == symbol
