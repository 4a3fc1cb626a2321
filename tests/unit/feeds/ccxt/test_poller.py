"""Channels that are asked for over REST again and again. No network, no waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import ccxt
import pytest

from ingestd.feeds.ccxt.channels import Method
from ingestd.feeds.ccxt.poller import Poller
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams import quarantine
from ingestd.records import FeedGap, OpenInterest
from tests.unit.feeds.doubles import ListIntake, feed_config

MANY = Method("fetch_open_interests", many=True)
SINGLE = Method("fetch_open_interest")


class Cycles(Stop):
    """Ends after so many waits, which take no time."""

    def __init__(self, cycles: int) -> None:
        super().__init__()
        self.left = cycles

    async def sleep(self, seconds: float) -> bool:
        self.left -= 1
        if self.left <= 0:
            self.set()
        await asyncio.sleep(0)
        return not self.is_set()


class Venue:
    """Answers for the symbols of a call, or raises what `errors` holds for one of them; notes each call."""

    def __init__(self, *symbols: str, **errors: Exception) -> None:
        self.errors = errors
        self.left_out: set[str] = set()
        self.calls: list[tuple[str, Any]] = []
        self.intake = ListIntake()
        self.reader = TapReader(feed_config("binance", ["*"]), self.intake)
        self.streams = [self.reader.ledger.add_stream("open_interest", symbol) for symbol in symbols]

    async def fetch(self, method: str, argument: Any) -> Any:
        self.calls.append((method, argument))
        symbols: Sequence[str] = [argument] if isinstance(argument, str) else argument
        for symbol in symbols:
            if symbol in self.errors:
                raise self.errors[symbol]
        rows = [{"symbol": s, "openInterestAmount": "5", "timestamp": 1} for s in symbols if s not in self.left_out]
        return rows[0] if isinstance(argument, str) else rows

    async def poll(self, cycles: int, method: Method = SINGLE) -> None:
        groups = [self.streams] if method.many else [[stream] for stream in self.streams]
        poller = Poller(
            channel="open_interest",
            method=method,
            single=SINGLE,
            groups=groups,
            fetch=self.fetch,
            reader=self.reader,
            interval_s=1.0,
        )
        await poller.run(Cycles(cycles))

    def samples(self) -> list[str]:
        return [record.symbol for record in self.intake.of(OpenInterest)]

    def asked_for(self, symbol: str) -> int:
        return self.calls.count((SINGLE.name, symbol))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "RETRY_S", 0.0)


@pytest.mark.usefixtures("at_once")
async def test_a_symbol_that_is_refused_three_times_is_quarantined_and_the_others_go_on() -> None:
    venue = Venue("A", "B", A=ccxt.BadSymbol("no A"))

    await venue.poll(5)

    assert venue.asked_for("A") == 3
    assert venue.asked_for("B") == 5
    assert [stream.quarantined for stream in venue.streams] == ["BadSymbol: no A", None]


async def test_a_channel_that_the_venue_does_not_have_is_quarantined_at_once() -> None:
    venue = Venue("A", A=ccxt.NotSupported("none"))

    await venue.poll(3)

    assert venue.asked_for("A") == 1
    assert venue.streams[0].quarantined == "NotSupported: none"


async def test_each_refusal_is_a_sample_that_is_missing() -> None:
    venue = Venue("A", A=ccxt.BadSymbol("no A"))

    await venue.poll(1)

    assert [(gap.cause, gap.detail) for gap in venue.intake.of(FeedGap)] == [("poll_failed", "BadSymbol: no A")]
    assert venue.streams[0].quarantined is None


@pytest.mark.usefixtures("at_once")
async def test_an_answer_in_between_makes_the_next_refusal_the_first() -> None:
    venue = Venue("A", A=ccxt.BadSymbol("no A"))
    fetch = venue.fetch

    async def third_time(method: str, argument: Any) -> Any:
        venue.errors = {} if len(venue.calls) == 2 else {"A": ccxt.BadSymbol("no A")}
        return await fetch(method, argument)

    venue.fetch = third_time  # type: ignore[method-assign]
    await venue.poll(5)

    assert venue.samples() == ["A"]
    assert venue.streams[0].quarantined is None


async def test_all_are_asked_for_at_once_and_one_by_one_what_the_answer_leaves_out() -> None:
    venue = Venue("A", "B", "C")
    venue.left_out = {"B"}

    await venue.poll(1, MANY)

    assert venue.calls == [(MANY.name, ["A", "B", "C"]), (SINGLE.name, "B")]
