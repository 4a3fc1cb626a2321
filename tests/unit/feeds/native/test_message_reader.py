"""From decoded messages to records in the intake, and the order books that the messages change."""

from __future__ import annotations

from typing import Any

import pytest

from ingestd.feeds.native.message_reader import MessageReader
from ingestd.records import BookSnapshot, FeedGap, Tick, Trade
from ingestd.venues.binance import Binance
from ingestd.venues.messages import BookChange, FrameNumber, Message, Row
from tests.unit.feeds.doubles import ListIntake, feed_config

SYMBOL = "BTC/USDT"


def reader(**changes: Any) -> tuple[MessageReader, ListIntake]:
    intake = ListIntake()
    made = MessageReader(feed_config("binance", [SYMBOL], **changes), Binance("binance", {}), intake)
    for channel in ("trades", "ticks", "order_book"):
        made.add_stream(channel, SYMBOL)
    return made, intake


def begun(**changes: Any) -> tuple[MessageReader, ListIntake]:
    """With a whole book."""
    made, intake = reader(**changes)
    made.books.asked(SYMBOL)
    assert made.begin_book(SYMBOL, {"bids": [("1", "5")], "asks": [("2", "5")], "nonce": 10})
    return made, intake


def trade(number: int, symbol: str = SYMBOL, at: int = 2_000) -> Trade:
    return Trade("binance", symbol, 1_000, at, str(number), number, "buy", "1", "1")


def change(number: int, bids: list[Row]) -> BookChange:
    return BookChange(SYMBOL, 1_000, 2_000, bids, [], first=number, last=number)


def ignored(_message: Message) -> None:
    """Of the connection itself."""


def test_the_records_of_a_frame_are_handed_over_in_order_and_counted() -> None:
    made, intake = reader()
    tick = Tick("binance", SYMBOL, 1_001, 2_001, "1", "1", "2", "1")
    assert made.take([trade(1), tick, trade(2)], ignored)

    assert intake.records == [trade(1), tick, trade(2)]
    trades = made.ledger.streams["trades"][SYMBOL]
    assert (trades.received, trades.last, trades.last_time, trades.last_received_at) == (2, trade(2), 1_000, 2_000)


def test_a_market_that_was_not_asked_for_is_counted_and_not_recorded() -> None:
    made, intake = reader()
    assert made.take([trade(1, "ETH/USDT")], ignored)

    assert intake.records == []
    assert made.ledger.counts.unrequested_records == 1


def test_messages_about_the_connection_are_no_data() -> None:
    made, _ = reader()
    heard: list[Message] = []
    assert not made.take([FrameNumber(7)], heard.append)
    assert heard == [FrameNumber(7)]


def test_a_book_is_sampled_once_each_time_it_changed() -> None:
    made, intake = begun()
    made.recorder.sample_books()
    made.recorder.sample_books()
    made.take([change(11, [("1.5", "1")])], ignored)
    made.take([change(12, [("1.6", "1")])], ignored)
    made.recorder.sample_books()

    assert [(b.sequence, b.bids[0][0]) for b in intake.of(BookSnapshot)] == [(10, "1"), (12, "1.6")]


def test_every_change_when_the_interval_is_zero() -> None:
    made, intake = begun(order_book_interval_ms=0)
    made.take([change(11, [("1.5", "1")]), change(12, [("1.6", "1")])], ignored)

    assert [b.sequence for b in intake.of(BookSnapshot)] == [10, 11, 12]


def test_a_book_with_a_hole_is_recorded_as_a_gap_and_rebuilt() -> None:
    made, intake = begun(order_book_interval_ms=0)
    made.take([change(15, [("1.5", "1")]), change(16, [("1.6", "1")])], ignored)

    (gap,) = intake.of(FeedGap)
    assert (gap.channel, gap.cause, gap.detail) == ("order_book", "book_broken", "its sequence is wrong")
    assert made.ledger.counts.book_resyncs == {"sequence": 1}
    assert made.book(SYMBOL) is None
    assert not made.rebuilds.is_empty
    assert [b.sequence for b in intake.of(BookSnapshot)] == [10]


def test_a_malformed_change_breaks_its_book_and_what_came_before_is_recorded() -> None:
    made, intake = begun()
    with pytest.raises(ValueError):  # noqa: PT011 - float has a text of its own
        made.take([trade(1), change(11, [("x", "1")]), trade(2)], ignored)

    assert intake.of(Trade) == [trade(1)]
    assert made.ledger.counts.book_resyncs == {"malformed": 1}


def test_a_broken_book_is_not_reported_twice() -> None:
    made, intake = begun()
    made.recorder.book_broken(SYMBOL, "audit", "x")
    made.recorder.book_broken(SYMBOL, "audit", "x")

    assert made.ledger.counts.book_resyncs == {"audit": 1}
    assert len(intake.of(FeedGap)) == 1


def test_an_interrupted_book_is_not_sampled_and_its_states_are_cleared() -> None:
    made, intake = begun()
    book = made.book(SYMBOL)
    assert book is not None
    states = made.recorder.samples.keep_states(SYMBOL, book)
    made.take([change(11, [("1.5", "1")])], ignored)
    assert [state.sequence for state in states] == [10, 11]
    assert states[-1].bids == ((1.5, 1.0), (1.0, 5.0))

    made.recorder.interrupted([made.ledger.streams["order_book"][SYMBOL]], "disconnect", "x")
    made.recorder.sample_books()
    assert list(states) == []
    assert intake.of(BookSnapshot) == []


def test_a_book_that_is_begun_twice_is_recorded_once() -> None:
    made, intake = begun(order_book_interval_ms=0)
    assert made.begin_book(SYMBOL, {"bids": [], "asks": [], "nonce": 99})

    assert [b.sequence for b in intake.of(BookSnapshot)] == [10]


def test_an_empty_book_is_counted_as_incomplete() -> None:
    made, intake = reader(order_book_interval_ms=0)
    made.books.asked(SYMBOL)
    assert made.begin_book(SYMBOL, {"bids": [], "asks": [], "nonce": 10})

    assert intake.records == []
    assert made.ledger.counts.incomplete_records == 1


def test_a_symbol_that_is_no_longer_followed_is_not_recorded() -> None:
    made, intake = begun()
    made.recorder.remove([SYMBOL])
    made.take([change(11, [("1.5", "1")])], ignored)
    made.recorder.sample_books()

    assert intake.records == []
    assert made.book(SYMBOL) is None
