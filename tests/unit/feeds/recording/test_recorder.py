"""What a recorder does with records and connections, whichever reader they come from."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from ingestd.feeds.markets.listing import Choice
from ingestd.feeds.recording.recorder import Recorder
from ingestd.feeds.streams.ledger import Stream
from ingestd.records import FeedGap, Tick, Trade
from tests.unit.feeds.doubles import ListIntake, feed_config

SYMBOL = "A/B"
URL = "wss://one"


class Reader:
    """Has one order book, and notes what the recorder tells it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.of_book: list[Stream] = []

    def forget(self, symbol: str) -> None:
        self.told.append(("forget", symbol))

    def discard_pending(self, stream: Stream) -> None:
        self.told.append(("discard", stream.channel))

    def streams_of_book(self, symbol: str) -> list[Stream]:
        return self.of_book

    def rebuild_book(self, symbol: str) -> None:
        self.told.append(("rebuild", symbol))

    def record_book(self, symbol: str, book: Any) -> None:
        self.told.append(("record", symbol))


class Book:
    def as_mapping(self) -> dict[str, Any]:
        return {"bids": [], "asks": []}


def recorder(**changes: Any) -> tuple[Recorder, ListIntake, Reader]:
    intake, reader = ListIntake(), Reader()
    made = Recorder(feed_config("binance", [SYMBOL], **changes), intake, reader)
    for channel in made.ledger.streams:
        made.ledger.add_stream(channel, SYMBOL)
    return made, intake, reader


def trade(number: int, at: int, kind: str | None = None) -> Trade:
    return Trade("binance", SYMBOL, at, at, str(number), number, "buy", "1", "1", kind)


def test_a_record_updates_its_stream_and_lifts_a_quarantine() -> None:
    made, intake, _ = recorder()
    stream = made.ledger.streams["trades"][SYMBOL]
    stream.quarantined = "refused"
    made.take(stream, trade(1, 100, "liquidation"), 150)

    assert intake.records == [trade(1, 100, "liquidation")]
    assert (stream.received, stream.last_time, stream.last_received_at) == (1, 100, 150)
    assert not made.ledger.streams["trades"][SYMBOL].quarantined
    assert made.ledger.counts.trade_kinds == {"liquidation": 1}


def test_a_record_ends_the_gap_of_its_stream_alone() -> None:
    made, intake, reader = recorder()
    trades, ticks = made.ledger.streams["trades"][SYMBOL], made.ledger.streams["ticks"][SYMBOL]
    made.interrupted([trades, ticks], "disconnect", "reset")
    made.take(trades, trade(1, 100), 100)

    ended = [gap.channel for gap in intake.of(FeedGap) if gap.ended_at is not None]
    assert ended == ["trades"]
    assert made.ledger.has_gap(ticks)
    assert reader.told == [("discard", "trades"), ("discard", "ticks")]


def test_a_late_record_is_taken_and_ends_no_gap() -> None:
    made, intake, _ = recorder()
    ticks = made.ledger.streams["ticks"][SYMBOL]
    made.interrupted([ticks], "disconnect", "reset")
    made.take(ticks, Tick("binance", SYMBOL, 1, 1, "1", "1", "2", "1"), 1, is_late=True)

    assert len(intake.of(Tick)) == 1
    assert made.ledger.has_gap(ticks)


def test_an_id_that_is_left_out_is_a_gap() -> None:
    made, intake, _ = recorder()
    trades = made.ledger.streams["trades"][SYMBOL]
    for number, at in ((1, 100), (2, 200), (5, 300), (6, 400)):
        made.take(trades, trade(number, at), at)

    (gap,) = intake.of(FeedGap)
    assert (gap.cause, gap.time, gap.ended_at) == ("id_jump", 200, 300)


