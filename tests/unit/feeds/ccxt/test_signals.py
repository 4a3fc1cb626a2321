"""The reasons for a subscription to call again."""

from __future__ import annotations

import pytest

from ingestd.errors import BookBroken, Refused
from ingestd.feeds.ccxt.call_state import Signals

ERROR = Refused("no A", frozenset({"A"}))


@pytest.fixture
def signals() -> Signals:
    return Signals()


def test_nothing_has_happened(signals: Signals) -> None:
    assert signals.reason is None
    assert not signals.any.is_set()


def test_a_lost_socket_is_no_reason_to_stop_a_call(signals: Signals) -> None:
    signals.lose_socket()

    assert str(signals.reason) == "its socket is gone, or the library gave it up"
    assert signals.any.is_set()
    assert not signals.urgent.is_set()


def test_an_error_of_the_venue_is_urgent(signals: Signals) -> None:
    signals.hear(ERROR)

    assert signals.reason is signals.error is ERROR
    assert signals.urgent.is_set()


def test_broken_books_are_named(signals: Signals) -> None:
    signals.break_book("B")
    signals.break_book("A")

    assert isinstance(signals.reason, BookBroken)
    assert str(signals.reason) == "a broken book: A, B"
    assert signals.urgent.is_set()
    assert signals.error is None


def test_an_error_outweighs_a_broken_book_and_a_lost_socket_both(signals: Signals) -> None:
    signals.break_book("A")
    signals.hear(ERROR)
    assert signals.reason is ERROR

    signals.lose_socket()
    assert signals.error is None
    assert "socket" in str(signals.reason)


def test_a_new_call_forgets_everything(signals: Signals) -> None:
    signals.break_book("A")
    signals.hear(ERROR)
    signals.lose_socket()
    signals.clear()

    assert signals.reason is None
    assert not signals.broken_books
    assert not signals.any.is_set()
    assert not signals.urgent.is_set()
