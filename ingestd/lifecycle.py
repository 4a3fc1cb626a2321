"""Every task of the daemon has a name and an owner here; one that ends when it should not stops the daemon, loudly."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from ingestd.errors import ConfigError, IngestdError, Problem

log = structlog.get_logger()


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

    def names(self, prefix: str) -> list[str]:
        return [name for name in self._running if name.startswith(prefix)]

    async def finished(self, names: list[str], timeout_s: float) -> list[str]:
        """Wait for tasks that may end. Returns the names of those that are late."""
        waited = {self._running[name] for name in names if name in self._running}
        if waited:
            await asyncio.wait(waited, timeout=max(0.0, timeout_s))
        return [name for name in names if name in self._running]

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
