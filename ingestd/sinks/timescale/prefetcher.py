"""Prepares the next item in the background while the consumer works on the current one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Prepares at most one item ahead. Used by one consumer, which closes it."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._task: asyncio.Task[T] | None = None

    async def take(self) -> T:
        """Wait for the next item, and start to prepare the one after it. Raises what preparing the item raised."""
        if self._task is None:
            self._task = self._begin()
        made = await self._task
        self._task = self._begin()
        return made

    def ready(self) -> T | None:
        """The next item if it is ready, so that `take` would not wait; else None."""
        task = self._task
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    async def close(self) -> None:
        """Stop preparing, and drop an item that was not taken."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.exception()  # mark the exception as retrieved

    def _begin(self) -> asyncio.Task[T]:
        async def make() -> T:
            return await self._make()

        return asyncio.create_task(make())
