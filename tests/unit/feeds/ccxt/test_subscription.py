"""One subscription: reconnecting, splitting, quarantine. No network, no waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import ccxt
import pytest

from ingestd.feeds.ccxt.channels import Method
from ingestd.feeds.ccxt.subscription import FAILURES_TO_RECREATE, Subscription, all_fail
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.feeds.ccxt.tap_state import dialled_urls
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.quarantine import QUARANTINE_S
from ingestd.retry import Backoff
from tests.unit.feeds.doubles import ListIntake, feed_config

URL = "wss://venue.example"


class QuickStop(Stop):
    """Delays pass at once and are noted; `limit` of them end the run."""

    def __init__(self, limit: int = 50) -> None:
        super().__init__()
        self.delays: list[float] = []
        self.quarantines = 0
        self._limit = limit

    async def sleep(self, seconds: float) -> bool:
        self.delays.append(seconds)
        await asyncio.sleep(0)
        if len(self.delays) >= self._limit:
            self.set()
        return not self.is_set()

    async def sleep_or(self, event: asyncio.Event, seconds: float) -> None:
        if seconds > QUARANTINE_S / 2:
            self.quarantines += 1
            self.set()
        else:
            await super().sleep_or(event, seconds)


class FakeVenue:
    """`watch` succeeds, or raises what `errors` holds for a symbol of the call."""

    def __init__(self, **errors: Exception) -> None:
        self.errors = errors
        self.calls: list[list[str]] = []
        self.delivering: list[str] = []
        self.reader = TapReader(feed_config("binance", ["*"]), ListIntake())
        self.called = asyncio.Event()

    async def watch(self, _method: Method, symbols: Sequence[str]) -> Any:
        urls = dialled_urls.get()
        assert urls is not None
        urls[URL] = None
        self.calls.append(list(symbols))
        self.called.set()
        for symbol in symbols:
            if symbol in self.errors:
                raise self.errors[symbol]
        for symbol in symbols:
            self.reader.on_trade(symbol, {"id": "1", "price": "1", "amount": "1"}, 1)
        return []

    def subscription(self, *symbols: str) -> Subscription:
        streams = [self.reader.ledger.add_stream("trades", symbol) for symbol in symbols]
        return Subscription(
            "trades",
            Method("watch_trades_for_symbols", many=True),
            streams,
            watch=self.watch,
            reader=self.reader,
            backoff=lambda: Backoff(base_s=1.0, cap_s=8.0, draw=lambda: 1.0),
        )


async def test_delays_grow_up_to_the_cap_while_the_venue_is_away() -> None:
    venue = FakeVenue(A=ccxt.NetworkError("gone"))
    stop = QuickStop(limit=6)

    await venue.subscription("A").run(stop)

    assert stop.delays == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


async def test_a_working_subscription_is_not_asked_for_again_until_its_socket_is_gone() -> None:
    venue = FakeVenue()
    stop = QuickStop(limit=1)
    subscription = venue.subscription("A")
    running = asyncio.create_task(subscription.run(stop))
    await venue.called.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(venue.calls) == 1

    subscription.wake("wss://another.example")
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(venue.calls) == 1

    subscription.wake(URL)
    await running
    assert stop.delays == [1.0]


async def test_a_refused_symbol_is_found_by_halving_and_only_it_is_put_aside() -> None:
    venue = FakeVenue(D=ccxt.BadSymbol("no D"))
    stop = QuickStop(limit=10_000)
    pending = [venue.subscription(*"ABCDEFGH")]
    singles: list[list[str]] = []
    while pending:
        subscription = pending.pop()
        if len(subscription.symbols) == 1 or "D" not in subscription.symbols:
            singles.append(subscription.symbols)
            continue
        pending.extend(await subscription.run(stop))
    assert sorted(singles) == [["A", "B"], ["C"], ["D"], ["E", "F", "G", "H"]]

    await venue.subscription("D").run(stop)

    quarantined = {s.symbol for s in venue.reader.ledger.all_streams() if s.quarantined}
    assert quarantined == {"D"}
    assert venue.calls.count(["D"]) == 3  # a refusal may have been about another symbol of the socket
    assert stop.quarantines == 1


async def test_a_symbol_that_delivers_is_never_blamed() -> None:
    venue = FakeVenue()
    subscription = venue.subscription("A", "B")
    venue.reader.on_trade("A", {"id": "1", "price": "1", "amount": "1"}, 1)
    venue.errors["B"] = ccxt.ExchangeError("some symbol is wrong")

    parts = await subscription.run(QuickStop())

    assert [part.symbols for part in parts] == [["A"], ["B"]]


async def test_a_rate_limit_is_honoured() -> None:
    error = ccxt.RateLimitExceeded("banned")
    error.retry_after_s = 120.0
    venue = FakeVenue(A=error)
    stop = QuickStop(limit=2)

    await venue.subscription("A").run(stop)

    assert stop.delays == [121.0, 122.0]


async def test_futures_the_library_cancels_do_not_cancel_the_subscription() -> None:
    venue = FakeVenue()

    async def cancelled(_method: Method, symbols: Sequence[str]) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.cancel()
        return await future

    venue.watch = cancelled  # type: ignore[method-assign]
    stop = QuickStop(limit=3)

    await venue.subscription("A").run(stop)

    assert len(stop.delays) == 3


async def test_where_nothing_is_stored_the_returned_trades_are_taken() -> None:
    venue = FakeVenue()
    stop = QuickStop()

    async def returning(_method: Method, symbols: Sequence[str]) -> Any:
        venue.calls.append(list(symbols))
        if len(venue.calls) == 3:
            stop.set()
        return [{"symbol": "A", "id": str(len(venue.calls)), "price": "1", "amount": "1"}]

    venue.watch = returning  # type: ignore[method-assign]
    await venue.subscription("A").run(stop)

    assert venue.reader.ledger.streams["trades"]["A"].received >= 2


async def test_what_calls_return_belongs_to_their_socket() -> None:
    venue = FakeVenue()
    stop = QuickStop()
    minutes = iter(range(1, 5))
    watch = venue.watch

    async def returning(_method: Method, symbols: Sequence[str]) -> Any:
        await watch(_method, [])
        minute = next(minutes)
        if minute == 4:
            stop.set()
        return [{"symbol": "A", "id": str(minute), "price": "1", "amount": "1"}]

    venue.watch = returning  # type: ignore[method-assign]
    subscription = venue.subscription("A")
    await subscription.run(stop)
    assert venue.reader.ledger.streams["trades"]["A"].url == URL


async def test_each_broken_book_has_delays_of_its_own() -> None:
    """One that breaks again and again waits longer each time; another that breaks then is asked for as at first."""
    venue = FakeVenue()
    stop = QuickStop(limit=5)
    streams = [venue.reader.ledger.add_stream("order_book", symbol) for symbol in ("A", "B")]
    subscription = Subscription(
        "order_book",
        Method("watch_order_book_for_symbols", many=True),
        streams,
        watch=venue.watch,
        reader=venue.reader,
        backoff=lambda: Backoff(base_s=1.0, draw=lambda: 1.0),
    )
    running = asyncio.create_task(subscription.run(stop))
    for symbol in ("A", "A", "A", "B", "A"):
        await venue.called.wait()
        venue.called.clear()
        subscription.wake_for("C")  # not what it carries
        subscription.wake_for(symbol)
    await running

    assert stop.delays == [1.0, 2.0, 4.0, 1.0, 8.0]


def failing(failures: int, *quarantined: str | None) -> Any:
    return SimpleNamespace(failures=failures, streams=[SimpleNamespace(quarantined=q) for q in quarantined or (None,)])


@pytest.mark.parametrize(
    ("subscriptions", "expected"),
    [
        ([], False),
        ([failing(FAILURES_TO_RECREATE)], True),
        ([failing(FAILURES_TO_RECREATE - 1)], False),
        ([failing(FAILURES_TO_RECREATE), failing(0)], False),
        ([failing(FAILURES_TO_RECREATE), failing(0, "refused")], True),
        ([failing(99, "refused")], False),
    ],
)
def test_the_exchange_object_is_suspected_when_nothing_works(subscriptions: list[Any], expected: bool) -> None:
    assert all_fail(subscriptions) is expected
