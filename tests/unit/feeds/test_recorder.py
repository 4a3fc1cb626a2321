"""From updates to records in the intake."""

from __future__ import annotations

from typing import Any

from ingestd.feeds.ccxt_recorder import Recorder
from ingestd.records import BookSnapshot, Candle, FeedGap, OpenInterest, Tick, Trade
from tests.unit.feeds.doubles import ListIntake, feed_config


def recorder(**changes: Any) -> tuple[Recorder, ListIntake]:
    intake = ListIntake()
    made = Recorder(feed_config("binance", ["A/B"], **changes), intake)
    for channel in made.streams:
        made.add_stream(channel, "A/B")
    return made, intake


def book(price: float) -> dict[str, Any]:
    return {"symbol": "A/B", "bids": [[price, 1.0]], "asks": [[price + 1, 1.0]], "nonce": 1, "timestamp": 1}


def test_books_are_sampled_once_each_time_they_changed() -> None:
    made, intake = recorder()
    made.on_book(book(1.0), 10)
    made.on_book(book(2.0), 20)
    made.sample_books()
    made.sample_books()

    assert [(b.bids, b.received_at) for b in intake.of(BookSnapshot)] == [((("2.0", "1.0"),), 20)]


def test_a_book_that_is_being_rebuilt_or_whose_socket_is_gone_is_not_sampled() -> None:
    made, intake = recorder()
    made.on_book(book(1.0), 10)
    made.on_book_replaced("A/B")
    made.sample_books()
    made.on_book(book(1.0), 10)
    made.interrupted([made.streams["order_book"]["A/B"]], "disconnect", "x")
    made.sample_books()

    assert intake.of(BookSnapshot) == []


def test_every_change_when_the_interval_is_zero() -> None:
    made, intake = recorder(order_book_interval_ms=0)
    made.on_book(book(1.0), 10)
    made.on_book(book(2.0), 20)

    assert len(intake.of(BookSnapshot)) == 2


def test_an_update_that_cannot_be_read_is_counted_and_raises_nothing() -> None:
    made, intake = recorder()
    made.on_trade("A/B", {"price": "1", "amount": "1", "timestamp": "never"}, 1)
    made.on_bid_ask("A/B", {"last": 1.0}, 1)
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "5"}, 1)

    assert made.counts.incomplete_records == 2
    assert len(intake.records) == 1


def test_ticks_come_from_one_of_the_two_stores() -> None:
    made, intake = recorder()
    made.on_ticker("A/B", {"bid": 1.0}, 1)
    made.on_bid_ask("A/B", {"bid": 2.0}, 1)
    made.ticks_from_tickers = True
    made.on_ticker("A/B", {"bid": 3.0}, 1)
    made.on_bid_ask("A/B", {"bid": 4.0}, 1)

    assert [tick.bid_price for tick in intake.of(Tick)] == ["2.0", "3.0"]


def test_a_disconnect_touches_the_streams_of_its_socket_only() -> None:
    made, intake = recorder()
    url = "wss://one"
    woken: list[str] = []
    made.attach(lambda: url, woken.append)
    made.on_connected("wss://one")
    made.on_connected("wss://two")
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "1"}, 100)
    url = "wss://two"
    made.on_bid_ask("A/B", {"bid": 1.0}, 110)

    made.on_disconnected("wss://one", "reset by peer")

    (gap,) = intake.of(FeedGap)
    assert (gap.channel, gap.time, gap.cause, gap.detail) == ("trades", 100, "disconnect", "reset by peer")
    assert woken == ["wss://one"]
    assert made.connected


def test_an_end_on_purpose_is_no_gap() -> None:
    made, intake = recorder()
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "1"}, 100)
    made.closing = True
    for stream in made.all_streams():
        stream.url = "wss://one"
    made.on_disconnected("wss://one", "closed")

    assert intake.of(FeedGap) == []
    assert made.counts.disconnects == 0


def test_what_calls_return_in_all_its_forms() -> None:
    made, intake = recorder()
    made.on_returned("open_interest", ["A/B"], {"symbol": "A/B", "openInterestAmount": "1"}, 1)
    made.on_returned("open_interest", ["A/B"], {"A/B": {"symbol": "A/B", "openInterestAmount": "2"}}, 1)
    made.on_returned("trades", ["A/B"], [{"price": "1", "amount": "1", "id": "9"}], 1)
    made.on_returned("candles", ["A/B"], [[60_000, 1, 2, 1, 2, 5], [120_000, 1, 2, 1, 2, 5]], 1)
    made.on_returned("trades", ["A/B"], None, 1)

    assert [row.open_interest for row in intake.of(OpenInterest)] == ["1", "2"]
    assert [row.trade_id for row in intake.of(Trade)] == ["9"]
    assert [row.time for row in intake.of(Candle)] == [60_000_000]


def test_a_stream_that_delivers_is_not_quarantined() -> None:
    made, _ = recorder()
    made.streams["trades"]["A/B"].quarantined = "refused"
    made.on_trade("A/B", {"price": "1", "amount": "1", "id": "1"}, 1)

    assert made.streams["trades"]["A/B"].quarantined is None


def test_a_sampled_book_belongs_to_the_socket_that_changed_it() -> None:
    made, intake = recorder()
    urls: list[str | None] = ["wss://one"]
    made.attach(lambda: urls[0], lambda _url: None)
    made.on_book(book(1.0), 10)
    urls[0] = None
    made.sample_books()

    made.on_disconnected("wss://one", "reset")

    assert [(gap.channel, gap.time) for gap in intake.of(FeedGap)] == [("order_book", 10)]


def test_an_interrupted_candle_is_not_handed_over() -> None:
    made, intake = recorder()
    made.on_candles("A/B", [[60_000, 1, 2, 1, 2, 5]], 1)
    made.interrupted([made.streams["candles"]["A/B"]], "disconnect", "x")
    made.on_candles("A/B", [[180_000, 1, 2, 1, 2, 5], [240_000, 1, 2, 1, 2, 5]], 2)

    assert [candle.time for candle in intake.of(Candle)] == [180_000_000]
