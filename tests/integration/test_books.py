"""Books against a venue that leaves updates out, and against one whose own book says that ours is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Feed
from ingestd.feeds.ccxt.feed import CcxtFeed
from ingestd.feeds.native.feed import NativeFeed
from ingestd.feeds.recording import book_audit as audit
from ingestd.lab.sim.faults import Fault
from ingestd.lab.sim.synthetic.market import Market
from ingestd.lab.sim.synthetic.venue import SyntheticVenue, synthetic_venue
from ingestd.ops.metrics import Metrics
from ingestd.records import BookSnapshot, FeedGap
from ingestd.venues.exact import ExactFloat
from tests.support.exposed import exposed
from tests.support.feeds import DECODERS, make_feed
from tests.unit.feeds.doubles import ListIntake

LEVELS = 20
WITHIN_S = 60.0

Side = tuple[tuple[str, str], ...]


class Truth:
    """Every state of every book that the venue ever showed, from the market itself, by symbol and update id."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: dict[str, dict[int, tuple[Side, Side]]] = {}
        real_open, real_take = Market.open_book, Market.take_changes

        def open_book(market: Market) -> None:
            real_open(market)
            self._note(market)

        def take_changes(market: Market) -> Any:
            self._note(market)
            return real_take(market)

        monkeypatch.setattr(Market, "open_book", open_book)
        monkeypatch.setattr(Market, "take_changes", take_changes)

    def _note(self, market: Market) -> None:
        def side(levels: dict[int, int], *, best_first: bool) -> Side:
            ticks = sorted(levels, reverse=best_first)[:LEVELS]
            return tuple((market.price(tick).decode(), market.sizes[levels[tick]].decode()) for tick in ticks)

        states = self.states.setdefault(market.listing.symbol, {})
        states[market.update_id] = side(market.bids, best_first=True), side(market.asks, best_first=False)


class Running:
    """A feed of the books of a generated market, every update of them."""

    def __init__(self, venue: SyntheticVenue, decoder: str, **changes: Any) -> None:
        self.venue = venue
        self.intake = ListIntake()
        settings: dict[str, Any] = {"order_book_interval_ms": 0, "order_book_levels": LEVELS, **changes}
        config = FeedConfig(
            exchange=venue.exchange,
            symbols=list(venue.symbols),
            channels=["order_book"],
            url_map=venue.url_map,
            **settings,
        )
        self.feed = make_feed(config, decoder)
        self.task = asyncio.create_task(self.feed.run(self.intake))

    def books(self, symbol: str) -> list[BookSnapshot]:
        return [book for book in self.intake.of(BookSnapshot) if book.symbol == symbol]

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.005)

    async def until_more(self, count: int = 10) -> None:
        """Until every book has been delivered that many times again."""
        had = {symbol: len(self.books(symbol)) for symbol in self.venue.symbols}
        await self.until(lambda: all(len(self.books(symbol)) >= had[symbol] + count for symbol in had))


@asynccontextmanager
async def running(decoder: str, spot: int = 0, futures: int = 0, **changes: Any) -> AsyncIterator[Running]:
    async with synthetic_venue(symbols=spot, futures_symbols=futures, rate=100) as venue:
        made = Running(venue, decoder, **changes)
        try:
            yield made
        finally:
            await made.feed.close()
            await made.task


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def falsify(feed: Feed, symbol: str, amount: str) -> None:
    """Write a wrong amount into the 13th bid."""
    if isinstance(feed, CcxtFeed):
        feed.exchange.orderbooks[symbol]["bids"][12][1] = ExactFloat(amount)
        return
    assert isinstance(feed, NativeFeed)
    assert feed.reader is not None
    book = feed.reader.books.get(symbol)
    assert book is not None
    ((price, _),) = book.bids.best(13)[12:]
    book.bids.put(book.bids.parsed([(price, amount)]))


def assert_true(made: Running, truth: Truth) -> None:
    """What is called valid is what the venue had at that update."""
    books = made.intake.of(BookSnapshot)
    assert books
    for book in books:
        assert book.valid
        assert book.sequence is not None
        assert (book.bids, book.asks) == truth.states[book.symbol][book.sequence]


