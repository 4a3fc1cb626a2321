"""A book that is begun anew: the rungs, and what ends them."""

from __future__ import annotations

from ingestd.feeds.books.ladder import SNAPSHOT_WITHIN_S, SOCKET_AGAIN_S, BookLadder, Rung

LATER_S = SNAPSHOT_WITHIN_S


def climbed(ladder: BookLadder, now_s: float) -> list[Rung]:
    """What the book is asked for with, and each next rung when nothing came of it."""
    rungs = []
    for _ in range(4):
        rung = ladder.asking("A/B")
        assert rung is not None
        rungs.append(rung)
        ladder.asked("A/B", now_s)
        assert ladder.asking("A/B") is None
        assert list(ladder.overdue(now_s + LATER_S - 0.1)) == []
        now_s += LATER_S
        ((symbol, _),) = ladder.overdue(now_s)
        assert symbol == "A/B"
    return rungs


def test_each_rung_follows_when_no_whole_book_came_in_time() -> None:
    ladder = BookLadder()
    ladder.broken("A/B")
    # The socket carries other streams: it is given up once in an hour.
    assert climbed(ladder, 0.0) == [Rung.ASK, Rung.UNSUBSCRIBE, Rung.SOCKET, Rung.UNSUBSCRIBE]
    assert climbed(ladder, SOCKET_AGAIN_S * 2)[1] is Rung.SOCKET


def test_a_venue_whose_books_cannot_be_ended() -> None:
    ladder = BookLadder(can_unsubscribe=False)
    ladder.broken("A/B")
    assert climbed(ladder, 0.0) == [Rung.ASK, Rung.SOCKET, Rung.ASK, Rung.ASK]


def test_a_subscription_that_stands_is_ended_at_once_or_its_socket_is_given_up() -> None:
    ladder = BookLadder(stays_subscribed=True)
    ladder.broken("A/B")
    assert ladder.asking("A/B") is Rung.UNSUBSCRIBE

    ladder = BookLadder(stays_subscribed=True, can_unsubscribe=False)
    ladder.broken("A/B")
    assert ladder.asking("A/B") is None
    assert list(ladder.overdue(0.0)) == [("A/B", Rung.SOCKET)]


def test_a_whole_book_ends_it() -> None:
    ladder = BookLadder()
    ladder.broken("A/B")
    ladder.asked("A/B", 0.0)
    ladder.whole("A/B")
    assert ladder.asking("A/B") is None
    assert list(ladder.overdue(1000.0)) == []


def test_a_book_that_changes_before_a_whole_one_came_has_been_asked_for_already() -> None:
    ladder = BookLadder()
    ladder.not_begun("A/B", 5.0)
    ladder.not_begun("A/B", 9.0)
    assert ladder.asking("A/B") is None
    assert list(ladder.overdue(5.0 + LATER_S)) == [("A/B", Rung.UNSUBSCRIBE)]
    assert ladder.asking("A/B") is Rung.UNSUBSCRIBE
