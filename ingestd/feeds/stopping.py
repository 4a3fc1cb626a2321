"""Waiting that a stop ends: every wait of a feed is for "the work or the stop"."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from ingestd.clock import wait_at_most
from ingestd.errors import FeedError

T = TypeVar("T")


class Stop:
    """A signal, set once, that a feed or one of its sessions must end."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Signal the stop: every wait returns."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the stop was signalled."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Wait for the stop."""
        await self._event.wait()

    async def sleep(self, seconds: float) -> bool:
        """Sleep for `seconds`. False if the stop came first."""
        return not await wait_at_most(seconds, self._event)

    async def sleep_or(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event or the stop, at most `seconds`."""
        await self._first(event.wait(), seconds)

    async def run(
        self, work: Coroutine[Any, Any, T], name: str | None = None, *, until: asyncio.Event | None = None
    ) -> asyncio.Task[T]:
        """Run `work` in its own task and return the ended task. The stop or `until` cancels it.

        It needs its own task because an exchange library cancels the futures it hands out: that must not look like a
        cancellation of the caller.
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


def failure_of(task: asyncio.Task[Any]) -> BaseException | None:
    """The error with which the task ended; None if it has a result. Its cancellation counts as an error."""
    return FeedError("cancelled by the exchange library") if task.cancelled() else task.exception()


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until all have ended; results and errors stay in the tasks."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
