"""The role `sink`: stores Kafka topics as a member of consumer groups. It has no feeds and no journal.

Start: database check → endpoint → live sinks → readers → ready once they have joined.
Stop:  not ready → readers store the messages they hold and leave their groups, under one deadline → live sinks → upkeep
→ endpoint.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import structlog

from ingestd.config.models import Config, DatabaseConfig, KafkaConfig
from ingestd.config.runnable import require_runnable
from ingestd.files import make_directory
from ingestd.indicators.task import Indicators
from ingestd.lifecycle import Lifecycle, Shard
from ingestd.ops.account import account
from ingestd.ops.health import Snapshot
from ingestd.sinks.base import LiveParts, ReportParts, build_live, build_reports, sends_indicators, show_indicators
from ingestd.sources.market_topics import MarketStore
from ingestd.sources.reader import build_reader
from ingestd.sources.trading_events import EventTopics
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.retention import accepted_window
from ingestd.storage.upkeep import Upkeep
from ingestd.venues.market_names import KnownMarkets, Names

log = structlog.get_logger()

_POST_DRAIN_RESERVE_S = 4.5  # part of the deadline kept for leaving groups, the live sinks and the last candles


class SinkService:
    """The daemon in the role `sink`; run at most as many as there are partitions."""

    def __init__(self, config: Config) -> None:
        require_runnable(config)
        kafka, database = config.section(KafkaConfig), config.section(DatabaseConfig)
        instance = config.instance.name
        self.config = config
        self.life = Lifecycle(config, self.snapshot, self._show_gauges)
        self.metrics, self.tasks = self.life.metrics, self.life.tasks
        self.request_stop = self.life.request_stop
        is_named_by_venues = any(getattr(section, "symbol_style", None) == "venue" for _, section in config)
        known = KnownMarkets(from_table=is_named_by_venues)
        self._access = DatabaseAccess(config, known)
        self._upkeep = Upkeep(self._access, config, list, self.metrics, self.life.events)
        # Here they keep only orders and indicators; the daemon with the feeds publishes market data.
        self._live = build_live(LiveParts(config, instance, self.metrics, known, self._figures))
        self._indicators: Indicators | None = None
        if config.indicators.rules:
            show = show_indicators(self._live)
            notes = sends_indicators(config)
            self._indicators = Indicators(config, self._access, Shard().holds, self.metrics, show, notes_changes=notes)
        holds, figures = Shard().holds, self._figures
        self._reports = build_reports(ReportParts(config, instance, self.metrics, known, self._access, holds, figures))
        market = self.market = MarketStore(
            kafka.topic_prefix,
            accepted_window(config),
            self.metrics,
            sent=Names(kafka.symbol_style, known),
            stored=self._access.names,
        )
        exchange = config.events.default_exchange
        events = EventTopics(kafka.topic_prefix, self.metrics, self._live, default_exchange=exchange)
        connect = self._access.connect_bounded
        self.readers = [
            build_reader(store, instance, kafka, database, connect, self.metrics, logs_outages=store is market)
            for store in (market, events)
        ]

    def reload(self, config: Config) -> None:
        """Log the changes, all of which need a restart, because this role has no symbols."""
        with self.life.reloading(config):
            pass

    async def run(self) -> None:
        """Store until a stop is requested or a task dies; after the stop, raise the dead task's error."""
        state_dir = self.config.instance.state_dir
        make_directory(state_dir)
        if await self.life.run(self._access.look(state_dir), self._start, self._stop):
            self.life.stopped(self.counts())

    def _start(self) -> None:
        self.tasks.spawn("upkeep", self._upkeep.run())
        if self._indicators is not None:
            self.tasks.spawn("indicators", self._indicators.run())
        self.tasks.spawn_each("live", self._live)
        self.tasks.spawn_each("source", self.readers)
        self.tasks.spawn_each("report", self._reports)
        self.life.started(
            f"{len(self.readers)} sources",
            instance=self.config.instance.name,
            role="sink",
            sources=[reader.name for reader in self.readers],
            listen=f"{self.config.http.host}:{self.life.endpoint.port}",
        )

    async def _stop(self) -> None:
        deadline = self.life.begin_stop("storing what is held")
        await self.tasks.cancel(["indicators"])
        workers = [*self.readers, *self._reports]
        if late := await self.tasks.wind_down(workers, deadline.left_s(_POST_DRAIN_RESERVE_S), "source-", "report-"):
            log.warning("sources_late", tasks=late, left="in Kafka, for the other members")
        await self.life.end(self._live, self._upkeep, deadline)

    def snapshot(self) -> Snapshot:
        """The facts from which health is judged."""
        return replace(
            self.life.snapshot(),
            sinks=[sink.status() for sink in (*self.readers, *self._live, *self._reports)],
            sources=[reader.health(needed=True) for reader in self.readers],
            rejected=self.market.rejections.all(),
            upkeep_problems=self._upkeep_problems(),
        )

    def _upkeep_problems(self) -> list[str]:
        problem = self._indicators.problem if self._indicators is not None else None
        return [*self._upkeep.problems(), *([problem] if problem is not None else [])]

    def counts(self) -> dict[str, Any]:
        """The terms of the conservation law by channel; see `ops.account`."""
        return account(self.metrics, {}, {reader.name: reader.held() for reader in self.readers})

    def _figures(self) -> dict[str, float]:
        """The daemon's figures for the live caches and the reports."""
        totals, metrics = self.metrics.totals, self.metrics
        return {
            "records_stored": sum(totals(metrics.stored).values()),
            "records_rejected": sum(totals(metrics.rejected).values()),
            "messages_waiting": sum(reader.reading().lag for reader in self.readers),
        }

    def _show_gauges(self) -> None:
        for reader in self.readers:
            reader.show()
