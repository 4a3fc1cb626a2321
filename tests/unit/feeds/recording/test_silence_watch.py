"""How often a venue is asked about streams that are silent, and about which of them first."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from ingestd.errors import FeedError, RateLimited
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.feeds.recording.silence_watch import SilenceWatch
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream
from ingestd.records import FeedGap, Trade
from ingestd.venues.trades import NewestAnswer
from tests.unit.feeds.doubles import ListIntake, feed_config

START_US = 1_700_000_000_000_000


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr("ingestd.feeds.recording.silence_watch.monotonic_s", lambda: self.now_s)
        monkeypatch.setattr("ingestd.feeds.recording.silence_watch.now_us", self.now_us)

    def now_us(self) -> int:
        return START_US + int(self.now_s * 1e6)


class Rest:
    """A venue that answers for every market; its last ids are in `last`."""

    is_ready = True

    def __init__(self, *, has_bulk: bool) -> None:
        self.bulk = has_bulk
        self.last: dict[str, int] = {}
        self.asked: list[str] = []
        self.error: FeedError | None = None
        self.bulk_error: FeedError | None = None

    def kind(self, symbol: str) -> str:
        return "spot"

    def has_bulk(self, kind: str) -> bool:
        return self.bulk

    def has_best_of_many(self) -> bool:
        return True

    async def trades_of_all(self, kind: str, symbols: Collection[str]) -> dict[str, NewestAnswer]:
        self._note(kind)
        if self.bulk_error is not None:
            raise self.bulk_error
        return {symbol: self._answer(symbol) for symbol in symbols}

    async def trade(self, symbol: str) -> NewestAnswer:
        self._note(symbol)
        return self._answer(symbol)

    async def best(self, symbols: Collection[str]) -> dict[str, NewestAnswer]:
        self._note("best")
        return {symbol: NewestAnswer(("best", 1)) for symbol in symbols}

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    def _answer(self, symbol: str) -> NewestAnswer:
        return NewestAnswer(("last id", self.last[symbol]), number=self.last[symbol])


class Rig:
    """A watch over the trades of so many symbols, which were all delivered just now."""

    def __init__(self, clock: Clock, count: int, *, has_bulk: bool) -> None:
        self.clock = clock
        self.rest = Rest(has_bulk=has_bulk)
        self.intake = ListIntake()
        self.reader = TapReader(feed_config("okx", ["*"], stale_after_s=8.0), self.intake)
        self.streams = [self.reader.ledger.add_stream("trades", f"S{number}") for number in range(count)]
        self.anew: list[tuple[str, int]] = []
        for stream in self.streams:
            stream.followed_at = clock.now_us()
            self.deliver(stream)
        self.stop = Stop()
        self.watch = SilenceWatch(self.rest, self.reader.recorder, self)

    @property
    def gaps(self) -> list[tuple[str, str]]:
        """The gaps that were opened."""
        return [(gap.symbol, gap.cause) for gap in self.intake.of(FeedGap) if gap.ended_at is None]

    def open_streams(self) -> list[Stream]:
        return self.streams

    def resubscribe(self, stream: Stream, attempt: int) -> None:
        self.anew.append((stream.symbol, attempt))

    def deliver(self, stream: Stream) -> None:
        number = self.rest.last[stream.symbol] = self.rest.last.get(stream.symbol, 0) + 1
        at = self.clock.now_us()
        stream.received += 1
        stream.last_received_at = stream.last_time = at
        stream.last = Trade("x", stream.symbol, at, at, str(number), number, "buy", "1", "1")

    async def seconds(self, count: int, *delivering: Stream) -> None:
        for _ in range(count):
            self.clock.now_s += 1.0
            for stream in delivering:
                self.deliver(stream)
            self.watch.look(self.clock.now_s)
            await self.watch.ask(self.stop)


@pytest.mark.parametrize(("has_bulk", "most"), [(True, 4.0), (False, 12.0)])
async def test_two_thousand_quiet_markets_make_no_storm(
    monkeypatch: pytest.MonkeyPatch, has_bulk: bool, most: float
) -> None:
    made = Rig(Clock(monkeypatch), 2000, has_bulk=has_bulk)
    minutes = 5
    await made.seconds(60 * minutes)
    assert 0 < len(made.rest.asked) <= most * minutes + 3
    assert made.gaps == []
    if has_bulk:
        assert all((stream.quiet_until or 0) > (stream.last_received_at or 0) + 60_000_000 for stream in made.streams)


@pytest.mark.parametrize("has_bulk", [True, False])
async def test_among_them_the_liquid_one_that_died_is_found_at_once(
    monkeypatch: pytest.MonkeyPatch, has_bulk: bool
) -> None:
    made = Rig(Clock(monkeypatch), 2000, has_bulk=has_bulk)
    liquid = made.streams[700]
    await made.seconds(120, liquid)
    made.rest.last[liquid.symbol] += 50
    await made.seconds(8 + 3 + (15 if has_bulk else 1))
    assert made.gaps == [("S700", "stream_silent")]
    assert made.anew == [("S700", 1)]


async def test_asked_for_in_vain_it_is_asked_for_elsewhere_and_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Rig(Clock(monkeypatch), 1, has_bulk=False)
    await made.seconds(60, made.streams[0])
    for _ in range(600):
        made.rest.last["S0"] += 1
        await made.seconds(1)
    attempts = [attempt for _, attempt in made.anew]
    assert attempts == list(range(1, len(attempts) + 1))
    assert 4 <= len(attempts) <= 8


async def test_a_refusal_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Rig(Clock(monkeypatch), 100, has_bulk=True)
    made.rest.error = RateLimited("enough", 300.0)
    await made.seconds(299)
    assert len(made.rest.asked) == 1


async def test_a_venue_that_has_no_such_request_is_asked_about_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Rig(Clock(monkeypatch), 3, has_bulk=True)
    await made.seconds(30, *made.streams)
    made.rest.bulk_error = FeedError("404")
    made.rest.last["S1"] += 5
    await made.seconds(45)
    assert made.gaps == [("S1", "stream_silent")]


async def test_the_watch_ends_with_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Rig(Clock(monkeypatch), 1, has_bulk=True)
    task = asyncio.create_task(made.watch.run(made.stop))
    made.stop.set()
    await asyncio.wait_for(task, 60)


async def test_nobody_is_asked_about_liquidations(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Rig(Clock(monkeypatch), 1, has_bulk=False)
    made.streams = [Stream("liquidations", "S0", followed_at=made.clock.now_us())]
    await made.seconds(3600)
    assert (made.rest.asked, made.anew, made.gaps) == ([], [], [])


async def test_mark_prices_that_end_while_the_market_is_traded_are_asked_for_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No exchange is asked about them: their own past and the trades of their market say that they are dead."""
    made = Rig(Clock(monkeypatch), 1, has_bulk=False)
    (trades,) = made.streams
    marks = Stream("mark_prices", "S0", followed_at=made.clock.now_us())
    made.streams.append(marks)
    for _ in range(120):
        marks.received += 1
        await made.seconds(1, trades)
    assert made.anew == []
    await made.seconds(60, trades)
    assert made.anew[0] == ("S0", 1)
    assert made.gaps[0] == ("S0", "stream_silent")
    assert made.rest.asked == []
