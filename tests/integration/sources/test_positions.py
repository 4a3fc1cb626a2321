"""Taking over a source: from a writer that left, and from one that is frozen in the middle of a transaction."""

from __future__ import annotations

import asyncio

import pytest

from ingestd.errors import ConnectionLost, DatabaseError, Superseded
from ingestd.storage.writer import positions
from ingestd.storage.writer.positions import Move, Place
from tests.support.postgres import DatabaseForTest

SOURCES = ["kafka:p:t:0", "kafka:p:t:1"]


async def test_each_claim_fences_off_the_one_before(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    first = await positions.claim(db, SOURCES, stalled_after_s=1)
    assert first == dict.fromkeys(SOURCES, Place(0, 1))
    async with db.transaction():
        await positions.advance(db, [Move(source, 0, 10, 1) for source in SOURCES])
    assert await positions.claim(db, SOURCES[:1], stalled_after_s=1) == {SOURCES[0]: Place(10, 2)}
    with pytest.raises(Superseded) as caught:
        async with db.transaction():
            await positions.advance(db, [Move(source, 10, 20, 1) for source in SOURCES])
    assert caught.value.sources == {SOURCES[0]}
    assert await positions.read(db, SOURCES) == {SOURCES[0]: Place(10, 2), SOURCES[1]: Place(10, 1)}
    await db.close()


@pytest.mark.parametrize("in_copy", [False, True])
async def test_a_frozen_writer_is_disconnected(postgres_database: DatabaseForTest, in_copy: bool) -> None:
    db = await postgres_database.connect(lock_timeout_s=0.2)
    await positions.claim(db, SOURCES, stalled_after_s=1)
    frozen = await postgres_database.connect(application_name="ingestd frozen")
    held = asyncio.Event()

    async def silence() -> None:
        async with frozen.transaction():
            await positions.advance(frozen, [Move(SOURCES[0], 0, 10, 1)])
            held.set()
            if in_copy:

                async def never() -> object:
                    await asyncio.Event().wait()
                    yield b""

                await frozen.copy_text("market_ticks", ["time"], never())  # type: ignore[arg-type]
            await asyncio.Event().wait()

    stuck = asyncio.create_task(silence())
    await held.wait()
    with pytest.raises(DatabaseError, match="lock timeout"):
        await positions.claim(db, SOURCES, stalled_after_s=60)
    assert not stuck.done(), "it is not stalled for long enough"
    with pytest.raises(DatabaseError, match="lock timeout"):
        await positions.claim(db, SOURCES, stalled_after_s=0.1)
    assert await positions.claim(db, SOURCES, stalled_after_s=0.1) == dict.fromkeys(SOURCES, Place(0, 2))
    stuck.cancel()
    with pytest.raises((ConnectionLost, DatabaseError, asyncio.CancelledError)):
        await stuck
    frozen.terminate()
    await db.close()