@pytest.mark.parametrize(("spot", "futures"), [(3, 0), (0, 3)], ids=["spot", "futures"])
@pytest.mark.parametrize("interval_ms", [0, 150], ids=["every update", "sampled"])
async def test_a_book_that_lost_an_update_is_begun_anew_alone(
    monkeypatch: pytest.MonkeyPatch, decoder: str, spot: int, futures: int, interval_ms: int
) -> None:
    truth = Truth(monkeypatch)
    async with running(decoder, spot, futures, order_book_interval_ms=interval_ms) as made:
        symbol, *others = made.venue.symbols
        await made.until_more()

        await made.venue.apply(Fault("depth_jump", symbol=symbol, n=3))
        await made.until(lambda: len(made.intake.of(FeedGap)) == 2)
        await made.until_more()
        status = made.feed.status()
        metrics = Metrics()
        metrics.watch_feed(made.feed.status)
        shown = exposed(metrics)

    opened, ended = made.intake.of(FeedGap)
    records = made.intake.records
    before = [r for r in records[: records.index(opened)] if isinstance(r, BookSnapshot) and r.symbol == symbol][-1]
    after = next(r for r in records[records.index(opened) :] if isinstance(r, BookSnapshot) and r.symbol == symbol)
    assert (opened.symbol, opened.channel, opened.cause) == (symbol, "order_book", "book_broken")
    assert (opened.time, opened.ended_at) == (min(before.time, before.received_at), None)
    assert ended.time == opened.time
    assert ended.ended_at == max(after.time, after.received_at)
    assert records.index(ended) == records.index(after) - 1
    assert status.book_resyncs == {"sequence": 1}
    assert f'ingestd_book_resyncs_total{{exchange="{made.venue.exchange}",reason="sequence"}} 1.0' in shown
    assert (status.connects, status.disconnects, status.malformed_frames) == (1, 0, 0)
    assert_true(made, truth)
    if interval_ms == 0:
        for other in others:  # not one update of the others was missed or waited for
            sequences = [book.sequence for book in made.books(other)]
            sent = [number for number in truth.states[other] if sequences[0] <= number <= sequences[-1]]  # type: ignore[operator]
            assert sequences == sent


async def test_an_audit_finds_a_wrong_level_and_has_that_book_begun_anew(
    monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    monkeypatch.setattr(audit, "LATE_S", 1.0)
    truth = Truth(monkeypatch)
    async with running(decoder, 2, book_audit_interval_s=0.05) as made:
        symbol, other = made.venue.symbols

        def audits(result: str) -> int:
            return made.feed.status().book_audits[result]

        await made.until(lambda: audits("equal") >= 4)
        assert audits("differs") == 0

        falsify(made.feed, symbol, "123456.7")
        await made.until(lambda: len(made.intake.of(FeedGap)) == 2)
        agreed = audits("equal")
        await made.until(lambda: audits("equal") >= agreed + 4)
        await made.until_more()
        status = made.feed.status()

    opened, ended = made.intake.of(FeedGap)
    wrong = [book for book in made.books(symbol) if ("123456.7") in {amount for _, amount in book.bids}]
    assert wrong
    assert (opened.symbol, opened.channel, opened.cause) == (symbol, "order_book", "book_broken")
    assert ended.ended_at is not None
    assert all(opened.time <= book.received_at <= ended.ended_at for book in wrong)
    assert status.book_resyncs == {"audit": 1}
    assert status.book_audits["differs"] == 2
    sequences = [book.sequence for book in made.books(other)]
    sent = [number for number in truth.states[other] if sequences[0] <= number <= sequences[-1]]  # type: ignore[operator]
    assert sequences == sent


async def test_the_audit_is_off_when_its_interval_is_zero(decoder: str) -> None:
    async with running(decoder, 1, book_audit_interval_s=0) as made:
        await made.until_more(3)
        names = {task.get_name() for task in asyncio.all_tasks()}

    assert not [name for name in names if "audit" in name]
