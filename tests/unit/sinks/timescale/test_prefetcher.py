"""One thing ahead, never two; and nothing is left running."""

from __future__ import annotations

import asyncio

import pytest

from ingestd.sinks.timescale.sink import Prefetcher


class Maker:
    """Makes 1, 2, 3, … each when it is let."""

    def __init__(self) -> None:
        self.begun = 0
        self.let = asyncio.Semaphore(0)

    async def make(self) -> int:
        self.begun += 1
        made = self.begun
        await self.let.acquire()
        if made == 3:
            raise OSError("no third")
        return made


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_next_is_begun_when_one_is_taken_and_no_other() -> None:
    maker = Maker()
    prefetcher = Prefetcher(maker.make)
    await turns()
    assert maker.begun == 0
    maker.let.release()
    assert await prefetcher.take() == 1
    maker.let.release()
    await turns()
    assert maker.begun == 2
    assert await prefetcher.take() == 2
    await prefetcher.close()


async def test_what_making_raised_is_the_takers() -> None:
    maker = Maker()
    prefetcher = Prefetcher(maker.make)
    for _ in range(3):
        maker.let.release()
    assert [await prefetcher.take(), await prefetcher.take()] == [1, 2]
    with pytest.raises(OSError, match="no third"):
        await prefetcher.take()
    await prefetcher.close()


@pytest.mark.parametrize("let", [0, 1, 2, 3])
async def test_closed_it_leaves_nothing_running(let: int) -> None:
    maker = Maker()
    prefetcher = Prefetcher(maker.make)
    taking = asyncio.create_task(prefetcher.take())
    for _ in range(let):
        maker.let.release()
    await turns()
    taking.cancel()
    await asyncio.wait({taking})
    await prefetcher.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
