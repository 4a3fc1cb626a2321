"""How old a message is when a subscriber has it, and what a frozen Redis costs the database.

The subscriber is a process of its own. From the wire means from the venue's own timestamp (milliseconds) through the
simulator, the socket, the ccxt feed and the daemon; the feed takes a few thousand events a second, so what lies beyond
is measured from `put()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import click

from ingestd.cli import demo_run
from ingestd.cli.demo_run import Plan
from ingestd.clock import monotonic_s, now_us
from ingestd.config import RedisConfig, parse
from ingestd.feeds.base import FeedStatus, Intake, MarketInfo
from ingestd.ops.metrics import Metrics
from ingestd.records import Tick, Trade
from ingestd.service import Service
from ingestd.sim.embedded_valkey import EmbeddedValkey
from ingestd.sinks.redis_live import RedisLive
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate

PUT_RATES = (1_000, 10_000, 30_000)
WIRE_RATES = (1_000, 5_000, 10_000, 30_000)  # the last is more than the ccxt feed takes
_STEP_S = 0.001
_PATTERNS = ("market_data:*", "trades:*")
_SYMBOLS = 20


async def latencies(plan: Plan) -> dict[str, object]:
    """Ages in milliseconds at the subscriber, by how many events a second."""
    seconds = min(plan.seconds, 10.0)
    results: dict[str, object] = {}
    with EmbeddedValkey() as valkey:
        for rate in PUT_RATES:
            _say(f"put() to subscriber at {rate} events/s for {seconds:g} s")
            results[f"redis_put_to_subscriber_at_{rate}_per_s"] = await put_to_subscriber(valkey, rate, seconds)
        for rate in WIRE_RATES:
            _say(f"wire to subscriber at {rate} events/s for {seconds:g} s")
            offered = replace(plan, rate=float(rate), seconds=seconds)
            results[f"redis_wire_to_subscriber_at_{rate}_per_s"] = await wire_to_subscriber(valkey, offered)
    return results


async def put_to_subscriber(valkey: EmbeddedValkey, rate: int, seconds: float) -> dict[str, float]:
    """Trades and ticks, half each, evenly through each millisecond."""
    live = RedisLive(RedisConfig(url=valkey.url), Metrics(), _short, instance="bench")
    running = asyncio.create_task(live.run())
    try:
        async with asyncio.timeout(5):
            while not live.status().up:  # noqa: ASYNC110 # a status is polled, here as by health
                await asyncio.sleep(0.01)
        async with subscriber(valkey.port) as summary:
            await _paced(live, rate, seconds)
        return {**summary, "offered": int(rate * seconds)}
    finally:
        live.finish()
        await running


async def wire_to_subscriber(valkey: EmbeddedValkey, plan: Plan) -> dict[str, float]:
    """The daemon as it is run, on the simulated venue."""
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder:
        async with (
            demo_run.database(plan, _say) as dsn,
            demo_run.venue(plan, _say) as venue,
            demo_run.daemon(plan, _say, Path(folder), venue, dsn, {"redis": {"url": valkey.url}}) as running,
            aiohttp.ClientSession() as http,
        ):
            await demo_run.until_first_record(http, running)
            await asyncio.sleep(2)
            async with subscriber(valkey.port) as summary:
                await asyncio.sleep(plan.seconds)
            return {**summary, "offered": int(plan.rate * plan.seconds)}


@contextlib.asynccontextmanager
async def subscriber(port: int) -> AsyncIterator[dict[str, float]]:
    """A subscriber in its own process; what it measured is in the dict after the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingestd.sim.subscriber", str(port), *_PATTERNS, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None, "it was asked for"
    await process.stdout.readline()
    summary: dict[str, float] = {}
    try:
        yield summary
        await asyncio.sleep(0.5)
    finally:
        process.send_signal(signal.SIGTERM)
        answer, _ = await process.communicate()
        summary.update(json.loads(answer))


