"""What both services are made of: tasks with names and owners, shards, and the common parts of start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.config.models import Config
from ingestd.errors import ConfigError, IngestdError, Problem
from ingestd.ops.account import without_zeros
from ingestd.ops.endpoint import Endpoint
from ingestd.ops.health import Snapshot, liveness
from ingestd.ops.heartbeat import Heartbeat
from ingestd.ops.metrics import Metrics
from ingestd.ops.notify import Notifier
from ingestd.ops.summary import Summary
from ingestd.storage.upkeep import Upkeep

log = structlog.get_logger()

_LAST_UPKEEP_S = 0.5  # the last candles get this even when the deadline is over
_LIVE_S = 1.0  # a live sink keeps nothing: what it cannot send in a second is of no more use
_EXIT_S = 1.0  # of the deadline, for what comes after the last candles


class Worker(Protocol):
    """A sink, or a reader of topics."""

    def finish(self) -> None:
        """Nothing more will come: `run` returns once what is held is stored or given up."""


class Tasks:
    """The running tasks by name, and the first one that died."""

    def __init__(self) -> None:
        self.fatal: BaseException | None = None
        self.dead: list[str] = []
        self.stop_asked = asyncio.Event()
        self.stop_reason: str | None = None  # of the first that asked
        self._running: dict[str, asyncio.Task[None]] = {}
        self._may_end: set[str] = set()

    def ask_stop(self, reason: str) -> None:
        """End what waits for `stop_asked`."""
        self.stop_reason = self.stop_reason or reason
        self.stop_asked.set()

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that is expected to run until `release` or `cancel` names it."""
        task = asyncio.create_task(work, name=name)
        self._running[name] = task
        task.add_done_callback(self._ended)

    def release(self, *names: str) -> None:
        """From now on these tasks may end by themselves."""
        self._may_end.update(names)

    def names(self, *prefixes: str) -> list[str]:
        return [name for name in self._running if name.startswith(prefixes)]

    async def finished(self, names: list[str], timeout_s: float) -> list[str]:
        """Wait for tasks that may end. Returns the names of those that are late."""
        waited = {self._running[name] for name in names if name in self._running}
        if waited:
            await asyncio.wait(waited, timeout=max(0.0, timeout_s))
        return [name for name in names if name in self._running]

    async def wind_down(self, workers: Iterable[Worker], timeout_s: float, *prefixes: str) -> list[str]:
        """Tell the workers that nothing more will come, and wait for their tasks. Returns the names of the late."""
        names = self.names(*prefixes)
        self.release(*names)
        for worker in workers:
            worker.finish()
        return await self.finished(names, timeout_s)

    async def before_stop(self, work: Coroutine[Any, Any, Any]) -> bool:
        """Wait for what comes before the start. False: a stop was asked for, and the work is cancelled."""
        working = asyncio.create_task(work, name="before-start")
        stopping = asyncio.create_task(self.stop_asked.wait(), name="stop-before-start")
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            working.cancel()  # nothing where it is done
            await asyncio.wait({working, stopping})
        if not working.cancelled():
            working.result()
        return not self.stop_asked.is_set()

    async def cancel(self, names: list[str]) -> None:
        """End tasks now."""
        self.release(*names)
        tasks = [self._running[name] for name in names if name in self._running]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    def _ended(self, task: asyncio.Task[None]) -> None:
        name = task.get_name()
        self._running.pop(name, None)
        error = None if task.cancelled() else task.exception()
        if error is None and name in self._may_end:
            return
        self.dead.append(name)
        if self.fatal is None:
            self.fatal = error or RuntimeError(f"the task {name} ended by itself")
        if isinstance(error, ConfigError):
            log.error("configuration_wrong", problems=[str(problem) for problem in error.problems])
            self.ask_stop("the configuration is wrong")
        else:
            bug = None if isinstance(error, IngestdError) else error
            log.error("task_died", task=name, error=repr(self.fatal), exc_info=bug)
            self.ask_stop(f"the task {name} died")


