"""The live sink: publishes current market data to channels and caches of Redis, Valkey or DragonflyDB.

Nothing waits for this sink, and messages missed during an outage are not sent later. When the server is back, all
caches are rewritten. The Redis library only opens connections; packing commands and limiting unanswered ones are our
own code (`resp.py`, `link.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import orjson
import structlog

from ingestd.clock import iso_text, monotonic_s, now_us, wait_at_most
from ingestd.errors import ConfigError, LiveServerError
from ingestd.ops.metrics import Metrics
from ingestd.retry import Backoff
from ingestd.sinks.redis.connecting import Server, address_of, explained, is_refusal, reach
from ingestd.sinks.redis.link import Link
from ingestd.sinks.redis.options import RedisConfig
from ingestd.sinks.redis.publisher import NAME, Links, Publisher
from ingestd.sinks.redis.resp import pack
from ingestd.sinks.redis.view import METRIC_TTL_S, Command, View, hash_command
from ingestd.status import SinkStatus
from ingestd.venues.market_names import KnownMarkets, Names

log = structlog.get_logger()

_HEARTBEAT_CHANNEL = b"ingestd:heartbeat"
_HEARTBEAT_S = 1.0
_METRICS_EVERY = 5  # heartbeats
_SETTLED_S = 3.0
_RETRY_BASE_S = 0.1
_RETRY_CAP_S = 2.0  # with the time a connection takes, the caches are right within 5 s
_REFUSED_PAUSE_S = 1.0  # after a wrong password: do not hammer the server
_ERRORS_SHOWN_S = 5.0
_REFILL_AT_MOST_EVERY_S = 2.0


class RedisLive:
    """Publishes every tick and trade as it arrives and keeps the last values in caches; see docs/redis.md.

    MUST NOT delay its callers: a flush writes without waiting; memory is bounded by the number of symbols and the
    configured window. Messages that cannot be sent are dropped and counted.
    """

    name = NAME

    def __init__(
        self,
        config: RedisConfig,
        metrics: Metrics,
        *,
        instance: str,
        known: KnownMarkets | None = None,
        own_metrics: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        """`own_metrics` returns the values written to the keys `metrics:{instance}:{metric}`."""
        self._config = config
        self._metrics = metrics
        self._instance = instance
        self._own_metrics = own_metrics
        names = Names(config.symbol_style, known)
        self._view = View(names.name, primary_exchange=config.primary_exchange, candles_kept=config.candles_kept)
        self._publisher = Publisher(self._view, config, metrics)
        self.put_all = self._publisher.put_all
        self.order_update = self._publisher.order_update
        self.indicator_update = self._publisher.indicator_update
        self.forget_orders = self._view.forget_orders
        self._finish_asked = asyncio.Event()
        self._status = SinkStatus(self.name, problem="it has not reached Redis yet")
        self._retry = Backoff(base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S)
        metrics.sink_up.labels(self.name).set(0)

    def status(self) -> SinkStatus:
        """Whether the server is up, up with errors (out of memory, no permission), or down, and why."""
        error = self._publisher.last_error
        if self._status.up:
            recent = error is not None and monotonic_s() - error[0] < _ERRORS_SHOWN_S
            self._status.problem = explained(error[1]) if error is not None and recent else None
        return self._status

    def finish(self) -> None:
        """Announce that no more records will come: `run` sends the pending ones and returns."""
        self._finish_asked.set()

    async def run(self) -> None:
        """Connect, publish and reconnect until `finish` is called."""
        try:
            while not self._finish_asked.is_set():
                try:
                    address = address_of(self._config)
                    server = await reach(address, self._config)
                except (LiveServerError, ConfigError) as error:
                    await self._fail(error)
                    continue
                try:
                    async with contextlib.aclosing(server):
                        await self._serve(server)
                except LiveServerError as error:
                    await self._fail(LiveServerError(f"{address}: {error}"))
        finally:
            self._metrics.sink_up.labels(self.name).set(0)

    async def _serve(self, server: Server) -> None:
        """Publish until finished. Raises LiveServerError when a connection fails."""
        on_answer = self._publisher.on_answer
        links = [Link(reader, writer, self._config, on_answer) for reader, writer in server.streams]
        self._publisher.attach(Links(links, server.index_of))
        self._recovered()
        # The first task that ends stops the others: a broken link, or the housekeeping after `finish`.
        tasks = [asyncio.create_task(link.run(), name=f"live-link-{number}") for number, link in enumerate(links)]
        tasks.append(asyncio.create_task(self._keep_house(), name="live-housekeeping"))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._publisher.detach()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_house(self) -> None:
        """Send heartbeats, our own metrics and cache refills. Once finishing, send the pending messages and return."""
        started_s = refilled_s = monotonic_s()
        beats = 0
        while not self._finish_asked.is_set():
            await wait_at_most(_HEARTBEAT_S, self._finish_asked)
            beats += 1
            now_s = monotonic_s()
            error = self._publisher.last_error
            # Refill twice: the server may execute commands left over from a broken connection after the first refill.
            # And a key whose write it refused (out of memory) still has its old value.
            if beats == 1 or (
                error is not None and error[0] >= refilled_s and now_s - refilled_s >= _REFILL_AT_MOST_EVERY_S
            ):
                self._publisher.refill()
                refilled_s = now_s
            if beats % _METRICS_EVERY == 1:
                self._publisher.send(self._metric_commands())
            self._publisher.send([self._heartbeat()])
            if now_s - started_s >= _SETTLED_S:
                self._retry.settled()
        # Records taken before `finish` are sent and answered, or given up.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._config.reply_timeout_s):
                await self._publisher.drained()

    def _heartbeat(self) -> Command:
        counts = {"published": self._publisher.published, "dropped": self._publisher.dropped}
        beat = orjson.dumps({"instance": self._instance, "timestamp": iso_text(now_us()), **counts})
        return Command(_HEARTBEAT_CHANNEL, pack(b"PUBLISH", _HEARTBEAT_CHANNEL, beat), 1)

    def _metric_commands(self) -> list[Command]:
        at = iso_text(now_us()).encode()
        return [
            hash_command(
                f"metrics:{self._instance}:{metric}",
                (b"value", f"{value:.12g}".encode(), b"timestamp", at),
                METRIC_TTL_S,
            )
            for metric, value in self._own_metrics().items()
        ]

    async def _fail(self, error: Exception) -> None:
        """Count and log the failure, and wait until the next attempt is due."""
        status, refused = self._status, is_refusal(error)
        status.up, status.problem = False, str(error)
        status.attempts_failed += 1
        self._metrics.sink_up.labels(self.name).set(0)
        self._metrics.sink_errors.labels(self.name, "refused" if refused else "connection").inc()
        delay_s = self._retry.next_s(_REFUSED_PAUSE_S if refused else 0.0)
        if self._retry.is_logged(error):
            log.warning(
                "live_sink_down",
                sink=self.name,
                error=status.problem,
                attempts=status.attempts_failed,
                retry_in_s=round(delay_s, 1),
            )
        await wait_at_most(delay_s, self._finish_asked)

    def _recovered(self) -> None:
        if self._status.attempts_failed:
            log.info("live_sink_up_again", sink=self.name, after_attempts=self._status.attempts_failed)
        self._status.up, self._status.problem, self._status.attempts_failed = True, None, 0
        self._metrics.sink_up.labels(self.name).set(1)
