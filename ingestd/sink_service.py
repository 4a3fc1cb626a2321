"""The role `sink`: members of consumer groups that store what Kafka holds. No feeds, no journal: the topics are both.

Start: database look → endpoint → live sink → readers → ready once they have joined.
Stop:  not ready → readers store what they hold and leave their groups, under one deadline → live sink → upkeep →
endpoint.
"""

from __future__ import annotations

from typing import Any

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.config.models import Config
from ingestd.config.runnable import require_runnable
from ingestd.errors import ConfigError
from ingestd.files import make_directory
from ingestd.lifecycle import Tasks
from ingestd.ops.account import account, without_zeros
from ingestd.ops.endpoint import Endpoint
from ingestd.ops.health import SinkHealth, Snapshot, liveness
from ingestd.ops.heartbeat import Heartbeat
from ingestd.ops.metrics import Metrics
from ingestd.ops.notify import Notifier
from ingestd.ops.summary import Summary
from ingestd.sinks.redis.sink import RedisLive
from ingestd.sources.base import Store
from ingestd.sources.build import build_reader, show_source, source_health
from ingestd.sources.market_topics import MarketStore
from ingestd.sources.reader import TopicReader
from ingestd.sources.trading_events import EventStore
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.retention import accepted_window
from ingestd.storage.upkeep import Upkeep

log = structlog.get_logger()

_LAST_UPKEEP_S = 0.5  # what the last candles get even when the deadline is spent
_LAST_S = 4.5  # of the deadline: for leaving the groups where nobody answers, the live sink and the last candles
_EXIT_S = 1.0  # of that


class SinkService:
    """One daemon of the role `sink`; run as many as there are partitions."""

    def __init__(self, config: Config) -> None:
        require_runnable(config)
        assert config.kafka is not None
        assert config.database is not None
        self.config = config
        self.metrics = Metrics(feed.exchange for feed in config.feeds)
        self.tasks = Tasks()
        self.endpoint = Endpoint(config.http, self.metrics, self.snapshot)
        self._access = DatabaseAccess(config)
        self._upkeep = Upkeep(self._access, config, list, self.metrics)
        self.live = self._live_sink()
        self._notifier = Notifier()
        self._heartbeat = Heartbeat(
            self.metrics, self._notifier, self._show_gauges, lambda: liveness(self.snapshot()).ok
        )
        self.stop_requested = False  # by somebody: a task's death stops the daemon too
        self._started = False
        self._stopping = False
        prefix = config.kafka.topic_prefix
        market = MarketStore(prefix, accepted_window(config), self.metrics)
        self.market = market
        stores: list[Store] = [market, self._event_store(prefix)]
        self.readers: list[TopicReader] = [
            build_reader(
                store,
                config.instance.name,
                config.kafka,
                config.database,
                self._access.connect_bounded,
                self.metrics,
                tells=store is market,
            )
            for store in stores
        ]

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
        """This role has no symbols: whatever changed waits for a restart, and is named."""
        if self._started:  # systemd would take the `ready` below for the end of the start
            self._notifier.reloading()
        changed = [name for name in Config.model_fields if getattr(config, name) != getattr(self.config, name)]
        if changed:
            log.warning("reload_needs_restart", sections=changed)
        self.metrics.config_reloads.labels("applied").inc()
        if self._started:
            self._notifier.ready()

    async def run(self) -> None:
        """Store until a stop is requested or a task dies; the error of a dead task is raised after the stop."""
        state_dir = self.config.instance.state_dir
        make_directory(state_dir)
        if not await self.tasks.before_stop(self._access.look(state_dir)):
            log.info("stopped_before_the_start")
            return
        await self.endpoint.start()
        try:
            self._start()
            await self.tasks.stop_asked.wait()
            await self._stop()
        finally:
            await self.endpoint.close()
        log.info("stopped", reason=self.tasks.stop_reason, counts=without_zeros(self.counts()))
        if self.tasks.fatal is not None:
            raise self.tasks.fatal

    def _start(self) -> None:
        self.tasks.spawn("heartbeat", self._heartbeat.run())
        self.tasks.spawn("summary", Summary(self.metrics).run())
        self.tasks.spawn("upkeep", self._upkeep.run())
        if self.live is not None:
            self.tasks.spawn("live-redis", self.live.run())
        for reader in self.readers:
            self.tasks.spawn(f"source-{reader.name}", reader.run())
        self._started = True
        self._notifier.ready(f"{len(self.readers)} sources")
        log.info(
            "started",
            instance=self.config.instance.name,
            role="sink",
            sources=[reader.name for reader in self.readers],
            listen=f"{self.config.http.host}:{self.endpoint.port}",
        )

    async def _stop(self) -> None:
        deadline_s = monotonic_s() + self.config.instance.shutdown_deadline_s
        self._stopping = True
        self._notifier.stopping("storing what is held")
        names = self.tasks.names("source-")
        self.tasks.release(*names)
        for reader in self.readers:
            reader.finish()
        limit_s = self.config.instance.shutdown_deadline_s
        late = await self.tasks.finished(names, max(limit_s - _LAST_S, limit_s / 2))
        if late:
            log.warning("sources_late", tasks=late, left="in Kafka, for the other members")
            await self.tasks.cancel(late)
        await self._close_live()
        await self._upkeep.close(within_s=max(_LAST_UPKEEP_S, deadline_s - _EXIT_S - monotonic_s()))
        await self.tasks.cancel(["upkeep", "heartbeat", "summary"])
        self._show_gauges()

    def snapshot(self) -> Snapshot:
        """What health is judged from."""
        sinks: list[TopicReader | RedisLive] = [*self.readers, *([self.live] if self.live is not None else [])]
        return Snapshot(
            now_us=now_us(),
            started=self._started,
            stopping=self._stopping,
            loop_age_s=self._heartbeat.age_s,
            dead_tasks=tuple(self.tasks.dead),
            sinks=[
                SinkHealth(status.name, status.problem, status.up, status.stands_still)
                for status in (sink.status() for sink in sinks)
            ],
            sources=[source_health(reader, needed=True) for reader in self.readers],
            rejected=self.market.rejections.all(),
            missing=self.metrics.recently_missing(),
            refused=self.metrics.recently_refused(),
            upkeep_problems=self._upkeep.problems(),
        )

    def counts(self) -> dict[str, Any]:
        """The conservation law's terms, by channel; see `ops.account`."""
        return account(self.metrics, {}, {reader.name: reader.held() for reader in self.readers})

    def _show_gauges(self) -> None:
        for reader in self.readers:
            show_source(self.metrics, reader)

    def _event_store(self, prefix: str) -> EventStore:
        if self.live is None:
            return EventStore(prefix, self.metrics)
        return EventStore(prefix, self.metrics, self.live.order_update, self.live.forget_orders)

    def _live_sink(self) -> RedisLive | None:
        """Here it keeps the orders' cache only; market data is shown by the daemon that has the feeds."""
        if self.config.redis is None:
            return None
        return RedisLive(self.config.redis, self.metrics, instance=self.config.instance.name)

    async def _close_live(self) -> None:
        names = self.tasks.names("live-")
        self.tasks.release(*names)
        if self.live is not None:
            self.live.finish()
        if late := await self.tasks.finished(names, 1.0):
            await self.tasks.cancel(late)
