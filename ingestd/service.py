"""The daemon: builds every part from the configuration, owns every task, and defines the start and stop order.

Start: journal (locks the state directory) → database check → endpoint → sinks → live sinks → sources → upkeep → intake
→ lease → feeds, backfill → ready. A standby waits for the lease, and meanwhile stores what its journal holds.
Stop:  not ready → backfill ended → feeds closed → lease given back → intake sealed → sinks and sources drained, under
one deadline → live sinks closed → upkeep → endpoint → journal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import structlog

from ingestd.backfill.task import Backfill
from ingestd.clock import now_us
from ingestd.config.models import Config, FeedConfig
from ingestd.config.runnable import require_runnable
from ingestd.feed_runner import FeedRunner, feed_maker
from ingestd.feeds.base import Feed
from ingestd.indicators.task import Indicators
from ingestd.intake.intake import Intake
from ingestd.intake.stream_state import Document, StreamState, document, have_chosen
from ingestd.journal.journal import Cursor, Journal
from ingestd.lifecycle import Deadline, Lifecycle, Shard
from ingestd.ops.account import account
from ingestd.ops.health import JournalHealth, Snapshot
from ingestd.sinks.base import (
    DurableParts,
    DurableSink,
    LiveParts,
    ReportParts,
    Sink,
    build_durable,
    build_live,
    build_reports,
    durable_kinds,
    sends_indicators,
    show_indicators,
)
from ingestd.sources.reader import TopicReader, build_reader
from ingestd.sources.trading_events import EventTopics
from ingestd.standby.leadership import Leadership
from ingestd.standby.takeover import TakeoverGaps
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.retention import accepted_window
from ingestd.storage.upkeep import Upkeep
from ingestd.validation import TimeWindow
from ingestd.venues.market_names import KnownMarkets

log = structlog.get_logger()

_CLOSE_FEEDS_SHARE = 0.3  # share of the shutdown deadline for closing the sockets
_RELEASE_S = 1.0
_POST_DRAIN_RESERVE_S = 3.5  # part of it kept for connections that do not answer, the last candles and the exit


class Service:
    """The daemon in the roles `all` and `feed`.

    It has more than 15 attributes since it owns every part, and each part is named once.
    """

    def __init__(
        self, config: Config, shard: Shard | None = None, make_feed: Callable[[FeedConfig], Feed] | None = None
    ) -> None:
        require_runnable(config)
        shard = shard or Shard()
        self.config = config
        self._instance = config.instance.name + shard.suffix
        self.life = Lifecycle(config, self.snapshot, self._show_gauges)
        self.metrics, self.tasks = self.life.metrics, self.life.tasks
        self.request_stop = self.life.request_stop
        self.journal = Journal(config.instance.state_dir, config.journal, self.metrics)
        self.markets = KnownMarkets(lambda: self.feeds.markets(), awaited={feed.exchange for feed in config.feeds})
        self._live = build_live(LiveParts(config, self._instance, self.metrics, self.markets, self._live_figures))
        self.streams = StreamState(config.instance.state_dir)
        window = accepted_window(config)
        live = [sink.put_all for sink in self._live]
        self.intake = Intake(self.journal, config.intake, window, self.metrics, live, self.streams.save_gaps)
        make_feed = make_feed or feed_maker(shard, config.instance.state_dir, self.streams.earlier)
        self.feeds = FeedRunner(config.feeds, make_feed, shard, self.tasks, self.metrics)
        self._access: DatabaseAccess | None = None
        self._leadership: Leadership | None = None
        self._upkeep: Upkeep | None = None
        self._backfill: Backfill | None = None
        self._indicators: Indicators | None = None
        if config.database is not None and config.instance.role == "all":
            self._use_database(config, shard, window)
        figures = self._live_figures
        self._reports = build_reports(
            ReportParts(config, self._instance, self.metrics, self.markets, self._access, shard.holds, figures)
        )
        self._sinks: list[DurableSink] = []
        self._readers: list[TopicReader] = []
        self._cursors: dict[str, Cursor] = {}

    def _use_database(self, config: Config, shard: Shard, window: Callable[[int], TimeWindow]) -> None:
        access = self._access = DatabaseAccess(config, self.markets)
        self._leadership = Leadership(access, self._instance, config.instance, self.metrics)
        self._upkeep = Upkeep(access, config, self.feeds.markets, self.metrics, self.life.events)
        if config.indicators.rules:
            show = show_indicators(self._live)
            notes = sends_indicators(config)
            self._indicators = Indicators(config, access, shard.holds, self.metrics, show, notes_changes=notes)
        if config.backfill.enabled:
            self._backfill = Backfill(config, access, self.intake, window, self.metrics, shard.holds)

    def reload(self, config: Config) -> None:
        """Subscribe to added and unsubscribe from removed symbols; log the other changes, which need a restart."""
        with self.life.reloading(config, applied=("feeds",)):
            for feed, symbols in self.feeds.reload(config.feeds):
                if self._backfill is not None:
                    self._backfill.set_symbols(feed, symbols)
        log.info("reloaded", feeds=self.feeds.names)

    async def run(self) -> None:
        """Capture until a stop is requested or a task dies; after the stop, raise the dead task's error."""
        self.journal.open()
        try:
            self.streams.load()
            self.streams.count_followers(self.feeds.count_followers)
            look = self._access.look(self.config.instance.state_dir) if self._access is not None else None
            has_started = await self.life.run(look, self._start, self._stop)
        finally:
            self.journal.close()
        if has_started:
            self.life.stopped(self.counts(), journal_bytes=self.journal.size_bytes)

    def _start(self) -> None:
        self._build_sinks()
        self._build_readers()
        self.tasks.spawn_each("sink", self._sinks)
        self.tasks.spawn_each("live", self._live)
        self.tasks.spawn_each("source", self._readers)
        if self._upkeep is not None:
            self.tasks.spawn("upkeep", self._upkeep.run())
        self.intake.resume(self.streams.open_gaps, self.streams.pending_gaps)
        self.tasks.spawn("intake", self.intake.run())
        self.tasks.spawn("streams", self.streams.run(self.compose_streams, lambda: self.intake.gaps.version))
        if self._leadership is None:
            self._start_feeds()
        else:
            self.tasks.spawn("lease", self._lead(self._leadership))
        self.life.started(
            f"{len(self.feeds.names)} feeds, journal {self.journal.size_bytes} bytes",
            instance=self._instance,
            feeds=self.feeds.names,
            listen=f"{self.config.http.host}:{self.life.endpoint.port}",
            journal=str(self.journal.directory),
            records_left_by_earlier_runs=max(
                (sum(each.recovered.values()) for each in self._cursors.values()), default=0
            ),
        )

    def _start_feeds(self) -> None:
        if self._backfill is not None:
            self.tasks.spawn("backfill", self._backfill.run())
        if self._indicators is not None:
            self.tasks.spawn("indicators", self._indicators.run())
        self.tasks.spawn_each("sink", self._reports)
        self.feeds.start(self.intake)

    async def _lead(self, leadership: Leadership) -> None:
        """Capture from gaining the lease until losing it, which ends the daemon; a restart makes it the standby."""
        before = await leadership.gain()
        if self.life.is_stopping:
            return
        if before is not None:
            self.streams.forget_restart()
        self._start_feeds()
        if before is not None and self._access is not None:
            gaps = TakeoverGaps(self._access, self.feeds.all(), self.intake, before)
            self.tasks.release("takeover-gaps")
            self.tasks.spawn("takeover-gaps", gaps.run())
        await leadership.hold()

    def _build_sinks(self) -> None:
        for name in durable_kinds(self.config):
            cursor = self._cursors[name] = self.journal.cursor(name)
            parts = DurableParts(
                config=self.config,
                instance=self._instance,
                metrics=self.metrics,
                known=self.markets,
                cursor=cursor,
                journal_ids=lambda: self.journal.journal_ids,
                access=self._access,
                title=self._leadership.title if self._leadership is not None else None,
            )
            self._sinks.append(build_durable(name, parts))

    def _build_readers(self) -> None:
        """Build the reader of trading events. Market topics are not read, because this daemon publishes them."""
        kafka, database = self.config.kafka, self.config.database
        if kafka is None or database is None or self._access is None:
            return
        exchange = self.config.events.default_exchange
        store = EventTopics(kafka.topic_prefix, self.metrics, self._live, default_exchange=exchange)
        connect = self._access.connect_bounded
        reader = build_reader(store, self._instance, kafka, database, connect, self.metrics, logs_outages=False)
        self._readers.append(reader)

    async def _stop(self) -> None:
        deadline = self.life.begin_stop("closing the feeds")
        self.tasks.release(*self.tasks.names("feed-"))  # first, so that a feed waiting for its retry may end now
        await self.tasks.cancel(["backfill", "indicators"])
        await self.feeds.close(deadline.limit_s * _CLOSE_FEEDS_SHARE)
        if self._leadership is not None:  # storing the remaining records needs no lease
            await self.tasks.cancel(["lease", "takeover-gaps"])
            await self._leadership.release(_RELEASE_S)
        await self._seal_intake(deadline)
        await self.streams.finish()
        await self._drain_sinks(deadline)
        await self.life.end(self._live, self._upkeep, deadline)

    async def _seal_intake(self, deadline: Deadline) -> None:
        self.tasks.release("intake")
        self.intake.close()
        # A journal that refuses appends will keep refusing: half of the time left is enough to find out.
        await self.tasks.finished(["intake"], deadline.left_s() / 2)
        if lost := self.intake.abandon():
            log.error("records_not_journaled", records=lost, reason=self.journal.error or "the intake had died")

    async def _drain_sinks(self, deadline: Deadline) -> None:
        workers = [*self._sinks, *self._readers, *self._reports]
        if late := await self.tasks.wind_down(workers, deadline.left_s(_POST_DRAIN_RESERVE_S), "sink-", "source-"):
            left = {name: cursor.pending_records for name, cursor in self._cursors.items()}
            log.warning("sinks_late", tasks=late, records_left_in_journal=left)

    def compose_streams(self, stopped: bool) -> Document:
        """Compose the stream state for the next process, and do other periodic work; called about once a second."""
        feeds = self.feeds.statuses()
        is_wanted = partial(self.feeds.is_wanted, feeds)
        for gap in self.streams.end_unfollowed(have_chosen(feeds), is_wanted):
            self.intake.put(gap)
        self.intake.rejections.keep(is_wanted)
        now = now_us()
        self.intake.settle_drops(now)
        return document(feeds, self.intake, self.streams.earlier, written_at=now, stopped=stopped)

    def _show_gauges(self) -> None:
        for name, cursor in self._cursors.items():
            self.metrics.sink_lag_records.labels(name).set(cursor.pending_records)
            self.metrics.sink_lag_s.labels(name).set(cursor.age_s())
            for channel, count in cursor.recovered.items():
                self.metrics.recovered.labels(name, channel).set(count)
        # A record counts as journaled until the slowest sink has stored it.
        pending = [cursor.pending for cursor in self._cursors.values()]
        for channel in {*chain(*pending)}:
            self.metrics.in_journal.labels(channel).set(max(each.get(channel, 0) for each in pending))
        for reader in self._readers:
            reader.show()

    def snapshot(self) -> Snapshot:
        """The facts from which health is judged."""
        leadership = self._leadership
        return replace(
            self.life.snapshot(),
            feeds=self.feeds.health(),
            standby=leadership.waits_for if leadership is not None and not self.feeds.started else None,
            lease_problem=leadership.problem if leadership is not None else None,
            journal=JournalHealth(full=self.intake.is_blocked, problem=self.journal.error),
            sinks=[sink.status() for sink in (*self._sinks, *self._live, *self._started_reports())],
            sources=[reader.health(needed=False) for reader in self._readers],
            open_gaps=self.intake.gaps.open.values(),
            rejected=self.intake.rejections.all(),
            upkeep_problems=self._upkeep_problems(),
        )

    def _started_reports(self) -> list[Sink]:
        """What runs of them: a standby leaves them to its leader."""
        return self._reports if self.feeds.started else []

    def _upkeep_problems(self) -> list[str]:
        problems = self._upkeep.problems() if self._upkeep is not None else []
        if self._backfill is not None and self._backfill.problem is not None:
            problems.append(self._backfill.problem)
        if self._indicators is not None and self._indicators.problem is not None:
            problems.append(self._indicators.problem)
        return problems

    def counts(self) -> dict[str, Any]:
        """The terms of the conservation law by channel; see `ops.account`."""
        return account(self.metrics, self._cursors, {reader.name: reader.held() for reader in self._readers})

    def _live_figures(self) -> dict[str, float]:
        """The daemon's figures for the live caches; empty on a standby, which has the same name as its leader."""
        if not self.feeds.started:
            return {}
        totals, metrics = self.metrics.totals, self.metrics
        return {
            "records_received": sum(totals(metrics.received).values()),
            "records_stored": sum(totals(metrics.stored).values()),
            "records_dropped": sum(totals(metrics.dropped).values()),
            "journal_bytes": self.journal.size_bytes,
            "feeds_connected": sum(status.connected for _, status in self.feeds.statuses()),
        }