async def frozen(plan: Plan, *, seconds_frozen: float, rounds: int, rate: int = 5000) -> dict[str, object]:
    """Database flushes while Redis answers and while it is stopped (SIGSTOP), in turn, in one run."""
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder, EmbeddedValkey() as valkey:
        async with demo_run.database(plan, _say) as dsn:
            document: dict[str, Any] = {
                "instance": {"name": "bench", "state_dir": folder},
                "database": {"dsn": dsn, "flush_ms": 50},
                "redis": {"url": valkey.url},
                "http": {"listen": "127.0.0.1:0"},
                "feeds": [{"exchange": "bench", "symbols": ["BTC/USDT"]}],
            }
            config = parse(document, {})
            database = await Database.connect(dsn, application_name="ingestd bench", call_timeout_s=60)
            try:
                await migrate(database, config)
            finally:
                await database.close()
            service = Service(config, make_feed=lambda _feed: PacedFeed(rate))
            flushes = FlushTimes()
            service.metrics.flush_s = flushes  # type: ignore[assignment] # what it is used for
            running = asyncio.create_task(service.run())
            try:
                await asyncio.sleep(3)
                answering, stopped = await _in_turn(valkey, flushes, seconds_frozen, rounds)
            finally:
                service.request_stop("measured")
                await running
    before, during = _p99_ms(answering), _p99_ms(stopped)
    return {
        "redis_frozen_flush_p99_ms": round(during, 2),
        "redis_answering_flush_p99_ms": round(before, 2),
        "redis_frozen_flush_p99_change": round(during / before - 1, 3),
        "redis_frozen_flush_p50_ms": round(statistics.median(stopped) * 1000, 2),
        "redis_answering_flush_p50_ms": round(statistics.median(answering) * 1000, 2),
        "redis_frozen_flushes": [len(answering), len(stopped)],
    }


async def _in_turn(
    valkey: EmbeddedValkey, flushes: FlushTimes, seconds: float, rounds: int
) -> tuple[list[float], list[float]]:
    answering: list[float] = []
    stopped: list[float] = []
    assert valkey.pid is not None, "it runs"
    for number in range(rounds):
        _say(f"round {number + 1} of {rounds}: {seconds:g} s answering, {seconds:g} s frozen")
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
    """Stands in for the histogram of flushes and keeps each."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def labels(self, _sink: str) -> FlushTimes:
        return self

    def observe(self, took_s: float) -> None:
        self.times.append(took_s)


class PacedFeed:
    """A feed without an exchange: records at a steady rate."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._closed = asyncio.Event()

    async def run(self, intake: Intake) -> None:
        while not self._closed.is_set():
            await _paced(intake, self._rate, 0.1)
            await intake.writable()

    async def close(self) -> None:
        self._closed.set()

    def status(self) -> FeedStatus:
        return FeedStatus("bench", connected=True)

    def markets(self) -> Sequence[MarketInfo]:
        return ()

    def set_symbols(self, symbols: Sequence[str]) -> None:
        """There are none to follow."""


async def _paced(taker: RedisLive | Intake, rate: int, seconds: float) -> None:
    started_s = monotonic_s()
    done = 0
    while (elapsed_s := monotonic_s() - started_s) < seconds:
        while done < rate * elapsed_s:
            done += 1
            taker.put(_record(done))
        await asyncio.sleep(_STEP_S)


def _record(number: int) -> Tick | Trade:
    symbol, now = f"SYM{number % _SYMBOLS}/USDT", now_us()
    if number % 2:
        return Tick("binance", symbol, now, now, "64000.10", "1.50", "64000.20", "0.75")
    identity = now * 1000 + number % 1000
    return Trade("binance", symbol, now, now, str(identity), identity, "buy", "64000.10", "0.00100000")


def _short(_exchange: str, symbol: str) -> str:
    return symbol.replace("/", "")


def _p99_ms(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98] * 1000


def _say(text: str) -> None:
    click.echo(f"… {text}", err=True)
