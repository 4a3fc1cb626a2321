"""Whatever runs at once and whenever Redis is away: who begins to read after a write has ended sees that write.

Readers and writers of one cache take their steps in a random order: a step ends where one of them asks Redis or the
table. Redis may fail before a command takes effect, or lose its reply after it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.applications.cache import Cache
from ingestd.errors import LiveServerError
from ingestd.sinks.redis.options import RedisConfig
from ingestd.storage.database import Database

KEY = "strategies:active"


class NoTransaction:
    in_transaction = False


DB = cast(Database, NoTransaction())


@dataclass
class World:
    """One key of Redis, one row of the table, and who waits for which step."""

    random: random.Random
    outages: bool
    row: int = 0
    kept: bytes | None = None
    reading: set[int] = field(default_factory=set)  # reads between their beginning and their end
    held_before: set[int] = field(default_factory=set)  # those of them that began before the hold
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    async def step(self) -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(gate)
        await gate

    async def call(self, key: str, *commands: Sequence[bytes]) -> list[Any]:
        await self.step()
        fate = self.random.randrange(6) if self.outages else None
        if fate == 0:
            raise LiveServerError("away")
        replies = [self.answer(*command) for command in commands]
        if fate == 1:
            raise LiveServerError("the reply is lost")
        await self.step()
        return replies

    def answer(self, name: bytes, key: bytes, *arguments: bytes) -> Any:
        assert key == KEY.encode()
        if name == b"GET":
            return self.kept
        if name == b"DEL":
            self.kept = None
            return 1
        assert name == b"SET"
        if b"NX" in arguments and self.kept is not None:
            return None
        self.kept = arguments[0]
        self.held_before = set(self.reading)
        return b"OK"

    async def close(self) -> None:
        """Nothing is open."""

    async def read_row(self) -> str:
        await self.step()
        text = str(self.row)
        await self.step()
        return text

    def expire(self) -> None:
        """A copy lives for a time. A hold outlasts every read that began before it."""
        is_held = self.kept == b"null"
        if not self.held_before & self.reading if is_held else self.random.randrange(30) == 0:
            self.kept = None


async def run_to_the_end(world: World, tasks: Sequence[asyncio.Task[None]]) -> None:
    while not all(task.done() for task in tasks):
        for _ in range(8):  # let every task come to its next step
            await asyncio.sleep(0)
        if world.random.randrange(4) == 0:
            world.expire()
        if world.waiting:
            world.waiting.pop(world.random.randrange(len(world.waiting))).set_result(None)
    for task in tasks:
        task.result()


@pytest.mark.parametrize("outages", [False, True])
@given(seed=st.integers(0, 2**32), readers=st.integers(1, 3), writers=st.integers(1, 2), spoiled=st.booleans())
def test_a_read_after_a_write_sees_it(outages: bool, seed: int, readers: int, writers: int, spoiled: bool) -> None:
    world = World(random.Random(seed), outages, kept=b"no number" if spoiled else None)
    cache = Cache(RedisConfig(), world)
    numbers = itertools.count()
    ended = [0]  # versions whose write has ended

    async def write() -> None:
        for _ in range(4):
            for _ in range(world.random.randrange(30)):  # so that copies are there
                await world.step()
            world.row += 1
            version = world.row
            await cache.forget(KEY)
            ended.append(version)

    async def read() -> None:
        for _ in range(12):
            await world.step()
            known = max(ended)
            number = next(numbers)
            world.reading.add(number)
            found = await cache.read(KEY, int, DB, world.read_row, lambda _: 60.0)
            world.reading.remove(number)
            assert found is not None
            assert known <= found <= world.row

    async def all_at_once() -> None:
        work = [*(write for _ in range(writers)), *(read for _ in range(readers))]
        await run_to_the_end(world, [asyncio.create_task(one()) for one in work])

    asyncio.run(all_at_once())
