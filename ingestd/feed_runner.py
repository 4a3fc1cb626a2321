"""The daemon's feeds: makes them, runs each as a task, applies reloaded symbols, and closes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from ingestd.clock import now_us, wait_at_most
from ingestd.config.models import FeedConfig
from ingestd.errors import ConfigError
from ingestd.feeds.base import Feed, Intake
from ingestd.feeds.ccxt.feed import CcxtFeed
from ingestd.feeds.markets import symbols as symbol_names
from ingestd.feeds.markets.listing import has_expired
from ingestd.feeds.native.feed import NativeFeed
from ingestd.lifecycle import Shard, Tasks
from ingestd.ops.health import FeedHealth
from ingestd.ops.metrics import Metrics
from ingestd.records import StreamId
from ingestd.status import Earlier, FeedStatus, MarketInfo
from ingestd.venues.all import native_venue

log = structlog.get_logger()

RETRY_MISCONFIGURED_S = 60.0

MakeFeed = Callable[[FeedConfig], Feed]


def feed_maker(shard: Shard, state_dir: Path, earlier: dict[StreamId, Earlier]) -> MakeFeed:
    """Return a factory that makes a native feed if the exchange has a decoder, else a ccxt feed."""

    def make(config: FeedConfig) -> Feed:
        keep = partial(shard.holds, config.exchange)
        venue = native_venue(config)
        if venue is None:
            return CcxtFeed(config, keep=keep, earlier=earlier)
        return NativeFeed(config, venue, state_dir=state_dir, keep=keep, earlier=earlier)

    return make


class FeedRunner:
    """Runs one feed for each `[[feeds]]` entry of the configuration, under a unique name."""

    def __init__(
        self, configs: Sequence[FeedConfig], make_feed: MakeFeed, shard: Shard, tasks: Tasks, metrics: Metrics
    ) -> None:
        self._configs = {f"{index}-{config.label}": config for index, config in enumerate(configs)}
        self._make_feed = make_feed
        self._shard = shard
        self._tasks = tasks
        self._metrics = metrics
        self._misconfigured: dict[str, ConfigError] = {}
        self._feeds = {name: make_feed(config) for name, config in self._configs.items()}
        self.names = list(self._feeds)
        self.started = False

    def all(self) -> list[Feed]:
        """The feeds that run now."""
        return list(self._feeds.values())

    def start(self, intake: Intake) -> None:
        """Run every feed."""
        for name, feed in self._feeds.items():
            self._tasks.spawn(f"feed-{name}", self._run(name, feed, intake))
            self._metrics.watch_feed(partial(self._status, name))
        self.started = True

    async def close(self, limit_s: float) -> None:
        """Close every feed's sockets and end its task, by cancellation if it does not end in time."""
        names = self._tasks.names("feed-")
        closing = [asyncio.create_task(feed.close(), name=f"close-{name}") for name, feed in self._feeds.items()]
        if closing:
            done, late_closes = await asyncio.wait(closing, timeout=limit_s)
            for task in (*done, *late_closes):
                if task in late_closes:
                    task.cancel()
                elif (error := task.exception()) is not None:
                    log.warning("feed_close_failed", task=task.get_name(), exc_info=error)
        if late := await self._tasks.finished(names, 1.0):
            log.warning("feeds_late", tasks=late, limit_s=limit_s)

    def reload(self, configs: Sequence[FeedConfig]) -> list[tuple[FeedConfig, Sequence[str]]]:
        """Give each running feed its new symbols; log the changes that need a restart.

        Returns the configuration and the new symbols of each feed that continues.
        """
        new = list(configs)
        reloaded: list[tuple[FeedConfig, Sequence[str]]] = []
        for name, running in self._configs.items():
            # Of several feeds that differ only in their symbols, take the one with the most symbols in common.
            alike = [config for config in new if _without_symbols(config) == _without_symbols(running)]
            same = max(alike, key=lambda config: len({*config.symbols} & {*running.symbols}), default=None)
            if same is None:
                log.warning("reload_needs_restart", feed=running.label, because="the feed was changed or removed")
                continue
            new.remove(same)
            self._feeds[name].set_symbols(same.symbols)
            reloaded.append((running, same.symbols))
        for added in new:
            log.warning("reload_needs_restart", feed=added.label, because="the feed is new")
        return reloaded

    def statuses(self) -> list[tuple[str, FeedStatus]]:
        """The exchange and the status of each feed."""
        return [(config.exchange, self._status(name)) for name, config in self._configs.items()]

    def health(self) -> list[FeedHealth]:
        """The facts from which health is judged, for each feed; empty before the start."""
        if not self.started:
            return []
        return [
            FeedHealth(status, config.stale_after_s, config.poll_interval_s, config.order_book_interval_ms / 1000)
            for config, (_, status) in zip(self._configs.values(), self.statuses(), strict=True)
        ]

    def markets(self) -> list[MarketInfo]:
        """The markets of every feed."""
        return [market for feed in self._feeds.values() for market in feed.markets()]

    def count_followers(self, stream: StreamId) -> int:
        """Count the feeds whose configuration includes this stream."""
        return sum(_includes(config, config.symbols, stream) for config in self._configs.values())

    def is_wanted(self, feeds: Sequence[tuple[str, FeedStatus]], stream: StreamId) -> bool:
        """Whether any feed should follow this stream, by the feeds' status. Expired contracts are not followed."""
        exchange, _, symbol = stream
        if not self._shard.holds(exchange, symbol) or has_expired(symbol, None, now_us()):
            return False
        wanted = zip(self._configs.values(), feeds, strict=True)
        return any(_includes(config, status.wanted, stream) for config, (_, status) in wanted)

    def _status(self, name: str) -> FeedStatus:
        return self._feeds[name].status()

    async def _run(self, name: str, feed: Feed, intake: Intake) -> None:
        """Run a feed. If its symbols do not exist, rebuild it after a delay, because the exchange's market list may
        have been incomplete. The other feeds continue; if every feed fails so, the daemon ends with ConfigError."""
        while not self._tasks.stop_asked.is_set():
            try:
                await feed.run(intake)
            except ConfigError as error:
                self._note_misconfigured(name, error)
            else:
                return
            if await wait_at_most(RETRY_MISCONFIGURED_S, self._tasks.stop_asked):
                return
            names = feed.status().wanted
            feed = self._feeds[name] = self._make_feed(self._configs[name])
            if names:
                feed.set_symbols(names)
            del self._misconfigured[name]

    def _note_misconfigured(self, name: str, error: ConfigError) -> None:
        """Note a feed's configuration mistakes. Raises ConfigError with those of all feeds if no feed runs."""
        path = f"feeds[{self.names.index(name)}]."
        error = ConfigError([replace(problem, path=path + problem.path) for problem in error.problems])
        self._misconfigured[name] = error
        if len(self._misconfigured) == len(self._feeds):
            raise ConfigError([p for wrong in self._misconfigured.values() for p in wrong.problems]) from error
        log.error(
            "feed_misconfigured",
            feed=name,
            problems=[str(problem) for problem in error.problems],
            retry_in_s=RETRY_MISCONFIGURED_S,
        )


def _includes(config: FeedConfig, symbols: Sequence[str], stream: StreamId) -> bool:
    """Whether a feed follows this stream, if these are the names and patterns of its symbols."""
    exchange, channel, symbol = stream
    return config.exchange == exchange and channel in config.channels and symbol_names.names(symbols, symbol)


def _without_symbols(config: FeedConfig) -> str:
    """A text that is equal for feeds that differ only in their symbols."""
    return config.model_dump_json(exclude={"symbols", "symbols_file"})
