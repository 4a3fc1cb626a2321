"""A book whose socket was lost, on every kind of venue: what is stored as valid is what the venue had.

The frames are those of the venues' documents, through the library's own code of each venue.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ingestd.records import BookSnapshot, FeedGap
from tests.support.book_life import Life
from tests.support.book_venues import BOOK_VENUES, ModelBook, stored

OLD = {
    "bids": {"100.5": "1.5", "100.0": "2.5", "99.5": "3.5"},
    "asks": {"101.5": "1.25", "102.0": "2.25", "102.5": "4"},
}
# The market fell: of the old book two levels are left, and its bids would cross the new asks.
NEW = {"bids": {"98.5": "1.75", "99.5": "3.5"}, "asks": {"100.0": "5.5", "102.5": "4"}}


def model(sides: dict[str, dict[str, str]]) -> ModelBook:
    return ModelBook(dict(sides["bids"]), dict(sides["asks"]))


@pytest.fixture(params=BOOK_VENUES, ids=lambda venue: venue.url.rpartition("//")[2].partition("?")[0])
async def life(request: pytest.FixtureRequest) -> AsyncIterator[Life]:
    made = Life(request.param)
    yield made
    await made.wire.close()


async def test_a_book_is_what_the_venue_sent(life: Life) -> None:
    """What the other tests rest on."""
    book = model(OLD)
    life.whole(book)
    life.change(book, "bids", "100.5", "9")
    life.change(book, "asks", "101.5", "8")
    if life.venue.exchange != "upbit":  # whole pairs only
        life.change(book, "asks", "101.5", "0")
        life.change(book, "bids", "100.25", "7")

    assert stored(life.valid()[-1]) == book.as_numbers()
    assert life.wire.ledger.counts.malformed_frames == 0


async def test_levels_of_before_the_cut_are_gone(life: Life) -> None:
    life.whole(model(OLD))
    life.cut()
    life.begin()
    before = len(life.valid())
    book = model(NEW)
    life.whole(book)
    assert [stored(kept) for kept in life.valid()[before:]] == [book.as_numbers()]

    life.change(book, "bids", "98.5", "8")
    assert [stored(kept) for kept in life.valid()[before + 1 :]] == [book.as_numbers()]
    assert life.wire.ledger.counts.malformed_frames == 0


async def test_a_change_that_comes_before_the_whole_book_is_no_book(life: Life) -> None:
    if life.venue.exchange == "upbit":
        return  # each of its messages is a whole book
    life.whole(model(OLD))
    life.cut()
    life.begin()
    before = len(life.wire.intake.of(BookSnapshot))
    book = model(NEW)
    life.change(book, "bids", "98.5", "8")
    life.change(book, "asks", "100.0", "8")
    assert life.wire.intake.of(BookSnapshot)[before:] == []
    assert life.wire.ledger.counts.malformed_frames == 0

    life.whole(book)
    assert [stored(kept) for kept in life.wire.intake.of(BookSnapshot)[before:]] == [book.as_numbers()]


async def test_a_whole_book_on_the_same_socket_takes_the_place_of_the_old_one(life: Life) -> None:
    life.whole(model(OLD))
    before = len(life.valid())
    life.whole(model(NEW))

    assert [stored(kept) for kept in life.valid()[before:]] == [model(NEW).as_numbers()]


async def test_what_a_lost_socket_still_brings_is_of_no_book(life: Life) -> None:
    """Frames that were received before the socket was given up are read after it."""
    life.whole(model(OLD))
    lost = life.wire.client
    life.cut()
    life.wire.client, new = lost, life.wire.client
    before = len(life.wire.intake.of(BookSnapshot))
    late = model(OLD)
    life.change(late, "bids", "100.25", "7")
    life.wire.client = new
    life.begin()
    life.whole(model(NEW))

    assert [stored(kept) for kept in life.wire.intake.of(BookSnapshot)[before:]] == [model(NEW).as_numbers()]
    assert life.wire.ledger.counts.malformed_frames == 0


async def test_a_crossed_book_is_never_valid(life: Life) -> None:
    book = model(OLD)
    life.whole(book)
    book.change("bids", "103", "1")
    before = len(life.wire.intake.of(BookSnapshot))
    life.whole(book)

    (crossed,) = life.wire.intake.of(BookSnapshot)[before:]
    assert not crossed.valid


async def test_the_gap_of_a_cut_ends_with_the_whole_book(life: Life) -> None:
    life.whole(model(OLD))
    life.cut()
    life.begin()
    if life.venue.exchange != "upbit":
        life.change(model(NEW), "bids", "98.5", "8")
    (opened,) = [gap for gap in life.wire.intake.of(FeedGap) if gap.channel == "order_book"]
    assert opened.ended_at is None

    life.whole(model(NEW))
    kinds = [type(r) for r in life.wire.intake.records if not isinstance(r, FeedGap) or r.channel == "order_book"]
    assert kinds == [BookSnapshot, FeedGap, FeedGap, BookSnapshot]