@pytest.mark.parametrize(
    ("was_connected", "retry_in_s", "event", "level"),
    [
        (True, None, "disconnected", "warning"),
        (True, 1.26, "disconnected", "warning"),
        (False, 1.26, "dial_failed", "warning"),
        (False, None, "dial_failed", "debug"),  # the subscription says when it is tried again
    ],
)
def test_a_lost_connection_is_logged_counted_and_a_gap(
    was_connected: bool, retry_in_s: float | None, event: str, level: str
) -> None:
    made, intake, _ = recorder()
    streams = list(made.ledger.all_streams())
    with capture_logs() as logs:
        made.disconnected(URL, streams[:1], "reset", was_connected=was_connected, retry_in_s=retry_in_s)

    assert [(entry["event"], entry["log_level"]) for entry in logs] == [(event, level)]
    assert logs[0].get("retry_in_s") == (None if retry_in_s is None else 1.3)
    assert made.ledger.counts.disconnects == was_connected
    assert [gap.cause for gap in intake.of(FeedGap)] == ["disconnect"]


def test_a_connection_that_ends_on_purpose_is_no_gap() -> None:
    made, intake, _ = recorder()
    made.closing = True
    made.disconnected(URL, list(made.ledger.all_streams()), "closed", was_connected=True)

    assert intake.records == []
    assert made.ledger.counts.disconnects == 0


def test_connections_and_silent_connections_are_counted() -> None:
    made, intake, _ = recorder()
    made.connected(URL)
    made.stale(URL, list(made.ledger.all_streams())[:1], "no data for 30 s")

    assert (made.ledger.counts.connects, made.ledger.counts.stale_reconnects) == (1, 1)
    assert [(gap.cause, gap.detail) for gap in intake.of(FeedGap)] == [("stale", "no data for 30 s")]


def test_a_broken_book_is_a_gap_of_its_streams_and_is_rebuilt() -> None:
    made, intake, reader = recorder()
    made.book_broken(SYMBOL, "audit", "x")
    assert reader.told == []  # it is being rebuilt already

    reader.of_book = [made.ledger.streams["order_book"][SYMBOL]]
    made.book_broken(SYMBOL, "audit", "2 levels differ", since=7)
    assert reader.told == [("discard", "order_book"), ("rebuild", SYMBOL)]
    assert [(gap.cause, gap.time) for gap in intake.of(FeedGap)] == [("book_broken", 7)]
    assert made.ledger.counts.book_resyncs == {"audit": 1}


@pytest.mark.parametrize(("interval_ms", "at_once"), [(0, 1), (1000, 0)])
def test_a_changed_book_is_sampled_at_once_or_in_its_turn(interval_ms: int, at_once: int) -> None:
    made, _, reader = recorder(order_book_interval_ms=interval_ms)
    made.book_changed(SYMBOL, Book())
    assert len(reader.told) == at_once

    made.sample_books()
    assert reader.told == [("record", SYMBOL)]


def test_books_in_step_are_those_that_were_recorded_and_have_no_gap() -> None:
    made, _, _ = recorder()
    stream = made.ledger.streams["order_book"][SYMBOL]
    assert made.synced_books() == []
    stream.received = 1
    assert made.synced_books() == [SYMBOL]
    made.interrupted([stream], "disconnect", "x")
    assert made.synced_books() == []


def test_a_symbol_that_is_no_longer_followed_is_forgotten_everywhere() -> None:
    made, _, reader = recorder()
    made.remove([SYMBOL])

    assert list(made.ledger.all_streams()) == []
    assert reader.told == [("forget", SYMBOL)]


def test_a_market_that_is_closed_has_a_gap_and_is_asked_for_again_when_it_is_listed_again() -> None:
    made, intake, reader = recorder(channels=["trades"])
    for channel, streams in made.ledger.streams.items():
        if channel != "trades":
            streams.clear()
    markets: dict[str, dict[str, Any]] = {SYMBOL: {"id": "ab", "symbol": SYMBOL}}
    assert made.ledger.judge_listing(Choice([SYMBOL], markets)) == []
    assert made.ledger.judge_listing(Choice([SYMBOL], markets, closed={SYMBOL})) == []
    assert [(gap.channel, gap.cause) for gap in intake.of(FeedGap)] == [("trades", "unlisted")]
    assert reader.told == []  # it may still deliver: what is pending stays

    assert made.ledger.judge_listing(Choice([SYMBOL], markets)) == [made.ledger.streams["trades"][SYMBOL]]
