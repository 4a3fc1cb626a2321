"""The composition root: builds everything from the configuration, owns every task, states the start and stop order.

Start: journal (takes the state directory) → database look → endpoint → sinks → live sink → sources → intake → lease →
feeds, backfill → ready. Without the lease it goes no further: a standby stores what its journal holds, and waits.
Stop:  not ready → backfill ended → feeds closed → lease given back → intake sealed → sinks and sources drained, under
one deadline → live sink closed → upkeep → endpoint → journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from ingestd.backfill.task import Backfill
from ingestd.clock import monotonic_s, now_us, wait_at_most
from ingestd.config.models import Config, FeedConfig
from ingestd.config.runnable import require_runnable
from ingestd.errors import ConfigError
from ingestd.feeds.base import Feed
from ingestd.feeds.ccxt.feed import CcxtFeed
from ingestd.feeds.markets import symbols as symbol_names
from ingestd.feeds.markets.listing import has_expired
from ingestd.feeds.native.feed import NativeFeed
from ingestd.intake.intake import Intake
from ingestd.intake.stream_state import Document, StreamState, document, following
from ingestd.journal.journal import Cursor, Journal
from ingestd.kafka.producer import Producer
from ingestd.lifecycle import Shard, Tasks
from ingestd.ops.account import account, without_zeros
from ingestd.ops.endpoint import Endpoint
from ingestd.ops.health import FeedHealth, JournalHealth, SinkHealth, Snapshot, liveness
from ingestd.ops.heartbeat import Heartbeat
from ingestd.ops.metrics import Metrics
from ingestd.ops.notify import Notifier
from ingestd.ops.summary import Summary
from ingestd.records import StreamId
from ingestd.sinks.base import Sink
from ingestd.sinks.kafka.sink import KafkaSink
from ingestd.sinks.redis.sink import RedisLive
from ingestd.sinks.timescale.sink import TimescaleSink
from ingestd.sources.build import build_reader, show_source, source_health
from ingestd.sources.reader import TopicReader
from ingestd.sources.trading_events import EventStore
from ingestd.standby.leadership import Leadership
from ingestd.standby.takeover import TakeoverGaps
from ingestd.status import FeedStatus, MarketInfo
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.retention import accepted_window
from ingestd.storage.upkeep import Upkeep
from ingestd.venues.all import native_venue

log = structlog.get_logger()

# Of the shutdown deadline, what closing the sockets may take at most.
_CLOSE_FEEDS_SHARE = 0.3
_RELEASE_S = 1.0
_MISCONFIGURED_S = 60.0
_LAST_UPKEEP_S = 0.5  # what the last candles get even when the deadline is spent
_LAST_S = 3.5  # of the deadline, for what comes after the sinks: connections that nobody answers on, candles, the exit
_EXIT_S = 1.0  # of that


class Service:
    """One daemon."""

    def __init__(
        self, config: Config, shard: Shard | None = None, make_feed: Callable[[FeedConfig], Feed] | None = None
    ) -> None:
        require_runnable(config)
        shard = self._shard = shard or Shard()
        self.config = config
        self._instance = config.instance.name + shard.suffix
        self.metrics = Metrics(feed.exchange for feed in config.feeds)
        self.tasks = Tasks()
        self.journal = Journal(config.instance.state_dir, config.journal, self.metrics)
        self.live = self._live_sink()
        live = [self.live] if self.live is not None else []
        self.streams = StreamState(config.instance.state_dir)
        window = accepted_window(config)
        self.intake = Intake(self.journal, config.intake, window, self.metrics, live, self.streams.save_gaps)
        self._makers: dict[str, Callable[[], Feed]] = {
            f"{index}-{feed.label}": partial(make_feed, feed)
            if make_feed is not None
            else partial(self._make_feed, feed, partial(shard.holds, feed.exchange))
            for index, feed in enumerate(config.feeds)
        }
        self.feeds = {name: make() for name, make in self._makers.items()}
        self.endpoint = Endpoint(config.http, self.metrics, self.snapshot)
        has_database = config.database is not None and config.instance.role == "all"
        self._access = DatabaseAccess(config) if has_database else None
        self._leadership = (
            Leadership(self._access, self._instance, config.instance, self.metrics)
            if self._access is not None
            else None
        )
        self._upkeep = Upkeep(self._access, config, self._markets, self.metrics) if self._access is not None else None
        self._backfill = (
            Backfill(config, self._access, self.intake, accepted_window(config), self.metrics, shard.holds)
            if self._access is not None and config.backfill.enabled
            else None
        )
        self._sinks: list[Sink] = []
        self._readers: list[TopicReader] = []
        self._cursors: dict[str, Cursor] = {}
        self._misconfigured: dict[str, ConfigError] = {}
        self._notifier = Notifier()
        self.stop_requested = False  # by somebody: a task's death stops the daemon too
        self._started = False
        self._captures = False
        self._stopping = False
        self._heartbeat = Heartbeat(
            self.metrics, self._notifier, self._show_gauges, lambda: liveness(self.snapshot()).ok
        )

    def _make_feed(self, config: FeedConfig, keep: Callable[[str], bool]) -> Feed:
        """Native where there is a decoder for it, else through ccxt."""
        earlier = self.streams.earlier
        venue = native_venue(config)
        if venue is None:
            return CcxtFeed(config, keep=keep, earlier=earlier)
        return NativeFeed(config, venue, state_dir=self.config.instance.state_dir, keep=keep, earlier=earlier)

    def request_stop(self, reason: str) -> None:
        """Begin the orderly stop; once it has begun, nothing."""
        if not self.stop_requested:
            log.info("stop_requested", reason=reason)
        self.stop_requested = True
        self.tasks.ask_stop(reason)

    def refuse_reload(self, error: ConfigError) -> None:
        """The new file cannot be used: say why, and go on with what runs."""
        self.metrics.config_reloads.labels("refused").inc()
        log.error("reload_refused", problems=[str(problem) for problem in error.problems])

    def reload(self, config: Config) -> None:
        """Subscribe and unsubscribe the difference in symbols; what else changed waits for a restart and is named."""
        if self._started:  # systemd would take the `ready` below for the end of the start
            self._notifier.reloading()
        new = [(_without_symbols(feed), feed) for feed in config.feeds]
        for feed, running in zip(self.feeds.values(), self.config.feeds, strict=True):
            # Of several that differ in their symbols only, the one that keeps the most of them.
            alike = [item for item in new if item[0] == _without_symbols(running)]
            same = max(alike, key=lambda item: len({*item[1].symbols} & {*running.symbols}), default=None)
            if same is None:
                log.warning("reload_needs_restart", feed=running.label, because="the feed was changed or removed")
                continue
            new.remove(same)
            feed.set_symbols(same[1].symbols)
            if self._backfill is not None:
                self._backfill.set_symbols(running, same[1].symbols)
        for _, added in new:
            log.warning("reload_needs_restart", feed=added.label, because="the feed is new")
        others = (name for name in Config.model_fields if name != "feeds")
        if waiting := [name for name in others if getattr(config, name) != getattr(self.config, name)]:
            log.warning("reload_needs_restart", sections=waiting)
        self.metrics.config_reloads.labels("applied").inc()
        if self._started:
            self._notifier.ready()
        log.info("reloaded", feeds=list(self.feeds))

    async def run(self) -> None:
        """Capture until a stop is requested or a task dies; the error of a dead task is raised after the stop."""
        self.journal.open()
        try:
            self.streams.load()
            self.streams.share(self._count_followers)
            look = self._access.look(self.config.instance.state_dir) if self._access is not None else None
            if look is not None and not await self.tasks.before_stop(look):
                log.info("stopped_before_the_start")
                return
            await self.endpoint.start()
            try:
                self._start()
                await self.tasks.stop_asked.wait()
                await self._stop()
            finally:
                await self.endpoint.close()
        finally:
            self.journal.close()
        log.info(
            "stopped",
            reason=self.tasks.stop_reason,
            counts=without_zeros(self.counts()),
            journal_bytes=self.journal.size_bytes,
        )
        if self.tasks.fatal is not None:
            raise self.tasks.fatal

    def _start(self) -> None:
        self._build_sinks()
        self.tasks.spawn("heartbeat", self._heartbeat.run())
        self.tasks.spawn("summary", Summary(self.metrics).run())
        for sink in self._sinks:
            self.tasks.spawn(f"sink-{sink.name}", sink.run())
        if self.live is not None:
            self.tasks.spawn("live-redis", self.live.run())
        for reader in self._readers:
            self.tasks.spawn(f"source-{reader.name}", reader.run())
        if self._upkeep is not None:
            self.tasks.spawn("upkeep", self._upkeep.run())
        self.intake.resume(self.streams.open_gaps, self.streams.pending_gaps)
        self.tasks.spawn("intake", self.intake.run())
        self.tasks.spawn("streams", self.streams.run(self._compose_streams, lambda: self.intake.gaps.version))
        if self._leadership is None:
            self._start_feeds()
        else:
            self.tasks.spawn("lease", self._lead(self._leadership))
        self._started = True
        self._notifier.ready(f"{len(self.feeds)} feeds, journal {self.journal.size_bytes} bytes")
        log.info(
            "started",
            instance=self._instance,
            feeds=list(self.feeds),
            listen=f"{self.config.http.host}:{self.endpoint.port}",
            journal=str(self.journal.directory),
            records_left_by_earlier_runs=sum(self.journal.recovered.values()),
        )

    def _start_feeds(self) -> None:
        if self._backfill is not None:
            self.tasks.spawn("backfill", self._backfill.run())
        for name, feed in self.feeds.items():
            self.tasks.spawn(f"feed-{name}", self._run_feed(name, feed))
            self.metrics.watch_feed(partial(self._feed_status, name))
        self._captures = True

    async def _lead(self, leadership: Leadership) -> None:
        """Capture from when the lease is gained until it is lost, which ends the daemon: started again it stands by."""
        before = await leadership.gain()
        if self._stopping:
            return
        if before is not None:
            self.streams.forget_restart()
        self._start_feeds()
        if before is not None and self._access is not None:
            gaps = TakeoverGaps(self._access, list(self.feeds.values()), self.intake, before)
            self.tasks.release("takeover-gaps")
            self.tasks.spawn("takeover-gaps", gaps.run())
        await leadership.hold()

    def _build_sinks(self) -> None:
        self._build_timescale_sink()
        self._build_kafka_sink()
        self._build_readers()

    def _build_timescale_sink(self) -> None:
        if self.config.database is None or self._access is None:
            return
        cursor = self._cursors["timescale"] = self.journal.cursor("timescale")
        self._sinks.append(
            TimescaleSink(
                cursor=cursor,
                journal_ids=lambda: self.journal.journal_ids,
                connect=self._access.connect_bounded,
                config=self.config.database,
                metrics=self.metrics,
                title=self._leadership.title() if self._leadership is not None else None,
            )
        )

    def _live_sink(self) -> RedisLive | None:
        if self.config.redis is None:
            return None
        return RedisLive(
            self.config.redis,
            self.metrics,
            instance=self._instance,
            own_metrics=self._shown_live,
        )

    def _build_kafka_sink(self) -> None:
        config = self.config.kafka
        if config is None:
            return
        cursor = self._cursors["kafka"] = self.journal.cursor("kafka")
        self._sinks.append(
            KafkaSink(
                cursor=cursor,
                journal_ids=lambda: self.journal.journal_ids,
                connect=lambda topics: Producer.connect(config, self._instance, topics),
                config=config,
                state_dir=self.config.instance.state_dir,
                metrics=self.metrics,
                keep_rejected=self._access is None,
            )
        )

    def _build_readers(self) -> None:
        """What trading programs publish is stored here as well; market topics are not read: they come from here."""
        kafka, database = self.config.kafka, self.config.database
        if kafka is None or database is None or self._access is None:
            return
        cache = (self.live.order_update, self.live.forget_orders) if self.live is not None else ()
        store = EventStore(kafka.topic_prefix, self.metrics, *cache)
        connect = self._access.connect_bounded
        self._readers.append(build_reader(store, self._instance, kafka, database, connect, self.metrics, tells=False))

    async def _stop(self) -> None:
        deadline_s = monotonic_s() + self.config.instance.shutdown_deadline_s
        self._stopping = True
        self._notifier.stopping("closing the feeds")
        await self._close_feeds()
        await self._give_lease_back()
        await self._seal_intake(deadline_s)
        await self.streams.finish()
        await self._drain_sinks(deadline_s)
        await self._close_live()
        if self._upkeep is not None:
            await self._upkeep.close(within_s=max(_LAST_UPKEEP_S, deadline_s - _EXIT_S - monotonic_s()))
        await self.tasks.cancel(["upkeep", "heartbeat", "summary", "streams"])
        self._show_gauges()

    async def _close_feeds(self) -> None:
        names = self.tasks.names("feed-")
        self.tasks.release(*names)
        await self.tasks.cancel(["backfill"])
        limit_s = self.config.instance.shutdown_deadline_s * _CLOSE_FEEDS_SHARE
        closing = [asyncio.create_task(feed.close(), name=f"close-{name}") for name, feed in self.feeds.items()]
        if closing:
            done, late_closes = await asyncio.wait(closing, timeout=limit_s)
            for task in (*done, *late_closes):
                if task in late_closes:
                    task.cancel()
                elif (error := task.exception()) is not None:
                    log.warning("feed_close_failed", task=task.get_name(), exc_info=error)
        late = await self.tasks.finished(names, 1.0)
        if late:
            log.warning("feeds_late", tasks=late, limit_s=limit_s)
            await self.tasks.cancel(late)

    async def _give_lease_back(self) -> None:
        """As soon as nothing more is captured: what is still to be stored needs no lease."""
        if self._leadership is not None:
            await self.tasks.cancel(["lease", "takeover-gaps"])
            await self._leadership.release(_RELEASE_S)

    async def _seal_intake(self, deadline_s: float) -> None:
        self.tasks.release("intake")
        self.intake.close()
        # A journal that refuses will go on refusing: half of the time left is enough to find that out.
        if late := await self.tasks.finished(["intake"], (deadline_s - monotonic_s()) / 2):
            await self.tasks.cancel(late)
        if lost := self.intake.abandon():
            log.error("records_not_journaled", records=lost, reason=self.journal.error or "the intake had died")

    async def _close_live(self) -> None:
        names = self.tasks.names("live-")
        self.tasks.release(*names)
        if self.live is not None:
            self.live.finish()
        # It keeps nothing: what it could not send in a second is of no more use.
        if late := await self.tasks.finished(names, 1.0):
            await self.tasks.cancel(late)

    async def _drain_sinks(self, deadline_s: float) -> None:
        names = [*self.tasks.names("sink-"), *self.tasks.names("source-")]
        self.tasks.release(*names)
        for worker in (*self._sinks, *self._readers):
            worker.finish()
        # What does not end by itself takes a while to cut off, and others end after it.
        reserve_s = min(_LAST_S, self.config.instance.shutdown_deadline_s / 2)
        late = await self.tasks.finished(names, deadline_s - reserve_s - monotonic_s())
        if late:
            left = {name: cursor.pending_records for name, cursor in self._cursors.items()}
            log.warning("sinks_late", tasks=late, records_left_in_journal=left)
            await self.tasks.cancel(late)

    async def _run_feed(self, name: str, feed: Feed) -> None:
        """A feed whose symbols do not exist stops no other; where there is no other, it is a mistake to end with.

        It is tried again: the venue's list of markets may have been a poor one, or be longer by then.
        """
        while not self.tasks.stop_asked.is_set():
            try:
                await feed.run(self.intake)
            except ConfigError as error:
                path = f"feeds[{list(self.feeds).index(name)}]."
                error = ConfigError([replace(problem, path=path + problem.path) for problem in error.problems])
                self._misconfigured[name] = error
                if len(self._misconfigured) == len(self.feeds):
                    raise ConfigError([p for wrong in self._misconfigured.values() for p in wrong.problems]) from error
                log.error(
                    "feed_misconfigured",
                    feed=name,
                    problems=[str(problem) for problem in error.problems],
                    retry_in_s=_MISCONFIGURED_S,
                )
            else:
                return
            if await wait_at_most(_MISCONFIGURED_S, self.tasks.stop_asked):
                return
            names = feed.status().wanted
            feed = self.feeds[name] = self._makers[name]()
            if names:
                feed.set_symbols(names)
            del self._misconfigured[name]

    def _feed_status(self, name: str) -> FeedStatus:
        return self.feeds[name].status()

    def _compose_streams(self, stopped: bool) -> Document:
        """What the next process is to know; about once a second, so what is done once a second is done here too."""
        pairs = zip(self.feeds.values(), self.config.feeds, strict=True)
        feeds = [(config.exchange, feed.status()) for feed, config in pairs]
        for gap in self.streams.let_go(following(feeds), partial(self._is_wanted, feeds)):
            self.intake.put(gap)
        self.intake.rejections.keep(partial(self._is_wanted, feeds))
        now = now_us()
        self.intake.settle_drops(now)
        return document(feeds, self.intake, self.streams.earlier, written_at=now, stopped=stopped)

    def _count_followers(self, stream: StreamId) -> int:
        exchange, channel, symbol = stream
        return sum(
            config.exchange == exchange and channel in config.channels and symbol_names.names(config.symbols, symbol)
            for config in self.config.feeds
        )

    def _is_wanted(self, feeds: Sequence[tuple[str, FeedStatus]], stream: StreamId) -> bool:
        """Whether this process is to follow it, as the configuration stands: a market whose contract has expired is
        over."""
        exchange, channel, symbol = stream
        if not self._shard.holds(exchange, symbol) or has_expired(symbol, None, now_us()):
            return False
        return any(
            config.exchange == exchange and channel in config.channels and symbol_names.names(status.wanted, symbol)
            for config, (_, status) in zip(self.config.feeds, feeds, strict=True)
        )

    def _show_gauges(self) -> None:
        for name, cursor in self._cursors.items():
            self.metrics.sink_lag_records.labels(name).set(cursor.pending_records)
            oldest = cursor.oldest_pending_at()
            self.metrics.sink_lag_s.labels(name).set(0 if oldest is None else max(0, now_us() - oldest) / 1e6)
            for channel, count in cursor.recovered.items():
                self.metrics.recovered.labels(name, channel).set(count)
        # A record is in the journal until the slowest sink has it.
        for channel in {channel for cursor in self._cursors.values() for channel in cursor.pending}:
            most = max(cursor.pending.get(channel, 0) for cursor in self._cursors.values())
            self.metrics.in_journal.labels(channel).set(most)
        for reader in self._readers:
            show_source(self.metrics, reader)

    def snapshot(self) -> Snapshot:
        """What health is judged from."""
        return Snapshot(
            now_us=now_us(),
            started=self._started,
            stopping=self._stopping,
            loop_age_s=self._heartbeat.age_s,
            dead_tasks=tuple(self.tasks.dead),
            feeds=[
                FeedHealth(
                    feed.status(), config.stale_after_s, config.poll_interval_s, config.order_book_interval_ms / 1000
                )
                for feed, config in zip(self.feeds.values(), self.config.feeds, strict=True)
                if self._captures
            ],
            standby=self._leadership.waits_for if self._leadership is not None and not self._captures else None,
            lease_problem=self._leadership.problem if self._leadership is not None else None,
            journal=JournalHealth(full=self.intake.is_blocked, problem=self.journal.error),
            sinks=[
                SinkHealth(status.name, status.problem, status.up, status.stands_still)
                for status in (sink.status() for sink in self._every_sink())
            ],
            sources=[source_health(reader, needed=False) for reader in self._readers],
            open_gaps=self.intake.gaps.open.values(),
            rejected=self.intake.rejections.all(),
            missing=self.metrics.recently_missing(),
            refused=self.metrics.recently_refused(),
            upkeep_problems=self._upkeep_problems(),
        )

    def _upkeep_problems(self) -> list[str]:
        problems = self._upkeep.problems() if self._upkeep is not None else []
        backfill = self._backfill.problem if self._backfill is not None else None
        return problems if backfill is None else [*problems, backfill]

    def counts(self) -> dict[str, Any]:
        """The conservation law's terms, by channel; see `ops.account`."""
        return account(self.metrics, self._cursors, {reader.name: reader.held() for reader in self._readers})

    def _every_sink(self) -> list[Sink | RedisLive]:
        return [*self._sinks, *([self.live] if self.live is not None else [])]

    def _shown_live(self) -> dict[str, float]:
        """What readers of the live caches learn of the daemon; a standby, named like its leader, is silent."""
        if not self._captures:
            return {}
        totals, metrics = self.metrics.totals, self.metrics
        return {
            "records_received": sum(totals(metrics.received).values()),
            "records_stored": sum(totals(metrics.stored).values()),
            "records_dropped": sum(totals(metrics.dropped).values()),
            "journal_bytes": self.journal.size_bytes,
            "feeds_connected": sum(feed.status().connected for feed in self.feeds.values()),
        }

    def _markets(self) -> list[MarketInfo]:
        return [market for feed in self.feeds.values() for market in feed.markets()]


def _without_symbols(feed: FeedConfig) -> str:
    """What makes two feed sections the same connection."""
    return feed.model_dump_json(exclude={"symbols", "symbols_file"})
