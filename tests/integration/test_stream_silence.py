"""A venue that stops sending one stream, on a socket that lives on and brings the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Feed
from ingestd.gaps.causes import STREAM_SILENT
from ingestd.lab.sim.faults import Fault
from ingestd.lab.sim.replay import replay_venue
from ingestd.lab.sim.server import LocalVenue
from ingestd.lab.sim.synthetic.rest import Rest
from ingestd.lab.sim.synthetic.venue import SyntheticVenue, synthetic_venue
from ingestd.lab.sim.venues.base import RestAnswer, RestCall
from ingestd.records import BookSnapshot, FeedGap, MarketRecord, Tick, Trade
from ingestd.status import StreamStatus
from tests.support.captures import shared
from tests.support.feeds import DECODERS, make_feed
from tests.unit.feeds.doubles import ListIntake

WITHIN_S = 60.0
STALE_AFTER_S = 0.4


class Rig:
    """A venue, a feed on it, and what the feed handed over."""

    def __init__(self, venue: LocalVenue[Any], feed: Feed, task: asyncio.Task[None], intake: ListIntake) -> None:
        self.venue = venue
        self.feed = feed
        self.intake = intake
        self.task = task

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.01)

    def of(self, kind: type[MarketRecord], symbol: str) -> Sequence[Any]:
        return [record for record in self.intake.of(kind) if record.symbol == symbol]

    def gaps(self) -> list[FeedGap]:
        return self.intake.of(FeedGap)

    def ended(self) -> list[FeedGap]:
        """The first end of each gap."""
        ends: dict[tuple[str, str, int], FeedGap] = {}
        for gap in self.gaps():
            if gap.ended_at is not None:
                ends.setdefault((gap.channel, gap.symbol, gap.time), gap)
        return list(ends.values())

    def stream(self, channel: str, symbol: str) -> StreamStatus:
        streams = self.feed.status().streams
        return next(stream for stream in streams if (stream.channel, stream.symbol) == (channel, symbol))


@asynccontextmanager
async def feeding(venue: LocalVenue[Any], decoder: str, **changes: Any) -> AsyncIterator[Rig]:
    settings = {"symbols": list(venue.symbols), "channels": ["trades"], "stale_after_s": STALE_AFTER_S, **changes}
    feed = make_feed(FeedConfig(exchange=venue.exchange, url_map=venue.url_map, **settings), decoder)
    intake = ListIntake()
    task = asyncio.create_task(feed.run(intake))
    try:
        yield Rig(venue, feed, task, intake)
    finally:
        await feed.close()
        await task


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.feeds.streams.silence.SETTLE_S", 0.3)
    monkeypatch.setattr("ingestd.feeds.recording.silence_watch.REST_BEHIND_US", 200_000)


def happened(venue: SyntheticVenue, symbol: str) -> list[int]:
    """The venue's ids of all trades, in order, also of those that it sent to nobody."""
    lane = venue.source.lane_of_key[venue.symbols[symbol]]
    return [trade.trade_id for trade in lane.market.trades]


@pytest.mark.parametrize("decoder", DECODERS)
async def test_a_liquid_stream_that_is_dropped_is_missed_and_asked_for_anew(decoder: str) -> None:
    async with synthetic_venue(symbols=3, rate=300) as venue, feeding(venue, decoder) as made:
        await made.until(lambda: len(made.of(Trade, "BTC/USDT")) > 100)
        await venue.apply(Fault("unsubscribe", symbol="BTC/USDT", channel="trades"))
        await made.until(made.gaps)
        last = made.of(Trade, "BTC/USDT")[-1]
        opened = made.gaps()[0]
        await made.until(made.ended)
        (ended,) = made.ended()
        resumed = made.of(Trade, "BTC/USDT")[-1]
        status = made.feed.status()

    assert (opened.symbol, opened.channel, opened.cause) == ("BTC/USDT", "trades", STREAM_SILENT)
    assert opened.time == min(last.time, last.received_at)  # from the last trade, and nothing of it is left out
    assert opened.received_at - last.received_at < 6_000_000
    assert ended.ended_at is not None
    assert ended.ended_at <= max(resumed.time, resumed.received_at)
    missing = set(happened(venue, "BTC/USDT")) - {int(trade.trade_id) for trade in made.of(Trade, "BTC/USDT")}
    assert missing
    assert all(int(last.trade_id) < trade_id for trade_id in missing)
    assert {gap.symbol for gap in made.gaps()} == {"BTC/USDT"}  # the others were not interrupted
    assert (status.disconnects, status.silences["dead"]) == (0, 1)


