"""The order of audits, and what follows from what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from ingestd.errors import FeedError, RateLimited, Refused
from ingestd.feeds.books.ladder import BookLadder
from ingestd.feeds.ccxt.subscriptions import Subscriptions
from ingestd.feeds.ccxt.tap import can_forget_books, make_exchange
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.feeds.ccxt.tap_state import Tap
from ingestd.feeds.recording import book_audit as audit
from ingestd.feeds.recording.book_audit import BookAuditor
from ingestd.feeds.stopping import Stop
from ingestd.records import FeedGap
from tests.unit.feeds.doubles import ListIntake, feed_config


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LATE_S", 0.0)
    monkeypatch.setattr(audit, "RATE_LIMIT_PAUSE_S", 0.0)


def book(symbol: str, bid_amount: float = 1.0, sequence: int | None = None) -> dict[str, Any]:
    bids, asks = [[10.0, bid_amount], [9.0, 5.0]], [[11.0, 5.0], [12.0, 5.0]]
    return {"symbol": symbol, "bids": bids, "asks": asks, "nonce": sequence, "timestamp": 1_000}


class Audited(Subscriptions):
    """Books of ours that stand still, against what the venue says of them, one answer after the other."""

    one_series = False

    def __init__(self, *symbols: str, can_forget: bool = True) -> None:
        super().__init__()
        self.intake = ListIntake()
        config = feed_config("okx", symbols, order_book_interval_ms=0, book_audit_interval_s=0.001)
        self.reader = TapReader(config, self.intake)
        self.books = {symbol: book(symbol) for symbol in symbols}
        self.answers: Iterator[dict[str, Any] | Exception] = iter(())
        self.asked: list[tuple[str, int | None]] = []
        self.forgotten: list[str] = []
        self.can_forget_books = can_forget
        self.stop = Stop()
        self.reader.attach(self, BookLadder())
        for symbol in symbols:
            self.reader.ledger.add_stream("order_book", symbol)
            self.deliver(symbol)

    def deliver(self, symbol: str) -> None:
        self.reader.on_book(self.books[symbol], 2_000_000)

    def ask_for_book(self, symbol: str) -> None:
        asyncio.get_running_loop().call_soon(self.deliver, symbol)

    def book(self, symbol: str) -> dict[str, Any] | None:
        return self.books.get(symbol)

    async def order_book(self, symbol: str, levels: int | None) -> dict[str, Any]:
        answer = next(self.answers, None)
        if answer is None:
            self.stop.set()
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
        self.asked.append((symbol, levels))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def forget_book(self, symbol: str) -> None:
        self.forgotten.append(symbol)

    async def run(self, *answers: dict[str, Any] | Exception) -> None:
        """Until every answer is given."""
        self.answers = iter(answers)
        async with asyncio.timeout(60):
            await BookAuditor(self.reader.recorder, self).run(self.stop)


RIGHT, WRONG = book("A/B"), book("A/B", bid_amount=2.0)


async def test_the_books_are_audited_in_turn() -> None:
    audited = Audited("A/B", "C/D", "E/F")
    await audited.run(*[RIGHT] * 7)

    symbols = [symbol for symbol, _ in audited.asked]
    assert sorted(symbols[:3]) == ["A/B", "C/D", "E/F"]
    assert symbols[3:] == (symbols[:3] * 2)[:4]
    assert audited.reader.ledger.counts.book_audits == {"equal": 7}


async def test_a_book_that_has_not_been_delivered_or_is_interrupted_is_left_out() -> None:
    audited = Audited("A/B", "C/D")
    audited.reader.ledger.add_stream("order_book", "E/F")
    audited.reader.recorder.interrupted([audited.reader.ledger.streams["order_book"]["C/D"]], "disconnect", "x")
    await audited.run(RIGHT, RIGHT)

    assert [symbol for symbol, _ in audited.asked] == ["A/B", "A/B"]


async def test_one_difference_is_looked_at_again_and_no_more() -> None:
    audited = Audited("A/B", "C/D")
    await audited.run(WRONG, RIGHT, RIGHT)

    first, second, third = (symbol for symbol, _ in audited.asked)
    assert first == second != third
    assert audited.forgotten == []
    assert audited.reader.ledger.counts.book_audits == {"differs": 1, "equal": 2}
    assert audited.intake.of(FeedGap) == []


async def test_two_at_the_same_level_have_it_begun_anew_with_a_gap_since_the_last_agreement() -> None:
    audited = Audited("A/B")
    await audited.run(RIGHT, WRONG, WRONG, RIGHT)

    opened, ended = audited.intake.of(FeedGap)
    assert audited.forgotten == ["A/B"]
    assert audited.reader.ledger.counts.book_resyncs == {"audit": 1}
    assert (opened.cause, opened.detail) == ("book_broken", "1 levels differ from the venue's own book")
    assert opened.time > 2_000_000  # not from the last sample: that was not the venue's any more
    assert opened.time < opened.received_at
    assert ended.ended_at is not None


async def test_two_at_different_levels_are_a_market_that_moved() -> None:
    other = {**RIGHT, "asks": [[11.0, 7.0], [12.0, 5.0]]}
    audited = Audited("A/B")
    await audited.run(WRONG, other, RIGHT)

    assert audited.forgotten == []


async def test_a_venue_that_keeps_disagreeing_is_not_asked_for_the_book_all_the_time() -> None:
    audited = Audited("A/B")
    await audited.run(*[WRONG] * 12)

    assert audited.forgotten == ["A/B"]
    assert audited.reader.ledger.counts.book_audits["differs"] >= 8


async def test_where_there_is_no_way_to_begin_anew_it_is_counted_only() -> None:
    audited = Audited("A/B", can_forget=False)
    await audited.run(WRONG, WRONG, WRONG)

    assert audited.reader.ledger.counts.book_audits == {"differs": 3}
    assert audited.intake.of(FeedGap) == []


async def test_a_request_that_fails_proves_nothing_and_a_depth_that_is_refused_is_not_asked_for_again() -> None:
    audited = Audited("A/B")
    refused = Refused("limit must be 50")
    await audited.run(FeedError("x"), refused, RateLimited("x"), {"bids": None}, RIGHT)

    assert [levels for _, levels in audited.asked] == [100, 100, None, None, None]
    assert audited.reader.ledger.counts.book_audits == {"inconclusive": 4, "equal": 1}


@pytest.mark.parametrize(
    ("exchange", "can"), [("binance", True), ("kraken", True), ("okx", True), ("bitfinex", True), ("gemini", False)]
)
async def test_which_venues_can_begin_one_book_anew(exchange: str, can: bool) -> None:
    made = make_exchange(exchange, Tap())
    assert can_forget_books(made) is can
    await made.close()
