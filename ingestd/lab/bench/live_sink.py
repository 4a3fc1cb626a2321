"""Measures the age of messages at a Redis subscriber, the publishing rate, and what other sinks cost the database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from ingestd.clock import monotonic_s, now_us
from ingestd.config.loading import parse
from ingestd.feeds.base import Intake
from ingestd.lab.bench import rig
from ingestd.lab.bench.figures import Figures, percentile
from ingestd.lab.bench.rig import Plan, Sections, Server
from ingestd.lab.demo.processes import LabError
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.ops.metrics import Metrics
from ingestd.records import Tick, Trade
from ingestd.service import Service
from ingestd.sinks.redis.options import RedisConfig
from ingestd.sinks.redis.sink import RedisLive
from ingestd.status import FeedStatus, MarketInfo

PUT_RATES = (1_000, 10_000, 30_000)
_MORE_THAN_IT_TAKES = 150_000
_STEP_S = 0.001
_SETTLED_S = 3.0
_PUT_RATE = 200_000  # records per second, more than the journal takes
_SYMBOLS = 20


async def measure(plan: Plan, figures: Figures) -> None:
    """Measure ages at the subscriber by records put per second, and the maximum publishing rate."""
    seconds = min(plan.seconds, 10.0)
    with EmbeddedValkey() as valkey:
        for rate in (10_000,) if plan.quick else PUT_RATES:
            plan.say(f"put_all() to subscriber at {rate:,} records/s for {seconds:g} s")
            ages = await put_to_subscriber(valkey, rate, seconds)
            what = f"put → Redis subscriber at {rate:,}/s"
            figures.add(f"redis.put_p50_at_{rate}", f"{what}, p50", ages["p50_ms"], "ms")
            figures.add(f"redis.put_p99_at_{rate}", f"{what}, p99", ages["p99_ms"], "ms")
        plan.say("the most that is published")
        most = await put_to_subscriber(valkey, _MORE_THAN_IT_TAKES, min(seconds, 5.0))
    rate_most = most["messages"] / (most["offered"] / _MORE_THAN_IT_TAKES)
    figures.rate("redis.published", "Redis: published and received, caches kept", [rate_most])


async def put_to_subscriber(valkey: EmbeddedValkey, rate: int, seconds: float) -> dict[str, float]:
    """Put trades and ticks, half each, evenly spread over each millisecond."""
    live = RedisLive(RedisConfig(url=valkey.url), Metrics(), instance="bench")
    running = asyncio.create_task(live.run())
    try:
        async with asyncio.timeout(5):
            while not live.status().up:  # noqa: ASYNC110 # a status is polled, here as by health
                await asyncio.sleep(0.01)
        async with rig.subscriber(valkey.port) as summary:
            await _paced(live.put_all, rate, seconds)
        return {**summary, "offered": int(rate * seconds)}
    finally:
        live.finish()
        await running


async def frozen(plan: Plan, server: Server, figures: Figures, *, seconds_frozen: float, rate: int = 5000) -> None:
    """Time database flushes while Redis answers and while it is stopped (SIGSTOP), in turn."""
    with EmbeddedValkey() as valkey:
        async with server.database() as dsn:
            flushes = FlushTimes()
            sections = {"database": {"dsn": dsn, "flush_ms": 50}, "redis": {"url": valkey.url}}
            async with _service(sections, rate, flushes):
                answering, stopped = await _in_turn(plan, valkey, flushes, seconds_frozen)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        before, during = (percentile(times, share) * 1000 for times in (answering, stopped))
        key, what = f"frozen.answering_{name}", "database flush, Redis"
        figures.add(key, f"{what} answering, {name}", before, "ms")
        figures.add(f"frozen.stopped_{name}", f"{what} frozen, {name}", during, "ms", key)


async def beside_the_database(plan: Plan, server: Server, figures: Figures) -> None:
    """Measure records stored per second by the slowest sink: the database alone and all three sinks, in turn. They are
    put as fast as the journal takes them."""
    alone, everything = [], []
    async with server.database() as dsn:
        for number in range(plan.rounds):
            plan.say(f"round {number + 1} of {plan.rounds}: put, the database alone, then all sinks")
            alone.append(await _put(plan, dsn, {}))
            async with rig.all_sinks(plan) as sections:
                everything.append(await _put(plan, dsn, sections))
    figures.rate("put.database", "put → committed, the database alone", alone)
    figures.rate("put.all_sinks", "put → committed everywhere, with Redis and Kafka", everything, limit="put.database")


async def _put(plan: Plan, dsn: str, sections: dict[str, Any]) -> float:
    async with _service({"database": {"dsn": dsn}, **sections}, _PUT_RATE) as running:
        before, started_s = _least_stored(running), monotonic_s()
        await asyncio.sleep(plan.seconds)
        rate = (_least_stored(running) - before) / (monotonic_s() - started_s)
    if not rate:
        raise LabError("nothing was stored while it was measured")
    return rate


def _least_stored(service: Service) -> int:
    """The records stored by the slowest sink."""
    sinks = service.counts()["sinks"].values()
    return min(int(sum(sink["stored"].values())) for sink in sinks)


@contextlib.asynccontextmanager
async def _service(sections: Sections, rate: int, flushes: FlushTimes | None = None) -> AsyncIterator[Service]:
    """Run the daemon's parts in this process for some seconds, behind a feed without a venue."""
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder:
        document: dict[str, Any] = {
            "instance": {"name": "bench", "state_dir": folder},
            "http": {"listen": "127.0.0.1:0"},
            "feeds": [{"exchange": "bench", "symbols": ["BTC/USDT"]}],
            **sections,
        }
        made = Service(parse(document, {}), make_feed=lambda _feed: PacedFeed(rate))
        if flushes is not None:
            made.metrics.flush_s = flushes  # type: ignore[assignment] # what it is used for
        running = asyncio.create_task(made.run())
        try:
            await asyncio.sleep(_SETTLED_S)
            yield made
        finally:
            made.request_stop("measured")
            await running