@pytest.mark.parametrize("decoder", DECODERS)
async def test_one_that_does_not_come_when_asked_for_is_asked_for_elsewhere(decoder: str) -> None:
    async with synthetic_venue(symbols=2, rate=200) as venue, feeding(venue, decoder) as made:
        await made.until(lambda: len(made.of(Trade, "BTC/USDT")) > 100)
        await venue.apply(Fault("unsubscribe", symbol="BTC/USDT", channel="trades", deaf=5))
        await made.until(lambda: made.feed.status().connects == 2)
        had = len(made.of(Trade, "BTC/USDT"))
        await made.until(lambda: len(made.of(Trade, "BTC/USDT")) > had + 100)
        connects = made.feed.status().connects

    assert connects == 2
    assert STREAM_SILENT in {gap.cause for gap in made.gaps() if gap.symbol == "BTC/USDT"}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("channel", "kind"), [("ticks", Tick), ("order_book", BookSnapshot)])
async def test_ticks_and_books_that_are_dropped(decoder: str, channel: str, kind: type[MarketRecord]) -> None:
    async with (
        synthetic_venue(symbols=2, rate=200) as venue,
        feeding(venue, decoder, channels=["trades", channel], order_book_interval_ms=100) as made,
    ):
        await made.until(lambda: len(made.of(kind, "BTC/USDT")) > 30 and len(made.of(kind, "ETH/USDT")) > 30)
        await venue.apply(Fault("unsubscribe", symbol="BTC/USDT", channel=channel))
        await made.until(made.ended)
        (ended,) = made.ended()
        before = [record for record in made.of(kind, "BTC/USDT") if record.received_at < ended.received_at]
        disconnects = made.feed.status().disconnects

    assert (ended.symbol, ended.channel, ended.cause) == ("BTC/USDT", channel, STREAM_SILENT)
    assert ended.time <= before[-1].received_at
    assert disconnects == 0


@pytest.mark.parametrize("decoder", DECODERS)
async def test_ticks_that_never_come_are_missed_while_the_best_prices_change(
    decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestd.feeds.recording.silence_watch.BULK_PER_MINUTE", 240.0)
    async with synthetic_venue(symbols=2, rate=200) as venue:
        async with feeding(venue, decoder, channels=["trades", "ticks"]) as earlier:
            await earlier.until(lambda: earlier.of(Tick, "BTC/USDT"))
            await venue.apply(Fault("unsubscribe", symbol="BTC/USDT", channel="ticks", deaf=-1))
        async with feeding(venue, decoder, channels=["trades", "ticks"]) as made:
            await made.until(made.gaps)
            stream, disconnects = made.stream("ticks", "BTC/USDT"), made.feed.status().disconnects
            await made.until(lambda: made.feed.status().disconnects)  # then it is asked for over another socket

    opened = made.gaps()[0]
    assert (opened.symbol, opened.channel, opened.cause) == ("BTC/USDT", "ticks", STREAM_SILENT)
    assert opened.time == stream.followed_at  # nothing ever came
    assert (stream.received, disconnects) == (0, 0)


@pytest.mark.parametrize("decoder", DECODERS)
async def test_a_book_is_not_silent_between_two_samples(decoder: str) -> None:
    async with (
        synthetic_venue(symbols=2, rate=200) as venue,
        feeding(venue, decoder, channels=["trades", "order_book"], order_book_interval_ms=2000) as made,
    ):
        await made.until(lambda: len(made.of(BookSnapshot, "BTC/USDT")) >= 3)
        silences = made.feed.status().silences

    assert STREAM_SILENT not in {gap.cause for gap in made.gaps()}
    assert (silences["newer"], silences["dead"]) == (0, 0)


@pytest.mark.parametrize("decoder", DECODERS)
async def test_a_quiet_market_has_no_gap_and_is_proved_quiet(decoder: str) -> None:
    """Nothing is traded, and the venue says so: that moves on until when the stream is known to be complete."""
    async with synthetic_venue(symbols=3, rate=300) as venue, feeding(venue, decoder) as made:
        await made.until(lambda: all(len(made.of(Trade, symbol)) > 50 for symbol in venue.symbols))
        venue.source.halt("BTC/USDT")
        requests = venue.requests
        await made.until(lambda: made.feed.status().silences["proved"] >= 2)
        stream = made.stream("trades", "BTC/USDT")
        last = made.of(Trade, "BTC/USDT")[-1]
        proved = stream.complete_until
        assert proved is not None
        assert proved > last.received_at + 200_000
        assert made.gaps() == []
        assert venue.requests - requests <= 4

        # Now it is dropped, and traded again: what is missing begins at the proof.
        await venue.apply(Fault("unsubscribe", symbol="BTC/USDT", channel="trades"))
        venue.source.resume("BTC/USDT")
        await made.until(made.ended)
        gap = made.ended()[0]

    assert gap.cause == STREAM_SILENT
    assert gap.time >= proved
    lane = venue.source.lane_of_key[venue.symbols["BTC/USDT"]]
    ours = {int(trade.trade_id) for trade in made.of(Trade, "BTC/USDT")}
    missing = [trade for trade in lane.market.trades if trade.trade_id not in ours and trade.trade_id < max(ours)]
    times = [trade.time_ms * 1000 for trade in missing]
    assert times
    assert all(gap.time <= time <= (gap.ended_at or 0) for time in times)


@pytest.mark.parametrize("decoder", DECODERS)
async def test_a_rarely_traded_stream_that_is_dropped(decoder: str) -> None:
    """One trade in half a second, two hundred a second beside it."""
    async with synthetic_venue(symbols=2, rate=200) as venue, feeding(venue, decoder) as made:
        await made.until(lambda: made.of(Trade, "BTC/USDT"))
        venue.source.halt("BTC/USDT")
        for _ in range(4):
            await venue.apply(Fault("burst", symbol="BTC/USDT"))
            await asyncio.sleep(0.6)
        assert made.gaps() == []
        await venue.apply(Fault("unsubscribe", symbol="BTC/USDT", channel="trades"))
        await venue.apply(Fault("burst", symbol="BTC/USDT"))
        await made.until(made.gaps)
        gap = made.gaps()[0]
        last = made.of(Trade, "BTC/USDT")[-1]

    assert (gap.symbol, gap.cause) == ("BTC/USDT", STREAM_SILENT)
    assert gap.time >= min(last.time, last.received_at)


REPLAYS = [
    pytest.param("okx-v5-2022-05", "BTC/USDT", 1.0, id="okx"),
    pytest.param("coinbase-exchange-2021-04", "SKL/USD", 2.0, id="coinbaseexchange"),
]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("capture", "symbol", "speed"), REPLAYS)
async def test_other_venues_that_drop_a_stream(decoder: str, capture: str, symbol: str, speed: float) -> None:
    path = shared("captures") / f"{capture}.ndjson.gz"
    async with (
        replay_venue(path, speed=speed, shift_to_now=True, quiet_s=0.3) as venue,
        feeding(venue, decoder, channels=["trades", "ticks"], stale_after_s=2.0) as made,
    ):
        await made.until(lambda: len(made.of(Trade, symbol)) > 6)  # early: the capture goes on after that
        await venue.apply(Fault("unsubscribe", symbol=symbol, channel="trades"))
        had = len(made.of(Trade, symbol))
        await made.until(lambda: any(gap.symbol == symbol for gap in made.gaps()))
        disconnects = made.feed.status().disconnects  # now: the capture may end before the next trade
        await made.until(lambda: len(made.of(Trade, symbol)) > had)
        gap = next(gap for gap in made.gaps() if gap.symbol == symbol)

    assert (gap.cause, gap.channel, disconnects) == (STREAM_SILENT, "trades", 0)


