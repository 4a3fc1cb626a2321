"""The native feed against the simulator's every fault: what arrives is the venue's ledger, trade by trade."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Feed
from ingestd.lab.sim.faults import Fault
from ingestd.lab.sim.synthetic.venue import SyntheticVenue, synthetic_venue
from ingestd.records import FeedGap, Tick, Trade
from ingestd.retry import Backoff
from tests.support.feeds import make_feed
from tests.unit.feeds.doubles import ListIntake

WITHIN_S = 120.0

Row = tuple[str, str, str, str, str, int]


class Rig:
    """A generated market and a native feed on it."""

    def __init__(self, venue: SyntheticVenue, feed: Feed, intake: ListIntake, task: asyncio.Task[None]) -> None:
        self.venue = venue
        self.feed = feed
        self.intake = intake
        self.task = task

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.005)

    async def until_more(self, count: int = 200) -> None:
        had = len(self.intake.of(Trade))
        await self.until(lambda: len(self.intake.of(Trade)) >= had + count)

    async def quiet(self) -> None:
        """The venue falls silent, and everything it sent has arrived."""
        assert await self.venue.stop()
        sent = {row[1] for row in ledger(self.venue)}
        async with asyncio.timeout(WITHIN_S):
            while not sent <= {trade.trade_id for trade in self.intake.of(Trade)}:
                await asyncio.sleep(0.1)  # looking through all of them costs the feed its turns

    def trades(self) -> list[Row]:
        """Each once, in the order of arrival."""
        rows = [(t.symbol, t.trade_id, t.price, t.quantity, str(t.side), t.time) for t in self.intake.of(Trade)]
        return list(dict.fromkeys(rows))


def ledger(venue: SyntheticVenue, *, uncertain: bool = False) -> list[Row]:
    """What the venue wrote to a socket that lived (or also what may have died with one)."""
    lines = [json.loads(line) for line in venue.ledger.trade_lines()]
    return [
        (line["symbol"], line["trade_id"], line["price"], line["quantity"], line["side"], line["time_us"])
        for line in lines
        if uncertain or not line.get("uncertain")
    ]


def by_market(rows: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row)
    return found


@asynccontextmanager
async def rig(**changes: Any) -> AsyncIterator[Rig]:
    async with synthetic_venue(symbols=3, futures_symbols=2, rate=3000) as venue:
        settings = {"channels": ["ticks", "trades"], "symbols": list(venue.symbols), **changes}
        intake = ListIntake()
        feed = make_feed(FeedConfig(exchange="binance", url_map=venue.url_map, **settings), "native")
        task = asyncio.create_task(feed.run(intake))
        made = Rig(venue, feed, intake, task)
        try:
            await made.until_more()
            yield made
        finally:
            await feed.close()
            await task


@pytest.fixture(autouse=True)
def quick_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.feeds.native.session.DIALS_AT_ONCE", 1000)
    monkeypatch.setattr("ingestd.feeds.native.connection.Backoff", lambda **_: Backoff(base_s=0.001, cap_s=0.005))


async def test_on_a_good_day_the_ledger_is_what_arrives() -> None:
    async with rig() as made:
        await made.until_more(3000)
        await made.quiet()
        status = made.feed.status()
        ticks = [json.loads(line) for line in made.venue.ledger.tick_lines()]
        await made.until(lambda: len(made.intake.of(Tick)) >= len(ticks))
        sent = ledger(made.venue)

    assert by_market(made.trades()) == by_market(sent)
    assert len(made.intake.of(Trade)) == len(sent)
    best = [(t.symbol, t.bid_price, t.bid_volume, t.ask_price, t.ask_volume) for t in made.intake.of(Tick)]
    expected = [
        tuple(tick[key] for key in ("symbol", "bid_price", "bid_volume", "ask_price", "ask_volume")) for tick in ticks
    ]
    assert sorted(best) == sorted(expected)
    assert made.intake.of(FeedGap) == []
    assert (status.connects, status.malformed_frames, status.unrequested_records) == (2, 0, 0)


async def test_sockets_that_are_dropped_leave_a_gap_over_what_is_missing() -> None:
    async with rig() as made:
        for _ in range(3):
            await made.venue.apply(Fault("drop"))
            await made.until_more()
        await made.quiet()
        sent, possibly = ledger(made.venue), ledger(made.venue, uncertain=True)
        gaps = [gap for gap in made.intake.of(FeedGap) if gap.ended_at is not None and gap.channel == "trades"]
        withheld = [json.loads(line) for line in made.venue.ledger.trade_lines(withheld=True)]

    ours = made.trades()
    assert set(sent) <= set(ours) <= set(possibly)
    for symbol, rows in by_market(ours).items():
        ids = [int(row[1]) for row in rows]
        assert ids == sorted(ids), symbol
    assert withheld
    for line in withheld:
        covering = [gap for gap in gaps if gap.symbol == line["symbol"]]
        assert any(gap.time <= line["time_us"] <= (gap.ended_at or 0) for gap in covering), line
    assert made.feed.status().disconnects == 6


async def test_a_half_open_socket_is_found_by_its_silence() -> None:
    async with rig(stale_after_s=0.4) as made:
        await made.venue.apply(Fault("half_open"))
        await made.until(lambda: made.feed.status().stale_reconnects >= 2)
        await made.until_more()
        causes = {gap.cause for gap in made.intake.of(FeedGap)}

    assert "stale" in causes


async def test_malformed_frames_bursts_repeats_and_jumps() -> None:
    async with rig() as made:
        await made.venue.apply(Fault("malformed", n=5))
        await made.venue.apply(Fault("burst", n=2000))
        await made.venue.apply(Fault("duplicate", n=50))
        await made.venue.apply(Fault("id_jump", symbol="BTC/USDT", n=7))
        await made.until_more()
        await made.quiet()
        await made.until(lambda: made.intake.of(FeedGap))
        sent = ledger(made.venue)
        (gap,) = made.intake.of(FeedGap)
        malformed = made.feed.status().malformed_frames

    assert by_market(made.trades()) == by_market(sent)
    assert (gap.symbol, gap.cause) == ("BTC/USDT", "id_jump")
    assert (gap.detail or "").startswith("7 trades are missing")
    assert malformed > 0
    assert made.feed.status().disconnects == 0


async def test_while_the_intake_has_no_room_the_venue_keeps_what_it_sends() -> None:
    async with rig() as made:
        made.intake.room.clear()
        await made.until(lambda: made.venue.source.events > 20_000)
        held_back = len(made.intake.of(Trade))
        made.intake.room.set()
        await made.until_more(held_back)
        await made.quiet()
        sent = ledger(made.venue)

    assert held_back < 10_000
    assert by_market(made.trades()) == by_market(sent)
    assert made.intake.of(FeedGap) == []