async def _in_turn(
    plan: Plan, valkey: EmbeddedValkey, flushes: FlushTimes, seconds: float
) -> tuple[list[float], list[float]]:
    answering: list[float] = []
    stopped: list[float] = []
    assert valkey.pid is not None, "it runs"
    for number in range(plan.rounds):
        plan.say(f"round {number + 1} of {plan.rounds}: {seconds:g} s answering, {seconds:g} s frozen")
        flushes.times.clear()
        await asyncio.sleep(seconds)
        answering += flushes.times
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            flushes.times.clear()
            await asyncio.sleep(seconds)
            stopped += flushes.times
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        await asyncio.sleep(3)
    return answering, stopped


class FlushTimes:
    """Replaces the histogram of flush times and keeps each value."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def labels(self, _sink: str) -> FlushTimes:
        return self

    def observe(self, took_s: float) -> None:
        self.times.append(took_s)


class PacedFeed:
    """A feed without an exchange that puts records at a steady rate."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._closed = asyncio.Event()

    async def run(self, intake: Intake) -> None:
        def put_all(records: Sequence[Tick | Trade]) -> None:
            for record in records:
                intake.put(record)

        while not self._closed.is_set():
            await _paced(put_all, self._rate, 0.1)
            await intake.writable()

    async def close(self) -> None:
        self._closed.set()

    def status(self) -> FeedStatus:
        return FeedStatus("bench", connected=True)

    def markets(self) -> Sequence[MarketInfo]:
        return ()

    def set_symbols(self, symbols: Sequence[str]) -> None:
        """Do nothing: this feed has no symbols."""


async def _paced(put_all: Callable[[Sequence[Tick | Trade]], None], rate: int, seconds: float) -> None:
    started_s = monotonic_s()
    done = 0
    while (elapsed_s := monotonic_s() - started_s) < seconds:
        due = int(rate * elapsed_s)
        put_all([_record(number) for number in range(done + 1, due + 1)])
        done = due
        await asyncio.sleep(_STEP_S)


def _record(number: int) -> Tick | Trade:
    symbol, now = f"SYM{number % _SYMBOLS}/USDT", now_us()
    if number % 2:
        return Tick("binance", symbol, now, now, "64000.10", "1.50", "64000.20", "0.75")
    identity = now * 1000 + number % 1000
    return Trade("binance", symbol, now, now, str(identity), identity, "buy", "64000.10", "0.00100000")
