"""Buffers records and writes them to the servers as packed commands; never waits.

Flushes are at least `_FLUSH_EVERY_S` apart, so that a busy feed costs at most two thousand writes a second, not one for
each record. Channels get every record of a flush in order; caches are written at most every `cache_flush_ms`. Records
are dropped and counted while there is no connection or no room in the window. Of the records that have a channel,
    taken = published + dropped + in flight.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ingestd.channels import CHANNEL_OF
from ingestd.clock import monotonic_s
from ingestd.errors import MarketUnknown
from ingestd.failpoints import passing
from ingestd.ops.metrics import Metrics, count_by
from ingestd.records import MarketRecord
from ingestd.sinks.redis.link import Answered, Link, Outbox
from ingestd.sinks.redis.options import RedisConfig
from ingestd.sinks.redis.resp import error_class
from ingestd.sinks.redis.view import Command, View
from ingestd.venues.market_names import UNKNOWN_MARKET

_FLUSH_EVERY_S = 0.0005
_CHUNK_RECORDS = 1000  # processed in one loop turn: about 5 ms
_CACHE_COMMANDS_A_FLUSH = 1000
MAX_PENDING_RECORDS = 100_000

NAME = "redis"


@dataclass(frozen=True, slots=True)
class Links:
    """The connections to the servers, and the function that finds a key's connection."""

    links: Sequence[Link]
    index_of: Callable[[bytes], int] | None = None  # None: there is one server

    def of(self, key: bytes) -> int:
        return 0 if self.index_of is None else self.index_of(key)


_NO_LINKS = Links(())


