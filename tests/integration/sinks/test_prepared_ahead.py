"""While one flush is with the server the next is prepared: exactly one, and whatever happens then nothing is lost,
doubled or stored by a title that has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

import pytest

from ingestd.clock import now_us
from ingestd.config.models import DatabaseConfig, JournalConfig
from ingestd.errors import ConnectionLost
from ingestd.journal.journal import Journal
from ingestd.ops.metrics import Metrics
from ingestd.records import Record
from ingestd.sinks.timescale.sink import TimescaleSink
from ingestd.storage import leases
from ingestd.storage.database import Database
from ingestd.storage.leases import Tenant, Title
from tests.support.database_doubles import LosesReplies
from tests.support.exposed import exposed
from tests.support.postgres import DatabaseForTest
from tests.support.records import tick, trade

OF_A_FLUSH = 10
BATCHES = 6
OLD, NEW = Tenant("desk", "host-a"), Tenant("desk", "host-b")

Connect = Callable[[], Awaitable[Database]]


class Rig:
    """A journal, and a sink whose flush takes one batch."""

    def __init__(
        self, state_dir: Path, dsn: str, connect: Connect | None = None, *, title: Title | None = None
    ) -> None:
        self.dsn = dsn
        self.metrics = Metrics()
        self.journal = Journal(state_dir, JournalConfig(), self.metrics)
        self.journal.open()
        self.cursor = self.journal.cursor("timescale")
        self.sink = TimescaleSink(
            cursor=self.cursor,
            journal_ids=lambda: self.journal.journal_ids,
            connect=connect or self.connect,
            config=DatabaseConfig(dsn=dsn, flush_ms=1, max_flush_records=OF_A_FLUSH, flush_timeout_s=5),
            metrics=self.metrics,
            title=title,
        )

    async def connect(self) -> Database:
        return await Database.connect(self.dsn, call_timeout_s=30, lock_timeout_s=None)

    async def fill(self, first: int = 0, batches: int = BATCHES) -> None:
        for start in range(first, first + batches * OF_A_FLUSH, OF_A_FLUSH):
            await self.journal.append([tick(number, bid_volume=str(number)) for number in _numbers(start)])

    async def until_read(self, position: int) -> None:
        """The sink has read so far: what lies beyond what it stores is prepared, or about to be."""
        async with asyncio.timeout(60):
            while self.cursor.read_at[1] < position:
                await asyncio.sleep(0.005)

    def total(self, name: str) -> dict[str, int]:
        return {channel: count for channel, count in self.metrics.totals(getattr(self.metrics, name)).items() if count}


def _numbers(start: int) -> range:
    return range(start, start + OF_A_FLUSH)


@asynccontextmanager
async def running(made: Rig) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(made.sink.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
        made.journal.close()


async def drained(made: Rig) -> None:
    async with running(made) as task:
        made.sink.finish()
        await asyncio.wait_for(task, 60)


async def stored(db: Database) -> list[int]:
    """The numbers of the ticks stored, in the order of their rows."""
    return [int(row["number"]) for row in await db.fetch("SELECT bid_volume AS number FROM market_ticks ORDER BY ctid")]


@asynccontextmanager
async def held_up(db: Database) -> AsyncIterator[None]:
    """No row gets into the table meanwhile."""
    async with db.transaction():
        await db.execute("LOCK TABLE market_ticks IN ACCESS EXCLUSIVE MODE")
        yield


async def test_one_flush_and_no_more_is_read_ahead(db: Database, database: DatabaseForTest, tmp_path: Path) -> None:
    made = Rig(tmp_path, database.dsn)
    async with running(made) as task:
        async with held_up(db):
            await made.fill()
            await made.until_read(2)
            for _ in range(50):
                await asyncio.sleep(0)
            assert made.cursor.read_at[1] == 2
            assert made.cursor.pending == {"ticks": BATCHES * OF_A_FLUSH}
        made.sink.finish()
        await asyncio.wait_for(task, 60)
    assert await stored(db) == list(range(BATCHES * OF_A_FLUSH))


async def test_what_comes_while_the_server_is_busy_goes_with_the_next_flush(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    """Its time is long over when the server is done: a flush of one record each would fall ever further behind."""
    made = Rig(tmp_path, database.dsn)
    async with running(made) as task:
        async with held_up(db):
            await made.journal.append([tick(1)])
            await made.until_read(1)
            for number in range(2, 8):
                await made.journal.append([tick(number)])
                await made.until_read(number)
        made.sink.finish()
        await asyncio.wait_for(task, 60)
    assert made.metrics.totals(made.metrics.flushes, "sink") == {"timescale": 2}


@pytest.mark.parametrize("way", ["cancelled", "told to stop"])
async def test_stopped_with_a_flush_prepared_the_next_start_stores_the_rest_once(
    db: Database, database: DatabaseForTest, tmp_path: Path, way: str
) -> None:
    made = Rig(tmp_path, database.dsn)
    async with running(made) as task:
        async with held_up(db):
            await made.fill()
            await made.until_read(2)
            if way == "cancelled":
                task.cancel()
                await asyncio.wait({task})
        if way == "told to stop":
            made.sink.finish()
            await asyncio.wait_for(task, 60)
    assert {other for other in asyncio.all_tasks() if other is not asyncio.current_task()} == set()
    again = Rig(tmp_path, database.dsn)
    await again.fill(first=BATCHES * OF_A_FLUSH)
    await drained(again)
    assert sorted(await stored(db)) == list(range(2 * BATCHES * OF_A_FLUSH))
    counted = made.total("stored").get("ticks", 0) + again.total("stored")["ticks"]
    assert counted == 2 * BATCHES * OF_A_FLUSH


async def test_given_up_at_the_stop_a_prepared_flush_stays_in_the_journal(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    """The server goes away for good while one flush is with it and one is prepared."""
    connections = 0

    async def connect() -> Database:
        nonlocal connections
        connections += 1
        if connections > 1:
            raise ConnectionLost("gone for good")
        return await made.connect()

    made = Rig(tmp_path, database.dsn, connect)
    async with running(made) as task, held_up(db):
        await made.fill()
        await made.until_read(2)
        await db.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        made.sink.finish()
        await asyncio.wait_for(task, 60)
    assert made.cursor.pending_records == BATCHES * OF_A_FLUSH
    assert await stored(db) == []
    await drained(Rig(tmp_path, database.dsn))
    assert sorted(await stored(db)) == list(range(BATCHES * OF_A_FLUSH))


async def test_a_lost_reply_with_the_next_flush_prepared(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    LosesReplies.lose(cycle([True, False]))

    async def connect() -> Database:
        return await LosesReplies.connect(database.dsn, call_timeout_s=5)

    made = Rig(tmp_path, database.dsn, connect)
    await made.fill()
    await drained(made)
    assert await stored_in_order(db) == list(range(BATCHES * OF_A_FLUSH))
    assert made.total("stored") == {"ticks": BATCHES * OF_A_FLUSH}
    assert made.total("duplicate") == {}
    assert made.metrics.totals(made.metrics.commits_resolved, "outcome") == {"committed": BATCHES // 2}


async def stored_in_order(db: Database) -> list[int]:
    return [int(row["number"]) for row in await db.fetch("SELECT bid_volume AS number FROM market_ticks ORDER BY time")]


async def test_somebody_elses_step_while_a_flush_is_prepared(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    """What is prepared from where the position no longer is, is prepared again from where it is."""
    made = Rig(tmp_path, database.dsn)
    async with running(made) as task:
        async with held_up(db):
            await made.fill()
            await made.until_read(2)
            # The second flush, by a writer whose transaction becomes visible together with the first's.
            moved = asyncio.create_task(_advance_after(database.dsn, 1, 2))
        await moved
        made.sink.finish()
        await asyncio.wait_for(task, 60)
    skipped = set(_numbers(OF_A_FLUSH))
    missing = set(range(BATCHES * OF_A_FLUSH)) - set(await stored(db))
    assert missing in (set(), skipped)  # the sink may have been the quicker one; nothing else is ever left out
    assert len(await stored(db)) == BATCHES * OF_A_FLUSH - len(missing)


async def _advance_after(dsn: str, seen: int, to: int) -> None:
    other = await Database.connect(dsn)
    try:
        async with asyncio.timeout(60):
            while (await other.fetchval("SELECT max(position) FROM ingest_positions") or 0) < seen:
                await asyncio.sleep(0)
        await other.execute("UPDATE ingest_positions SET position = $2 WHERE position = $1", seen, to)
    finally:
        await other.close()


async def test_a_title_that_ends_while_a_flush_is_prepared_stores_nothing_of_the_next_term(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    """The flush is prepared as the leader's, and written after another has taken the lease."""
    term = await leases.take(db, OLD, None, 60)
    assert term is not None
    before = now_us()
    made = Rig(tmp_path, database.dsn, title=Title(OLD))
    first: list[Record] = [tick(number, received_at=before) for number in range(OF_A_FLUSH)]
    mine: list[Record] = [tick(100 + number, received_at=before) for number in range(OF_A_FLUSH // 2)]
    async with running(made) as task:
        await made.journal.append([trade(1, received_at=before)])
        async with asyncio.timeout(60):
            while not made.total("stored"):
                await asyncio.sleep(0.005)
        async with held_up(db):
            await made.journal.append(first)
            await made.until_read(2)
            after = now_us() + 3_000_000
            others: list[Record] = [tick(200 + number, received_at=after) for number in range(OF_A_FLUSH // 2)]
            await made.journal.append([*mine, *others])
            await made.until_read(3)
            taker = await Database.connect(database.dsn)
            await taker.execute("UPDATE ingest_leases SET expires_at = clock_timestamp()")
            assert await leases.take(taker, NEW, term, 60) is not None
            await taker.close()
        made.sink.finish()
        await asyncio.wait_for(task, 60)
    assert await db.fetchval("SELECT count(*) FROM market_ticks") == len(first) + len(mine)
    assert made.total("stored") == {"trades": 1, "ticks": len(first) + len(mine)}
    assert made.total("duplicate") == {"ticks": len(others)}
    assert "ingestd_lease_fenced_total 1.0" in exposed(made.metrics)