@pytest.mark.parametrize("decoder", DECODERS)
async def test_a_venue_that_cannot_tell_of_all_markets_at_once_is_asked_about_one(
    decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ticker/24hr` is not served; the newest trades are."""
    answer = Rest.answer

    def without(rest: Rest, call: RestCall) -> RestAnswer | None:
        return None if call.path.endswith("24hr") else answer(rest, call)

    monkeypatch.setattr(Rest, "answer", without)
    async with synthetic_venue(symbols=3, rate=300) as venue, feeding(venue, decoder) as made:
        await made.until(lambda: len(made.of(Trade, "BTC/USDT")) > 100)
        venue.source.halt("ETH/USDT")
        await venue.apply(Fault("unsubscribe", symbol="BTC/USDT", channel="trades"))
        await made.until(made.ended)
        await made.until(lambda: made.feed.status().silences["proved"])

    assert {gap.symbol for gap in made.gaps()} == {"BTC/USDT"}
    assert {gap.cause for gap in made.gaps()} == {STREAM_SILENT}


@pytest.mark.parametrize("decoder", DECODERS)
async def test_one_that_never_comes_again_leaves_gaps_that_can_be_filled(decoder: str) -> None:
    """Each ends at a trade that the venue gave over REST, where the next one begins."""
    async with synthetic_venue(symbols=2, rate=200) as venue, feeding(venue, decoder) as made:
        await made.until(lambda: len(made.of(Trade, "BTC/USDT")) > 100)
        await venue.apply(Fault("unsubscribe", symbol="BTC/USDT", channel="trades", deaf=-1))
        await made.until(lambda: len([gap for gap in made.ended() if gap.symbol == "BTC/USDT"]) >= 2)
        # Then nothing more is traded, and the last gap ends too.
        venue.source.halt("BTC/USDT")
        newest = happened(venue, "BTC/USDT")[-1]
        await made.until(lambda: int(made.of(Trade, "BTC/USDT")[-1].trade_id) == newest)

    gaps = [gap for gap in made.ended() if gap.symbol == "BTC/USDT"]
    trades = {int(trade.trade_id): trade for trade in made.of(Trade, "BTC/USDT")}
    lane = venue.source.lane_of_key[venue.symbols["BTC/USDT"]]
    missing = [trade for trade in lane.market.trades if trade.trade_id not in trades]
    assert missing
    assert all(any(gap.time <= t.time_ms * 1000 <= (gap.ended_at or 0) for gap in gaps) for t in missing)
