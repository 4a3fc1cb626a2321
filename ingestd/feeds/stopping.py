"""Every wait of a feed is "the work or the stop"."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from ingestd.clock import wait_at_most

T = TypeVar("T")


class Stop:
    """Set once, when a feed (or one session of it) is to end."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Let every wait return."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the end has been asked for."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Return when the end is asked for."""
        await self._event.wait()

    async def sleep(self, seconds: float) -> bool:
        """Wait that long. False when the stop came first."""
        return not await wait_at_most(seconds, self._event)

    async def sleep_or(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event, that long at most, or the stop."""
        await self._first(event.wait(), seconds)

    async def run(
        self, work: Coroutine[Any, Any, T], name: str | None = None, *, until: asyncio.Event | None = None
    ) -> asyncio.Task[T]:
        """Run `work` in a task of its own until it ends, or the stop or `until` comes (then it is cancelled).

        Return the task. It is one of its own, since an exchange library cancels the futures it hands out: that must not
        look like the cancellation of the one who waits.
        """
        task = asyncio.create_task(work, name=name)
        ends = [asyncio.create_task(event.wait()) for event in (self._event, until) if event is not None]
        try:
            await asyncio.wait({task, *ends}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(task, *ends)
        return task

    async def _first(self, waiting: Coroutine[Any, Any, Any], seconds: float) -> None:
        tasks = {asyncio.create_task(waiting), asyncio.create_task(self._event.wait())}
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(*tasks)


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs and wait until it has ended; outcomes stay in the tasks."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
