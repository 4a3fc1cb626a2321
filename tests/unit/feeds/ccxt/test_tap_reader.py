"""From updates to records in the intake."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from ingestd.errors import FeedError
from ingestd.feeds.books.ladder import BookLadder
from ingestd.feeds.ccxt.subscriptions import Subscriptions
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.feeds.streams.ledger import Stream
from ingestd.records import BookSnapshot, Candle, FeedGap, OpenInterest, StreamId, Tick, Trade
from ingestd.status import Earlier
from tests.unit.feeds.doubles import ListIntake, feed_config


def reader(**changes: Any) -> tuple[TapReader, ListIntake]:
    intake = ListIntake()
    made = TapReader(feed_config("binance", ["A/B"], **changes), intake)
    for channel in made.ledger.streams:
        made.ledger.add_stream(channel, "A/B")
    return made, intake


class Asked(Subscriptions):
    """Knows what was asked for on each connection, and notes who is woken."""

    def __init__(self, streams: dict[str, list[Stream]] | None = None) -> None:
        super().__init__()
        self.woken: list[str] = []
        self.refusals: list[str] = []
        self.books: list[str] = []
        self._streams = streams or {}

    def wake(self, url: str) -> None:
        self.woken.append(url)

    def refused(self, url: str, error: FeedError) -> None:
        self.refusals.append(f"{url}: {error}")

    def ask_for_book(self, symbol: str) -> None:
        self.books.append(symbol)

    def streams_on(self, urls: Collection[str]) -> list[Stream]:
        return [stream for url in urls for stream in self._streams.get(url, [])]


def book(price: float) -> dict[str, Any]:
    return {"symbol": "A/B", "bids": [[price, 1.0]], "asks": [[price + 1, 1.0]], "nonce": 1, "timestamp": 1}


def test_books_are_sampled_once_each_time_they_changed() -> None:
    made, intake = reader()
    made.on_book(book(1.0), 10)
    made.on_book(book(2.0), 20)
    made.recorder.sample_books()
    made.recorder.sample_books()

    assert [(b.bids, b.received_at) for b in intake.of(BookSnapshot)] == [((("2.0", "1.0"),), 20)]


def test_a_book_that_is_being_rebuilt_or_whose_socket_is_gone_is_not_sampled() -> None:
    made, intake = reader()
    made.on_book(book(1.0), 10)
    made.on_book_replaced("A/B")
    made.recorder.sample_books()
    made.on_book(book(1.0), 10)
    made.recorder.interrupted([made.ledger.streams["order_book"]["A/B"]], "disconnect", "x")
    made.recorder.sample_books()

    assert intake.of(BookSnapshot) == []


def test_every_change_when_the_interval_is_zero() -> None:
    made, intake = reader(order_book_interval_ms=0)
    made.on_book(book(1.0), 10)
    made.on_book(book(2.0), 20)

    assert len(intake.of(BookSnapshot)) == 2


def test_an_update_that_cannot_be_read_is_counted_and_raises_nothing() -> None:
    made, intake = reader()
    made.on_trade("A/B", {"price": "1", "amount": "1", "timestamp": "never"}, 1)
    made.on_bid_ask("A/B", {"last": 1.0}, 1)
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "5"}, 1)

    assert made.ledger.counts.incomplete_records == 2
    assert len(intake.records) == 1


def test_ticks_come_from_one_of_the_two_stores() -> None:
    made, intake = reader()
    made.on_ticker("A/B", {"bid": 1.0}, 1)
    made.on_bid_ask("A/B", {"bid": 2.0}, 1)
    made.ticks_from_tickers = True
    made.on_ticker("A/B", {"bid": 3.0}, 1)
    made.on_bid_ask("A/B", {"bid": 4.0}, 1)

    assert [tick.bid_price for tick in intake.of(Tick)] == ["2.0", "3.0"]


def test_a_disconnect_touches_the_streams_of_its_socket_only() -> None:
    made, intake = reader()
    asked = Asked()
    made.attach(asked, BookLadder())
    made.on_connected("wss://one")
    made.on_connected("wss://two")
    made.frame.url = "wss://one"
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "1"}, 100)
    made.frame.url = "wss://two"
    made.on_bid_ask("A/B", {"bid": 1.0}, 110)

    made.on_disconnected("wss://one", "reset by peer")

    (gap,) = intake.of(FeedGap)
    assert (gap.channel, gap.time, gap.cause, gap.detail) == ("trades", 100, "disconnect", "reset by peer")
    assert asked.woken == ["wss://one"]
    assert made.connected


def test_an_end_on_purpose_is_no_gap() -> None:
    made, intake = reader()
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "1"}, 100)
    made.recorder.closing = True
    for stream in made.ledger.all_streams():
        stream.url = "wss://one"
    made.on_disconnected("wss://one", "closed")

    assert intake.of(FeedGap) == []
    assert made.ledger.counts.disconnects == 0


def test_what_calls_return_in_all_its_forms() -> None:
    made, intake = reader()
    made.on_returned("open_interest", ["A/B"], {"symbol": "A/B", "openInterestAmount": "1"}, 1)
    made.on_returned("open_interest", ["A/B"], {"A/B": {"symbol": "A/B", "openInterestAmount": "2"}}, 1)
    made.on_returned("trades", ["A/B"], [{"price": "1", "amount": "1", "id": "9"}], 1)
    made.on_returned("candles", ["A/B"], [[60_000, 1, 2, 1, 2, 5], [120_000, 1, 2, 1, 2, 5]], 1)
    made.on_returned("trades", ["A/B"], None, 1)

    assert [row.open_interest for row in intake.of(OpenInterest)] == ["1", "2"]
    assert [row.trade_id for row in intake.of(Trade)] == ["9"]
    assert [row.time for row in intake.of(Candle)] == [60_000_000]


def test_a_stream_that_delivers_is_not_quarantined() -> None:
    made, _ = reader()
    made.ledger.streams["trades"]["A/B"].quarantined = "refused"
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "1"}, 1)

    assert made.ledger.streams["trades"]["A/B"].quarantined is None


def test_a_sampled_book_belongs_to_the_socket_that_changed_it() -> None:
    made, intake = reader()
    made.attach(Subscriptions(), BookLadder())
    made.frame.url = "wss://one"
    made.on_book(book(1.0), 10)
    made.frame.url = None
    made.recorder.sample_books()

    made.on_disconnected("wss://one", "reset")

    assert [(gap.channel, gap.time) for gap in intake.of(FeedGap)] == [("order_book", 10)]


def test_a_candle_is_final_when_the_next_begins() -> None:
    made, intake = reader()
    for minute, close in ((1, 1.0), (1, 1.5), (2, 1.7), (1, 9.9)):  # the last is late news of the first
        made.on_returned("candles", ["A/B"], [[minute * 60_000, 1, 2, 1, close, 5]], 1)

    assert [(row.time, row.close) for row in intake.of(Candle)] == [(60_000_000, "1.5")]
    assert made.ledger.counts.incomplete_records == 0


def test_an_interrupted_candle_is_not_handed_over() -> None:
    made, intake = reader()
    made.on_returned("candles", ["A/B"], [[60_000, 1, 2, 1, 2, 5]], 1)
    made.recorder.interrupted([made.ledger.streams["candles"]["A/B"]], "disconnect", "x")
    made.on_returned("candles", ["A/B"], [[180_000, 1, 2, 1, 2, 5], [240_000, 1, 2, 1, 2, 5]], 2)

    assert [candle.time for candle in intake.of(Candle)] == [180_000_000]


def test_a_socket_that_is_gone_before_it_delivered_leaves_a_gap_since_the_stream_was_followed() -> None:
    made, intake = reader()
    trades = made.ledger.streams["trades"]["A/B"]
    made.attach(Asked({"wss://one": [trades]}), BookLadder())
    made.on_disconnected("wss://two", "refused")
    assert intake.of(FeedGap) == []

    made.on_disconnected("wss://one", "refused")
    (gap,) = intake.of(FeedGap)
    assert (gap.channel, gap.time, gap.ended_at) == ("trades", trades.followed_at, None)


def test_a_stream_goes_on_from_where_an_earlier_process_was() -> None:
    intake = ListIntake()
    earlier: dict[StreamId, Earlier] = {
        ("binance", "trades", "A/B"): Earlier(50, "restart", "it had stopped"),
        ("binance", "trades", "C/D"): Earlier(60, "restart"),
        ("kraken", "trades", "A/B"): Earlier(70, "restart"),
    }
    made = TapReader(feed_config("binance", ["A/B"]), intake, earlier)
    made.ledger.add_stream("trades", "A/B")
    made.ledger.add_stream("trades", "A/B")
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "1"}, 1000)

    opened, ended = intake.of(FeedGap)
    assert (opened.time, opened.cause, opened.ended_at) == (50, "restart", None)
    assert (ended.time, ended.ended_at) == (50, 1000)
    assert set(earlier) == {("binance", "trades", "C/D"), ("kraken", "trades", "A/B")}


def test_an_id_that_was_left_out_is_told_with_the_next_frame_or_soon_after() -> None:
    made, intake = reader()
    for number, at in ((1, 100), (2, 200), (5, 300)):
        made.on_trade("A/B", {"price": "1", "amount": "1", "id": str(number)}, at)
    assert intake.of(FeedGap) == []
    made.ledger.settle_ids(before=300)
    assert intake.of(FeedGap) == []
    made.ledger.settle_ids(before=301)
    made.ledger.settle_ids(before=400)

    (gap,) = intake.of(FeedGap)
    assert (gap.time, gap.ended_at, gap.cause, gap.detail) == (200, 300, "id_jump", "2 trades are missing: ids 3 to 4")


def test_an_id_left_out_over_a_lost_connection_belongs_to_that_gap() -> None:
    made, intake = reader()
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "1"}, 100)
    made.recorder.interrupted([made.ledger.streams["trades"]["A/B"]], "disconnect", "reset")
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "4"}, 300)
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "5"}, 400)

    opened, ended, remarked = intake.of(FeedGap)
    assert opened.ended_at is None
    assert (ended.time, ended.ended_at) == (remarked.time, remarked.ended_at) == (100, 300)
    assert remarked.detail == "reset; 2 trades are missing: ids 2 to 3"


def test_where_ids_have_holes_by_themselves_none_is_inferred() -> None:
    intake = ListIntake()
    made = TapReader(feed_config("okx", ["A/B"]), intake)
    made.ledger.add_stream("trades", "A/B")
    for number, at in ((1, 100), (9, 200), (20, 300)):
        made.on_trade("A/B", {"price": "1", "amount": "1", "id": str(number)}, at)
    made.ledger.settle_ids(before=1000)
    assert intake.of(FeedGap) == []


def test_a_symbol_that_is_let_go_ends_its_gap() -> None:
    made, intake = reader()
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "1"}, 100)
    made.recorder.interrupted([made.ledger.streams["trades"]["A/B"]], "disconnect", "reset")
    made.recorder.remove(["A/B"])

    opened, ended = intake.of(FeedGap)
    assert opened.time == ended.time == 100
    assert ended.ended_at is not None
    assert ended.detail == "reset; no longer followed"


@pytest.mark.parametrize("change", [{"nonce": None}, {"nonce": 2}, {"timestamp": 2}])
def test_a_book_that_was_changed_and_not_declared_whole_is_not_sampled(change: dict[str, Any]) -> None:
    """A checksum that failed after the change, or a snapshot that is waited for."""
    made, intake = reader()
    mine = book(1.0)
    made.on_book(mine, 10)
    mine.update(change)
    made.recorder.sample_books()

    assert intake.of(BookSnapshot) == []


def test_the_newest_declared_state_is_sampled() -> None:
    made, intake = reader()
    mine = book(1.0)
    made.on_book(mine, 10)
    mine["nonce"] = 2
    made.on_book(mine, 20)
    made.recorder.sample_books()

    assert [(b.sequence, b.received_at) for b in intake.of(BookSnapshot)] == [(2, 20)]


def test_a_broken_book_is_reported_once_and_not_sampled_until_it_is_delivered_again() -> None:
    made, intake = reader()
    asked = Asked()
    made.attach(asked, BookLadder())
    made.on_book(book(1.0), 10)
    made.on_book_broken("A/B")
    made.on_book_broken("A/B")
    made.recorder.sample_books()

    assert made.ledger.counts.book_resyncs == {"sequence": 1}
    assert asked.books == ["A/B"]
    assert [(gap.channel, gap.cause) for gap in intake.of(FeedGap)] == [("order_book", "book_broken")]
    assert intake.of(BookSnapshot) == []

    made.on_book(book(2.0), 20)
    made.recorder.sample_books()
    assert [b.received_at for b in intake.of(BookSnapshot)] == [20]
    made.on_book_broken("A/B")
    assert made.ledger.counts.book_resyncs == {"sequence": 2}


def test_a_book_whose_snapshot_fails_is_asked_for_again_and_shows_why_after_three_failures() -> None:
    made, intake = reader()
    made.on_book_not_loaded("A/B", FeedError("no"), 1)
    made.on_book_not_loaded("A/B", FeedError("no"), 2)
    assert [s.quarantined for s in made.ledger.all_streams() if s.quarantined] == []
    made.on_book_not_loaded("A/B", FeedError("no"), 3)
    made.on_book_not_loaded("C/D", FeedError("not followed"), 1)

    reasons = [s.quarantined for s in made.ledger.all_streams() if s.quarantined]
    assert reasons == ["the book snapshot over REST failed: no"]
    assert made.ledger.counts.book_resyncs == {"not_loaded": 1}
    assert [gap.cause for gap in intake.of(FeedGap)] == ["book_not_loaded"]


def test_where_ticks_are_the_best_levels_of_books_one_comes_when_they_change() -> None:
    made, intake = reader()
    made.ticks_from_books.add("A/B")
    for price, at in ((1.0, 10), (1.0, 20), (2.0, 30)):
        made.on_book(book(price), at)
    made.on_ticker("A/B", {"bid": 9.0}, 40)
    assert [(tick.bid_price, tick.received_at) for tick in intake.of(Tick)] == [("1.0", 10), ("2.0", 30)]

    made.on_book_broken("A/B")
    assert {gap.channel for gap in intake.of(FeedGap)} == {"order_book", "ticks"}
    made.on_book(book(2.0), 50)
    assert intake.of(Tick)[-1].received_at == 50  # as after any interruption, although it is the same again


def test_what_a_lost_connection_still_brings_ends_no_gap() -> None:
    made, intake = reader()
    made.attach(Subscriptions(), BookLadder())
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "1"}, 100)
    made.recorder.interrupted([made.ledger.streams["trades"]["A/B"]], "disconnect", "x")
    made.frame.is_late = True
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "2"}, 200)
    assert [gap.ended_at for gap in intake.of(FeedGap)] == [None]

    made.frame.is_late = False
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "3"}, 300)
    assert intake.of(FeedGap)[1].ended_at == 300
    assert len(intake.of(Trade)) == 3


def test_an_error_of_the_exchange_is_counted_and_told_to_the_subscriptions() -> None:
    made, _ = reader()
    asked = Asked()
    made.attach(asked, BookLadder())
    made.on_refused("wss://one", FeedError("no such symbol"))
    made.on_rejected("wss://one")

    assert made.ledger.counts.error_frames == 1
    assert asked.refusals == ["wss://one: no such symbol"]
    assert asked.woken == ["wss://one"]