class Deadline:
    """Until when a stop is to be over."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._ends_at_s = monotonic_s() + limit_s

    def left_s(self, reserve_s: float = 0.0) -> float:
        """Seconds that are left, without a reserve, which is never more than half of the whole."""
        return self._ends_at_s - min(reserve_s, self.limit_s / 2) - monotonic_s()


class Lifecycle:
    """A daemon's tasks, metrics, endpoint and heartbeat, and where it is between start and stop."""

    def __init__(self, config: Config, snapshot: Callable[[], Snapshot], show_gauges: Callable[[], None]) -> None:
        """`snapshot` is judged for `/livez`, `/readyz` and systemd's watchdog; `show_gauges` refreshes the gauges."""
        self.config = config
        self.metrics = Metrics(feed.exchange for feed in config.feeds)
        self.tasks = Tasks()
        self.endpoint = Endpoint(config.http, self.metrics, snapshot)
        self.is_started = False
        self.is_stopping = False
        self.stop_requested = False  # by a signal or a test; a task that dies stops the daemon too
        self._notifier = Notifier()
        self._show_gauges = show_gauges
        self._heartbeat = Heartbeat(self.metrics, self._notifier, show_gauges, lambda: liveness(snapshot()).ok)

    def request_stop(self, reason: str) -> None:
        """Begin the orderly stop, unless it has begun."""
        if not self.stop_requested:
            log.info("stop_requested", reason=reason)
        self.stop_requested = True
        self.tasks.ask_stop(reason)

    def refuse_reload(self, error: ConfigError) -> None:
        """The new file cannot be used: say why, and go on with the old one."""
        self.metrics.config_reloads.labels("refused").inc()
        log.error("reload_refused", problems=[str(problem) for problem in error.problems])

    @contextlib.contextmanager
    def reloading(self, config: Config, applied: tuple[str, ...] = ()) -> Iterator[None]:
        """While the caller applies these sections of a new configuration. The log names those
        of the others that have changed: they wait for a restart."""
        if self.is_started:  # systemd would take the `ready` below for the end of the start
            self._notifier.reloading()
        yield
        others = (name for name in Config.model_fields if name not in applied)
        if waiting := [name for name in others if getattr(config, name) != getattr(self.config, name)]:
            log.warning("reload_needs_restart", sections=waiting)
        self.metrics.config_reloads.labels("applied").inc()
        if self.is_started:
            self._notifier.ready()

    def start_watching(self) -> None:
        """Beat for systemd and the gauges, and write the summary."""
        self.tasks.spawn("heartbeat", self._heartbeat.run())
        self.tasks.spawn("summary", Summary(self.metrics).run())

    def started(self, status: str, **facts: Any) -> None:
        """The start is over; `status` is for systemd, the facts for the log."""
        self.is_started = True
        self._notifier.ready(status)
        log.info("started", **facts)

    def begin_stop(self, status: str) -> Deadline:
        """From now on the daemon is not ready."""
        self.is_stopping = True
        self._notifier.stopping(status)
        return Deadline(self.config.instance.shutdown_deadline_s)

    async def end(self, live: Iterable[Worker], upkeep: Upkeep | None, deadline: Deadline) -> None:
        """The end of every stop: the live sinks send what they hold, the last candles, then what watches."""
        if late := await self.tasks.wind_down(live, _LIVE_S, "live-"):
            await self.tasks.cancel(late)
        if upkeep is not None:
            await upkeep.close(within_s=max(_LAST_UPKEEP_S, deadline.left_s(_EXIT_S)))
        await self.tasks.cancel(["upkeep", "heartbeat", "summary", "streams"])
        self._show_gauges()

    def stopped(self, counts: Mapping[str, Any], **facts: Any) -> None:
        """The last line of the log. Raises the error of the task that died."""
        log.info("stopped", reason=self.tasks.stop_reason, counts=without_zeros(counts), **facts)
        if self.tasks.fatal is not None:
            raise self.tasks.fatal

    def snapshot(self) -> Snapshot:
        """What health judges every daemon by."""
        return Snapshot(
            now_us=now_us(),
            started=self.is_started,
            stopping=self.is_stopping,
            loop_age_s=self._heartbeat.age_s,
            dead_tasks=tuple(self.tasks.dead),
            missing=self.metrics.recently_missing(),
            refused=self.metrics.recently_refused(),
        )


@dataclass(frozen=True, slots=True)
class Shard:
    """`index` counts from 0. Every symbol belongs to exactly one of the `count` shards, for ever the same."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`i/n` with 0 ≤ i < n. Raises ConfigError."""
        first, slash, second = text.partition("/")
        if slash and first.isdecimal() and second.isdecimal() and int(first) < int(second):
            return cls(int(first), int(second))
        raise ConfigError([Problem("--shard", "write i/n with i counting from 0, such as 0/3", text)])

    def holds(self, exchange: str, symbol: str) -> bool:
        """CRC-32 of `exchange:symbol`, modulo: the same in every process and version."""
        return zlib.crc32(f"{exchange}:{symbol}".encode()) % self.count == self.index

    @property
    def suffix(self) -> str:
        """What tells this shard's positions in the database from its siblings'; nothing for the only one."""
        return f"-{self.index}-of-{self.count}" if self.count > 1 else ""
