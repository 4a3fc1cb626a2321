"""Measures one socket full of trades: read and discarded, read by the native feed, read by the ccxt feed."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp

from ingestd.clock import monotonic_s
from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Feed
from ingestd.feeds.ccxt.feed import CcxtFeed
from ingestd.feeds.native.feed import NativeFeed
from ingestd.feeds.native.socket import Socket, connect
from ingestd.lab.bench import rig
from ingestd.lab.bench.figures import Figures, us_each
from ingestd.lab.bench.rig import Plan
from ingestd.lab.demo.processes import LabError, Venue
from ingestd.records import FeedGap, MarketRecord
from ingestd.venues.all import native_venue

_PREFIX = "wss://stream.binance.com:9443"
_CCXT_DIVISOR = 5  # divides the number of frames: the ccxt feed is at least this much slower
_LONGEST_S = 120.0

Read = Callable[["CountingIntake", Venue], Coroutine[Any, Any, None]]


class CountingIntake:
    """An intake that only counts records; `full` is set at the last one."""

    def __init__(self, wanted: int) -> None:
        self.count = 0
        self.full = asyncio.Event()
        self.first_s = 0.0
        self._wanted = wanted

    def put(self, record: MarketRecord | FeedGap) -> None:
        if type(record) is not FeedGap:
            self.add()

    def add(self) -> None:
        """Count a record."""
        if not self.count:
            self.first_s = monotonic_s()
        self.count += 1
        if self.count == self._wanted:
            self.full.set()

    @property
    def is_blocked(self) -> bool:
        return False

    async def writable(self) -> None:
        """Return at once: there is always room."""


async def measure(plan: Plan, figures: Figures) -> None:
    """Measure frames per second over one socket, and the reader's processor time; the sender is another process."""
    plan.say("one socket: read and thrown away, the native feed, the ccxt feed")
    for key, what, read, share in (
        ("socket.picows", "bare socket reader (picows)", _bare, 1),
        ("socket.aiohttp", "bare socket reader (aiohttp)", _bare_aiohttp, 1),
        ("feed.native", "native feed: socket, decoder, recorder", _native, 1),
        ("feed.ccxt", "ccxt feed: socket, decoder, recorder", _ccxt, _CCXT_DIVISOR),
    ):
        runs = [await _frames_per_s(plan, plan.rows // share, read) for _ in range(plan.rounds)]
        rates, costs = zip(*runs, strict=True)
        figures.rate(key, what, rates, limit="socket.picows" if key.startswith("feed.") else None)
        figures.add(f"{key}_us", f"{what}: processor time", statistics.median_high(costs), "µs per frame")


async def _frames_per_s(plan: Plan, count: int, read: Read) -> tuple[float, float]:
    """Frames per second from the first to the last, and microseconds of processor time per frame."""
    counter = CountingIntake(count)
    async with rig.volley(plan.symbols, "max", "--count", count, "--hold") as venue:
        reading = asyncio.create_task(read(counter, venue))
        try:
            await venue.until(lambda ledger: ledger["lanes"] >= plan.symbols)
            busy_s = time.process_time()
            await venue.start()
            async with asyncio.timeout(_LONGEST_S):
                await counter.full.wait()
            took_s = monotonic_s() - counter.first_s
            busy_s = time.process_time() - busy_s
        except TimeoutError:
            raise LabError(f"{counter.count} of {count} frames arrived in {_LONGEST_S:g} s") from None
        finally:
            reading.cancel()
            await asyncio.wait({reading})
    return count / took_s, us_each(busy_s, count)


def _subscription(venue: Venue) -> bytes:
    names = [f"{symbol.replace('/', '').lower()}@trade" for symbol in venue.symbols]
    return json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}).encode()


async def _bare(counter: CountingIntake, venue: Venue) -> None:
    def on_frame(frame: bytes) -> None:
        if frame.startswith(b'{"e"'):
            counter.add()

    def after_read(_socket: Socket) -> None:
        """Do nothing: reading is never paused."""

    socket = await connect(f"{venue.url_map[_PREFIX]}/ws", on_frame, after_read, lambda: None)
    socket.send(_subscription(venue))
    try:
        await socket.lost.wait()
    finally:
        await socket.close()


async def _bare_aiohttp(counter: CountingIntake, venue: Venue) -> None:
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{venue.url_map[_PREFIX]}/ws") as socket:
        await socket.send_str(_subscription(venue).decode())
        async for message in socket:
            if message.data.startswith('{"e"'):
                counter.add()


async def _native(counter: CountingIntake, venue: Venue) -> None:
    config = FeedConfig.model_validate(venue.feed("native"))
    decoded = native_venue(config)
    assert decoded is not None, "there is one"
    await _run(NativeFeed(config, decoded), counter)


async def _ccxt(counter: CountingIntake, venue: Venue) -> None:
    await _run(CcxtFeed(FeedConfig.model_validate(venue.feed("ccxt"))), counter)


async def _run(feed: Feed, counter: CountingIntake) -> None:
    task = asyncio.create_task(feed.run(counter))
    try:
        await asyncio.shield(task)
    finally:
        await feed.close()
        await asyncio.wait({task})
