"""What both services share: tasks with names and owners, shards, and the common parts of start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import structlog

import ingestd
from ingestd.clock import monotonic_s, now_us
from ingestd.config.models import Config
from ingestd.errors import ConfigError, IngestdError, Problem
from ingestd.ops.account import without_zeros
from ingestd.ops.endpoint import Endpoint
from ingestd.ops.health import Snapshot, liveness
from ingestd.ops.metrics import Metrics
from ingestd.ops.notify import Notifier
from ingestd.ops.summary import Summary
from ingestd.storage.system_events import SystemEvents
from ingestd.storage.upkeep import Upkeep

log = structlog.get_logger()

_BEAT_S = 0.5  # between heartbeats
_MIN_UPKEEP_S = 0.5  # the last candles get this time even after the deadline
_LIVE_FLUSH_S = 1.0  # live data older than a second is of no use
_EXIT_RESERVE_S = 1.0  # part of the deadline kept for the steps after the last candles


Work: TypeAlias = Coroutine[Any, Any, object]


class Worker(Protocol):
    """A sink, or a reader of topics."""

    name: str

    async def run(self) -> None: ...

    def finish(self) -> None:
        """Announce the end of the input: `run` returns once all held records are stored or dropped."""


class Tasks:
    """The running tasks by name, and the first one that died."""

    def __init__(self) -> None:
        self.fatal: BaseException | None = None
        self.dead: list[str] = []
        self.stop_asked = asyncio.Event()
        self.stop_reason: str | None = None  # given by the first caller of `ask_stop`
        self._running: dict[str, asyncio.Task[None]] = {}
        self._may_end: set[str] = set()

    def ask_stop(self, reason: str) -> None:
        """Set `stop_asked`."""
        self.stop_reason = self.stop_reason or reason
        self.stop_asked.set()

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that is expected to run until `release` or `cancel` names it."""
        task = asyncio.create_task(work, name=name)
        self._running[name] = task
        task.add_done_callback(self._ended)

    def spawn_each(self, kind: str, workers: Iterable[Worker]) -> None:
        """Start a task for each of these workers, called by its kind and name."""
        for worker in workers:
            self.spawn(f"{kind}-{worker.name}", worker.run())

    def release(self, *names: str) -> None:
        """Allow these tasks to end by themselves."""
        self._may_end.update(names)

    def names(self, *prefixes: str) -> list[str]:
        return [name for name in self._running if name.startswith(prefixes)]

    async def finished(self, names: list[str], timeout_s: float) -> list[str]:
        """Wait for released tasks to end. Returns the names of those that did not end in time and were cancelled."""
        if waited := [self._running[name] for name in names if name in self._running]:
            await asyncio.wait(waited, timeout=max(0.0, timeout_s))
        late = [name for name in names if name in self._running]
        await self.cancel(late)
        return late

    async def wind_down(self, workers: Iterable[Worker], timeout_s: float, *prefixes: str) -> list[str]:
        """Finish the workers and wait for their tasks, as `finished` does."""
        names = self.names(*prefixes)
        self.release(*names)
        for worker in workers:
            worker.finish()
        return await self.finished(names, timeout_s)

    async def before_stop(self, work: Work) -> bool:
        """Run `work` before the start. False: a stop was requested, and the work was cancelled if not done."""
        working = asyncio.create_task(work, name="before-start")
        stopping = asyncio.create_task(self.stop_asked.wait(), name="stop-before-start")
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            working.cancel()  # no effect if it is done
            await asyncio.wait({working, stopping})
        if not working.cancelled():
            working.result()
        return not self.stop_asked.is_set()

    async def cancel(self, names: list[str]) -> None:
        """Cancel tasks and wait for them."""
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
    """The time by which a stop must be complete."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._ends_at_s = monotonic_s() + limit_s

    def left_s(self, reserve_s: float = 0.0) -> float:
        """Seconds left, less `reserve_s`, of which at most half of the limit counts."""
        return self._ends_at_s - min(reserve_s, self.limit_s / 2) - monotonic_s()


class Lifecycle:
    """A daemon's tasks, metrics, endpoint and heartbeat, and its state between start and stop."""

    def __init__(self, config: Config, snapshot: Callable[[], Snapshot], show_gauges: Callable[[], None]) -> None:
        """`snapshot` feeds `/livez`, `/readyz` and systemd's watchdog; `show_gauges` refreshes the gauges."""
        self.config = config
        self.metrics = Metrics(feed.exchange for feed in config.feeds)
        self.tasks = Tasks()
        self.endpoint = Endpoint(config.http, self.metrics, snapshot)
        self.events = SystemEvents(config.instance.name)
        self.is_started = False
        self.is_stopping = False
        self.stop_requested = False  # by a signal or a test, not by a dead task
        self._notifier = Notifier()
        self._judged = snapshot
        self._show_gauges = show_gauges
        self._beat_at_s = monotonic_s()

    def request_stop(self, reason: str) -> None:
        """Begin the orderly stop, unless it has begun."""
        if not self.stop_requested:
            log.info("stop_requested", reason=reason)
        self.stop_requested = True
        self.tasks.ask_stop(reason)

    def refuse_reload(self, error: ConfigError) -> None:
        """Log why the new configuration is refused; the old one stays in force."""
        self.metrics.config_reloads.labels("refused").inc()
        problems = [str(problem) for problem in error.problems]
        self.events.note("CONFIG_REFUSED", "WARNING", "A new configuration was refused", problems=problems)
        log.error("reload_refused", problems=problems)

    @contextlib.contextmanager
    def reloading(self, config: Config, applied: tuple[str, ...] = ()) -> Iterator[None]:
        """Wrap the caller's work of applying the sections `applied` of a new configuration. Log the other sections that
        changed, which need a restart."""
        if self.is_started:  # before that, systemd would take the `ready` below for the end of the start
            self._notifier.reloading()
        yield
        changed = [name for name in Config.model_fields if getattr(config, name) != getattr(self.config, name)]
        if waiting := [name for name in changed if name not in applied]:
            log.warning("reload_needs_restart", sections=waiting)
        self.events.note(
            "CONFIG_CHANGED", "INFO", "The configuration was read again", changed=changed, need_restart=waiting
        )
        self.metrics.config_reloads.labels("applied").inc()
        if self.is_started:
            self._notifier.ready()

    async def run(self, check: Work | None, start: Callable[[], None], stop: Callable[[], Work]) -> bool:
        """Check the database, open the endpoint, start, wait until a stop is requested or a task dies, and stop.

        False: the stop was requested before the start.
        """
        if check is not None and not await self.tasks.before_stop(check):
            log.info("stopped_before_the_start")
            return False
        await self.endpoint.start()
        try:
            self.tasks.spawn("heartbeat", self._beat())
            self.tasks.spawn("summary", Summary(self.metrics).run())
            start()
            await self.tasks.stop_asked.wait()
            await stop()
        finally:
            await self.endpoint.close()
        return True

    async def _beat(self) -> None:
        """Measure how late the event loop is, refresh the gauges, and notify systemd's watchdog while alive."""
        watchdog_due_s = monotonic_s()
        while True:
            due_s = monotonic_s() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            self._beat_at_s = monotonic_s()
            self.metrics.loop_lag_s.set(max(0.0, self._beat_at_s - due_s))
            self.metrics.loop_tasks.set(len(asyncio.all_tasks()))
            self._show_gauges()
            interval_s = self._notifier.watchdog_interval_s
            if interval_s is not None and self._beat_at_s >= watchdog_due_s and liveness(self._judged()).ok:
                self._notifier.watchdog()
                watchdog_due_s = self._beat_at_s + interval_s / 2

    def started(self, status: str, **facts: Any) -> None:
        """Report the end of the start: `status` goes to systemd, `facts` to the log."""
        self.is_started = True
        self._notifier.ready(status)
        log.info("started", **facts)
        self.events.note("START", "INFO", f"ingestd {ingestd.__version__} has started: {status}", **facts)

    def begin_stop(self, status: str) -> Deadline:
        """Mark the daemon as not ready and start the shutdown deadline."""
        self.is_stopping = True
        self._notifier.stopping(status)
        reason, dead = self.tasks.stop_reason, self.tasks.dead
        self.events.note("STOP", "ERROR" if dead else "INFO", f"ingestd stops: {reason}", dead_tasks=list(dead))
        return Deadline(self.config.instance.shutdown_deadline_s)

    async def end(self, live: Iterable[Worker], upkeep: Upkeep | None, deadline: Deadline) -> None:
        """Run the last steps of every stop: flush the live sinks, refresh the last candles, cancel other tasks."""
        await self.tasks.wind_down(live, _LIVE_FLUSH_S, "live-")
        if upkeep is not None:
            await upkeep.close(within_s=max(_MIN_UPKEEP_S, deadline.left_s(_EXIT_RESERVE_S)))
        await self.tasks.cancel(["upkeep", "heartbeat", "summary", "streams"])
        self._show_gauges()

    def stopped(self, counts: Mapping[str, Any], **facts: Any) -> None:
        """Write the log's last line. Raises the error of the task that died, if any."""
        log.info("stopped", reason=self.tasks.stop_reason, counts=without_zeros(counts), **facts)
        if self.tasks.fatal is not None:
            raise self.tasks.fatal

    def snapshot(self) -> Snapshot:
        """The facts from which health is judged that every daemon has."""
        return Snapshot(
            now_us=now_us(),
            started=self.is_started,
            stopping=self.is_stopping,
            loop_age_s=monotonic_s() - self._beat_at_s,
            dead_tasks=tuple(self.tasks.dead),
            missing=self.metrics.missing.by_channel(),
            refused=self.metrics.refused.by_channel(),
        )


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `index` (from 0) of `count`. Every symbol always belongs to the same one shard."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse `i/n` with 0 ≤ i < n. Raises ConfigError."""
        first, _, second = text.partition("/")
        are_numbers = first.isdecimal() and second.isdecimal()
        if are_numbers and int(first) < int(second):
            return cls(int(first), int(second))
        is_past_last = are_numbers and int(second) > 0
        hint = f"the last of {int(second)} is {int(second) - 1}/{int(second)}" if is_past_last else None
        raise ConfigError([Problem("--shard", "write i/n with i counting from 0, such as 0/3", text, hint)])

    def holds(self, exchange: str, symbol: str) -> bool:
        """Whether the symbol is in this shard: CRC-32 of `exchange:symbol` modulo `count`, stable across versions."""
        return zlib.crc32(f"{exchange}:{symbol}".encode()) % self.count == self.index

    @property
    def suffix(self) -> str:
        """The suffix of the instance name that keeps this shard's positions apart; empty without shards."""
        return f"-{self.index}-of-{self.count}" if self.count > 1 else ""
