"""One thing made ahead: while the taker works on what it took, the next is being made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Never holds more than one thing that was not taken. Belongs to one taker, who closes it."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._making: asyncio.Task[T] | None = None

    async def take(self) -> T:
        """The next, when it is made; the one after it is begun. Raises what making it raised."""
        if self._making is None:
            self._making = self._begin()
        made = await self._making
        self._making = self._begin()
        return made

    def made(self) -> T | None:
        """The next, if it is made: then `take` need not wait."""
        making = self._making
        if making is None or not making.done() or making.cancelled() or making.exception() is not None:
            return None
        return making.result()

    async def close(self) -> None:
        """Nothing is being made any more; what was made and not taken is dropped."""
        if self._making is None:
            return
        self._making.cancel()
        await asyncio.wait({self._making})
        if not self._making.cancelled():
            self._making.exception()  # nobody will take it

    def _begin(self) -> asyncio.Task[T]:
        async def make() -> T:
            return await self._make()

        return asyncio.create_task(make())
