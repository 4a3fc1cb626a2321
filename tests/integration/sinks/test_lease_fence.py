"""The fence in front of every flush: who does not know the leader stores nothing, who does stores what is its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingestd.clock import now_us
from ingestd.config.models import DatabaseConfig, JournalConfig
from ingestd.errors import Fenced
from ingestd.journal.journal import Journal
from ingestd.ops.metrics import Metrics
from ingestd.records import Candle, Record
from ingestd.sinks.timescale.sink import TimescaleSink
from ingestd.storage import leases
from ingestd.storage.database import Database
from ingestd.storage.leases import Fence, Tenant, Title
from ingestd.storage.writer.positions import Move, advance
from tests.support.exposed import exposed
from tests.support.postgres import DatabaseForTest
from tests.support.records import book, tick, trade

OLD, NEW = Tenant("desk", "host-a"), Tenant("desk", "host-b")
S = 1_000_000


class Rig:
    """One host's journal and sink; the sink stores by the old leader's title."""

    def __init__(self, state_dir: Path, database: DatabaseForTest) -> None:
        self.metrics = Metrics()
        self.journal = Journal(state_dir, JournalConfig(), self.metrics)
        self.journal.open()
        self.sink = TimescaleSink(
            cursor=self.journal.cursor("timescale"),
            journal_ids=lambda: self.journal.journal_ids,
            connect=lambda: Database.connect(database.dsn, call_timeout_s=5),
            config=DatabaseConfig(dsn=database.dsn, flush_ms=5),
            metrics=self.metrics,
            title=Title(OLD),
        )

    def total(self, name: str) -> dict[str, int]:
        return {channel: count for channel, count in self.metrics.totals(getattr(self.metrics, name)).items() if count}

    async def until_stored(self, trades: int) -> None:
        async with asyncio.timeout(60):
            while self.total("stored").get("trades", 0) < trades:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def rig(state_dir: Path, database: DatabaseForTest) -> AsyncIterator[Rig]:
    """Runs the sink; leaving the block drains it."""
    made = Rig(state_dir, database)
    task = asyncio.create_task(made.sink.run())
    try:
        yield made
        made.sink.finish()
        await asyncio.wait_for(task, 60)
    finally:
        task.cancel()
        await asyncio.wait({task})
        made.journal.close()


def candle(at: int) -> Candle:
    return Candle("binance", "BTC/USDT", at - 5 * S, at, "1m", "1", "2", "1", "2", "3")


async def test_a_leader_that_was_replaced_stores_what_is_its_own_and_nothing_else(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    """It flushes as leader, is replaced without hearing of it, and flushes again."""
    term = await leases.take(db, OLD, None, 60)
    assert term is not None
    async with rig(tmp_path, database) as old:
        before = now_us()
        await old.journal.append([trade(1, received_at=before), tick(1, received_at=before)])
        await old.until_stored(1)
        await db.execute("UPDATE ingest_leases SET expires_at = now()")
        replaced = await leases.take(db, NEW, term, 60)
        assert replaced is not None
        after = now_us() + S
        mine: list[Record] = [
            trade(2, received_at=before), tick(2, received_at=before), book(2, received_at=before)
        ]  # fmt: skip
        others: list[Record] = [
            trade(3, received_at=after), tick(3, received_at=after), book(3, received_at=after), candle(after),
            candle(before),
        ]  # fmt: skip
        await old.journal.append([*mine, *others])
        await old.until_stored(3)
    assert await db.fetchval("SELECT string_agg(trade_id, ' ' ORDER BY seq) FROM trades") == "1 2 3"
    assert await db.fetchval("SELECT count(*) FROM market_ticks") == 2
    assert await db.fetchval("SELECT count(*) FROM order_book") == 1
    assert await db.fetchval("SELECT count(*) FROM ohlcv_data") == 0
    assert old.total("stored") == {"trades": 3, "ticks": 2, "order_book": 1}
    assert old.total("duplicate") == {"ticks": 1, "order_book": 1, "candles": 2}
    assert "ingestd_lease_fenced_total 1.0" in exposed(old.metrics)
    assert old.sink.status().attempts_failed == 0


async def test_the_new_leader_stores_everything_it_receives(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    """The one whose title the sink holds took over from the other."""
    first = await leases.take(db, NEW, None, 60)
    await db.execute("UPDATE ingest_leases SET expires_at = now()")
    assert await leases.take(db, OLD, first, 60) is not None
    at = now_us()
    async with rig(tmp_path, database) as made:
        await made.journal.append([trade(1, received_at=at), tick(1, received_at=at), candle(at)])
    assert made.total("stored") == {"trades": 1, "ticks": 1, "candles": 1}
    assert made.total("duplicate") == {}


async def test_a_fenced_transaction_leaves_nothing(db: Database) -> None:
    term = await leases.take(db, OLD, None, 60)
    await db.execute("INSERT INTO ingest_positions (source, position, epoch) VALUES ('journal:x', 0, 1)")
    await db.execute("UPDATE ingest_leases SET expires_at = now()")
    assert await leases.take(db, NEW, term, 60) is not None
    with pytest.raises(Fenced, match="held by host-b"):
        async with db.transaction():
            await advance(db, [Move("journal:x", 0, 5, 1)], Fence("desk", 1))
    assert await db.fetchval("SELECT position FROM ingest_positions") == 0
    async with db.transaction():
        await advance(db, [Move("journal:x", 0, 5, 1)], Fence("desk", 2))
    assert await db.fetchval("SELECT position FROM ingest_positions") == 5
