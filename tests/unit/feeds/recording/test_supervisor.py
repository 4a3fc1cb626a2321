"""The periodic work beside a feed's connections."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from ingestd.feeds.books.ladder import BookLadder
from ingestd.feeds.ccxt.subscriptions import Subscriptions
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.feeds.recording import supervisor
from ingestd.feeds.recording.supervisor import supervise
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream
from ingestd.records import BookSnapshot, FeedGap
from tests.unit.feeds.doubles import ListIntake, feed_config

BOOK = {"symbol": "A/B", "bids": [[1.0, 1.0]], "asks": [[2.0, 1.0]], "nonce": 1, "timestamp": 1}


class Session:
    """One book of ours, which the exchange's book always equals."""

    one_series = False
    can_forget_books = True

    def __init__(self) -> None:
        self.asked = 0

    def open_streams(self) -> list[Stream]:
        return []

    def resubscribe(self, stream: Stream, attempt: int) -> None:
        raise AssertionError("no stream is silent")

    def book(self, symbol: str) -> Mapping[str, Any]:
        return BOOK

    async def order_book(self, symbol: str, levels: int | None) -> Mapping[str, Any]:
        self.asked += 1
        return BOOK

    async def forget_book(self, symbol: str) -> None:
        raise AssertionError("no book is broken")


class Running:
    def __init__(self, *, has_books: bool = True, **changes: Any) -> None:
        self.intake, self.session, self.stop = ListIntake(), Session(), Stop()
        settings = {"order_book_interval_ms": 10, "book_audit_interval_s": 0.0, **changes}
        self.reader = TapReader(feed_config("binance", ["A/B"], **settings), self.intake)
        self.reader.attach(Subscriptions(), BookLadder())
        for channel in ("trades", "order_book"):
            self.reader.ledger.add_stream(channel, "A/B")
        work = supervise(self.reader.recorder, self.session, None, self.stop, has_books=has_books)
        self.task = asyncio.create_task(work)

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.002)

    async def close(self) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, 60)


async def test_books_are_sampled_again_and_again() -> None:
    running = Running()
    for count in (1, 2, 3):
        running.reader.on_book(BOOK, count)
        await running.until(lambda count=count: len(running.intake.of(BookSnapshot)) == count)
    await running.close()


async def test_trade_ids_are_settled_without_another_trade(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "SETTLE_EVERY_S", 0.005)
    running = Running()
    for number, at in ((1, 100), (2, 200), (5, 300)):
        running.reader.on_trade("A/B", {"price": "1", "amount": "1", "id": str(number)}, at)
    await running.until(lambda: running.intake.of(FeedGap))
    await running.close()

    assert [gap.cause for gap in running.intake.of(FeedGap)] == ["id_jump"]


@pytest.mark.parametrize(("has_books", "audits"), [(True, True), (False, False)])
async def test_books_are_audited_where_there_are_any(has_books: bool, audits: bool) -> None:
    running = Running(has_books=has_books, order_book_interval_ms=0, book_audit_interval_s=0.001)
    running.reader.on_book(BOOK, 1)
    if audits:
        await running.until(lambda: running.session.asked)
    else:
        await asyncio.sleep(0.05)
    await running.close()

    assert bool(running.session.asked) is audits


async def test_everything_ends_with_the_stop() -> None:
    before = asyncio.all_tasks()
    running = Running(book_audit_interval_s=60.0)
    await asyncio.sleep(0)
    await running.close()

    assert asyncio.all_tasks() == before
