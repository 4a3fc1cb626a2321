"""Waiting that a stop ends: every wait of a feed is for "the work or the stop"."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from ingestd.clock import wait_at_most
from ingestd.errors import FeedError

T = TypeVar("T")


class Stop(asyncio.Event):
    """Set once, when a feed or one of its sessions must end."""

    async def sleep(self, seconds: float) -> bool:
        """Sleep for `seconds`. False if the stop came first."""
        return not await wait_at_most(seconds, self)

    async def sleep_or(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event or the stop, at most `seconds`."""
        await self.run(wait_at_most(seconds, event))

    async def wait_for(self, event: asyncio.Event) -> bool:
        """Wait for the event and clear it. False if the stop came first."""
        await self.run(event.wait())
        event.clear()
        return not self.is_set()

    async def run(
        self, work: Coroutine[Any, Any, T], name: str | None = None, *, until: asyncio.Event | None = None
    ) -> asyncio.Task[T]:
        """Run `work` in its own task and return the ended task. The stop or `until` cancels it.

        The task is its own because an exchange library cancels the futures that it hands out: that must not look like a
        cancellation of the caller.
        """
        task = asyncio.create_task(work, name=name)
        ends = [asyncio.create_task(event.wait()) for event in (self, until) if event is not None]
        try:
            await asyncio.wait({task, *ends}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(task, *ends)
        return task


def failure_of(task: asyncio.Task[Any]) -> BaseException | None:
    """The error with which the task ended; None if it has a result. Its cancellation counts as an error."""
    return FeedError("cancelled by the exchange library") if task.cancelled() else task.exception()


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until all have ended; results and errors stay in the tasks."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
