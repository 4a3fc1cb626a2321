"""Which books are sampled, and which states are kept for an audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestd.feeds.recording.recorder import BookSamples


class Book:
    def __init__(self, sequence: int) -> None:
        self.sequence = sequence

    def as_mapping(self) -> Mapping[str, Any]:
        return {"bids": [[1.0, 1.0]], "asks": [[2.0, 1.0]], "nonce": self.sequence}


def test_a_book_that_changed_is_sampled_once() -> None:
    samples, mine = BookSamples(), Book(1)
    samples.changed("A/B", mine)
    samples.changed("A/B", mine)

    assert samples.take() == {"A/B": mine}
    assert samples.take() == {}


def test_a_discarded_book_is_not_sampled_until_it_changes_again() -> None:
    samples, mine = BookSamples(), Book(1)
    samples.changed("A/B", mine)
    samples.discard("A/B")
    assert samples.take() == {}

    samples.changed("A/B", mine)
    assert samples.take() == {"A/B": mine}


def test_states_are_kept_of_one_book_and_cleared_when_it_is_discarded() -> None:
    samples = BookSamples()
    states = samples.keep_states("A/B", Book(1).as_mapping())
    samples.changed("A/B", Book(2))
    samples.changed("C/D", Book(3))
    assert [state.sequence for state in states] == [1, 2]

    samples.discard("C/D")
    assert len(states) == 2
    samples.discard("A/B")
    assert len(states) == 0

    samples.keep_no_states()
    samples.changed("A/B", Book(4))
    assert len(states) == 0


def test_only_so_many_states_are_kept() -> None:
    samples = BookSamples()
    states = samples.keep_states("A/B", Book(0).as_mapping())
    for sequence in range(1, 5000):
        samples.changed("A/B", Book(sequence))

    assert len(states) == 1000
    assert states[-1].sequence == 4999