class Publisher:
    """The buffer between the feeds and the servers."""

    def __init__(self, view: View, config: RedisConfig, metrics: Metrics) -> None:
        self._view = view
        self._cache_every_s = config.cache_flush_ms / 1000
        self._metrics = metrics
        self._pending: list[MarketRecord] = []
        self._overflow = 0  # records beyond MAX_PENDING_RECORDS, not counted yet
        self._links = _NO_LINKS
        self._handle: asyncio.Handle | None = None  # the next flush
        self._cache_timer: asyncio.TimerHandle | None = None
        self._flushed_s = 0.0
        self._caches_due_s = 0.0
        self.last_error: tuple[float, str] | None = None  # monotonic time, and the server's text
        self._answered = asyncio.Event()  # something changed for `drained`
        self.published = 0
        self.dropped = 0

    def put_all(self, records: Sequence[MarketRecord]) -> None:
        """Take records, and write them now or with the next flush. Never blocks, never raises."""
        pending = self._pending
        pending += records
        if len(pending) > MAX_PENDING_RECORDS:
            self._overflow += len(pending) - MAX_PENDING_RECORDS
            del pending[MAX_PENDING_RECORDS:]
        if self._handle is None and self._flushed_s + _FLUSH_EVERY_S <= monotonic_s():
            self.flush()
        else:
            self._flush_soon()

    def order_update(self, order_id: str, fields: Mapping[str, str], market: tuple[str, str] | None = None) -> None:
        """Write these fields of `order:{order_id}` with the next flush, or when the server is back. `market`: its
        exchange and unified symbol, if known."""
        if not self._view.take_order(order_id, fields, monotonic_s(), market):
            self._drop(1, "orders_full")
        self._flush_soon()

    def indicator_update(self, exchange: str, symbol: str, name: str, value: str, time_us: int) -> None:
        """Write the hash `indicator:{exchange}:{symbol}:{name}` with the next flush, or when the server is back."""
        try:
            self._view.take_indicator(exchange, symbol, name, value, time_us, monotonic_s())
        except MarketUnknown:
            self._drop(1, UNKNOWN_MARKET)
        self._flush_soon()

    def attach(self, links: Links) -> None:
        """Start to publish over these connections, beginning with the last known values."""
        self._links = links
        self.refill()

    def detach(self) -> None:
        """Stop publishing. Commands that the server has not answered may or may not have reached it."""
        if self._cache_timer is not None:
            self._cache_timer.cancel()
            self._cache_timer = None
        links, self._links = self._links, _NO_LINKS
        for link in links.links:
            self._drop(sum(len(sent.published) for sent in link.close()), "unconfirmed")

    def refill(self) -> None:
        """Write all caches again."""
        self._view.refill(monotonic_s())
        self._caches_due_s = 0.0
        self._flush_soon()

    def send(self, commands: Sequence[Command]) -> None:
        """Send commands that belong to no record, if there is a server and room."""
        boxes = [Outbox() for _ in self._links.links]
        if boxes:
            for command in commands:
                boxes[self._links.of(command.key)].add(command.packed, command.count)
            self._write(self._links, boxes)

    @property
    def owed_commands(self) -> int:
        """The number of commands that no server has answered yet."""
        return sum(link.owed_commands for link in self._links.links)

    async def drained(self) -> None:
        """Wait until everything taken so far is sent and answered."""
        self._caches_due_s = 0.0
        self._flush_soon()
        while self._pending or self.owed_commands or not self._view.is_clean:
            self._answered.clear()
            await self._answered.wait()

    def flush(self) -> None:
        """Send at most `_CHUNK_RECORDS` pending records; the rest waits for the next loop turn."""
        self._handle = None
        now_s = self._flushed_s = monotonic_s()
        records = self._pending
        self._pending = records[_CHUNK_RECORDS:]
        del records[_CHUNK_RECORDS:]
        self._drop(self._overflow, "burst")
        self._overflow = 0
        links = self._links
        boxes = [Outbox() for _ in links.links]
        self._take(records, links, boxes, now_s)
        if boxes:
            if now_s >= self._caches_due_s:
                self._caches_due_s = now_s + self._cache_every_s
                self._add_caches(links, boxes, now_s)
            self._write(links, boxes)
        self._schedule_the_rest()

    def _take(self, records: list[MarketRecord], links: Links, boxes: list[Outbox], now_s: float) -> None:
        """Remember the records, and add their messages to the boxes while there is room."""
        # Runs for every record, so function calls are avoided.
        take, index_of, channels = self._view.take, links.index_of, CHANNEL_OF
        rooms = [link.room for link in links.links] or [0]
        refused: Counter[str] = Counter()
        for record in records:
            try:
                command = take(record, now_s)
            except (ValueError, MarketUnknown) as error:
                refused["invalid" if isinstance(error, ValueError) else UNKNOWN_MARKET] += 1
                continue
            if command is None:
                continue
            index = 0 if index_of is None else index_of(command.key)
            if rooms[index] <= 0:
                refused["down" if not boxes or links.links[index].is_cut else "window_full"] += 1
                continue
            rooms[index] -= 1
            box = boxes[index]
            box.parts.append(command.packed)
            box.published.append(channels[type(record)])
        for box in boxes:
            box.commands += len(box.published)
        for reason, count in refused.items():
            self._drop(count, reason)

    def _add_caches(self, links: Links, boxes: list[Outbox], now_s: float) -> None:
        room = min(link.room - box.commands for link, box in zip(links.links, boxes, strict=True))
        for command in self._view.cache_commands(now_s, min(room, _CACHE_COMMANDS_A_FLUSH)):
            boxes[links.of(command.key)].add(command.packed, command.count)

    def _write(self, links: Links, boxes: list[Outbox]) -> None:
        for link, box in zip(links.links, boxes, strict=True):
            if not box.commands:
                continue
            if link.room:
                passing("redis.write")
                link.send(box)
            else:
                self._drop(len(box.published), "window_full")

    def _flush_soon(self) -> None:
        """Schedule a flush, unless one is scheduled."""
        if self._handle is None:
            wait_s = self._flushed_s + _FLUSH_EVERY_S - monotonic_s()
            loop = asyncio.get_running_loop()
            self._handle = loop.call_soon(self.flush) if wait_s <= 0 else loop.call_later(wait_s, self.flush)

    def _schedule_the_rest(self) -> None:
        loop = asyncio.get_running_loop()
        if self._pending:
            self._handle = loop.call_soon(self.flush)
        if self._cache_timer is None and self._links.links and not self._view.is_clean:
            wait_s = max(_FLUSH_EVERY_S, self._caches_due_s - monotonic_s())
            self._cache_timer = loop.call_later(wait_s, self._flush_caches)

    def _flush_caches(self) -> None:
        # Caches have a timer of their own: a new record must not wait for `cache_flush_ms`.
        self._cache_timer = None
        if self._handle is None:
            self.flush()

    def on_answer(self, answered: Answered) -> None:
        """Count the outcome of one write; called by the link."""
        self._answered.set()
        count_by(self._metrics.live_published, {(kind,): count for kind, count in answered.published.items()})
        self.published += sum(answered.published.values())
        self._drop(answered.refused, "refused")
        if answered.errors:
            count_by(self._metrics.sink_errors, Counter((NAME, error_class(text)) for text in answered.errors))
            self.last_error = (monotonic_s(), answered.errors[0])

    def _drop(self, count: int, reason: str) -> None:
        if count:
            self.dropped += count
            self._metrics.live_dropped.labels(NAME, reason).inc(count)
