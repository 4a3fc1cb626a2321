"""A reader of topics that are kept in memory, with a real database behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ingestd.kafka.messages import Consumer, Membership
from ingestd.ops.metrics import Metrics
from ingestd.records import Record
from ingestd.sources.base import ReaderLimits, Store
from ingestd.sources.market_topics import MarketStore
from ingestd.sources.partitions import position_source
from ingestd.sources.reader import TopicReader
from ingestd.sources.trading_events import EventTopics
from ingestd.storage.database import Database
from ingestd.validation import TimeWindow
from ingestd.venues.market_names import Names
from tests.support.topic_log import MemoryConsumer, TopicLog


class Topics:
    """Topics of one partition each in memory, and a real database behind the reader."""

    def __init__(self, dsn: str, exchanges: Sequence[str] = ()) -> None:
        self.dsn = dsn
        self.broker = TopicLog(partitions=1)
        self.metrics = Metrics(exchanges)
        self.reader: TopicReader | None = None
        self.store: Store | None = None

    @asynccontextmanager
    async def reading(self, events: bool = False) -> AsyncIterator[None]:
        """A member that has read everything when the block begins, and again when it ends."""
        if events:
            self.store = EventTopics("wolfinch", self.metrics)
        else:
            self.store = MarketStore(
                "wolfinch", lambda _now: TimeWindow({}, 10**16), self.metrics, sent=Names(), stored=Names()
            )
        limits = ReaderLimits(flush_s=0.002, max_records=5000, session_timeout_s=1, stalled_after_s=5)
        self.reader = TopicReader(self.store, self._consumer, self._connect, "wolfinch", limits, self.metrics)
        task = asyncio.create_task(self.reader.run())
        try:
            await self.until_stored()
            yield
            await self.until_stored()
            self.reader.finish()
            await asyncio.wait_for(task, 10)
        finally:
            task.cancel()
            await asyncio.wait({task})

    def _consumer(self, topics: Sequence[str], membership: Membership) -> Consumer:
        return MemoryConsumer(self.broker, topics, membership)

    async def _connect(self) -> Database:
        return await Database.connect(self.dsn, call_timeout_s=5)

    def send(self, record: Record, journal: str, position: int, index: int = 0) -> None:
        self.broker.append_record(record, journal, position, index)

    def send_raw(self, topic: str, value: bytes, header: bytes | None) -> None:
        self.broker.append(topic, b"k", value, [("ingestd-position", header)])

    async def until_stored(self) -> None:
        """Until the position rows are where the topics end: nothing stands still."""
        async with self.database() as db, asyncio.timeout(60):
            while not self.broker.log or not await self._is_stored(db):
                await asyncio.sleep(0.002)

    async def _is_stored(self, db: Database) -> bool:
        rows = await db.fetch("SELECT source, position FROM ingest_positions WHERE starts_with(source, 'kafka:')")
        places = {row["source"]: row["position"] for row in rows}
        ends = {position_source("wolfinch", part): self.broker.end(part) for part in self.broker.log}
        return all(places.get(source, 0) == end for source, end in ends.items())

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        db = await Database.connect(self.dsn)
        try:
            yield db
        finally:
            await db.close()

    async def ask(self, sql: str) -> Any:
        async with self.database() as db:
            return await db.fetchval(sql)

    def total(self, name: str) -> int:
        return sum(
            self.metrics.totals(getattr(self.metrics, name), by="source" if "places" in name else "sink").values()
        )

    def problem(self) -> str:
        assert self.reader is not None
        return self.reader.reading().problem or ""
