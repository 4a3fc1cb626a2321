"""Readers of a consumer group on a real broker and a real database, and what they stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from ingestd.config.models import DatabaseConfig, KafkaConfig
from ingestd.kafka import envelope
from ingestd.kafka.messages import Part
from ingestd.kafka.producer import Message, Producer, partition_for
from ingestd.ops.metrics import Metrics
from ingestd.records import Record
from ingestd.sources.base import Store
from ingestd.sources.market_topics import MarketStore
from ingestd.sources.reader import TopicReader, build_reader
from ingestd.storage.database import Database
from ingestd.validation import TimeWindow
from ingestd.venues.market_names import Names
from tests.support.topics import headers_of, topic_of

MakeStore = Callable[[KafkaConfig, Metrics], Store]


def market_store(config: KafkaConfig, metrics: Metrics) -> Store:
    """Accepts records of any time."""
    return MarketStore(config.topic_prefix, lambda _now: TimeWindow({}, 10**16), metrics, sent=Names(), stored=Names())


class Member:
    """One reader and its task."""

    def __init__(
        self,
        config: KafkaConfig,
        dsn: str,
        make_store: MakeStore = market_store,
        connect: Callable[[], Awaitable[Database]] | None = None,
    ) -> None:
        self.metrics = Metrics()
        config = config.model_copy(update={"group.id": f"{config.topic_prefix}-market"})  # each test has its own
        self.reader: TopicReader = build_reader(
            make_store(config, self.metrics),
            "member",
            config,
            DatabaseConfig(dsn=dsn, flush_ms=10),
            connect or (lambda: Database.connect(dsn, application_name="ingestd member", call_timeout_s=5)),
            self.metrics,
        )
        self.assigned: set[Part] = set()  # by the group; it reads them once the database has told where
        self._watch_assignments()
        self.task = asyncio.create_task(self.reader.run())

    def _watch_assignments(self) -> None:
        assign, revoke = self.reader.assigned, self.reader.revoked

        def assigned(parts: Sequence[Part]) -> None:
            self.assigned = set(parts)
            assign(parts)

        async def revoked(parts: Sequence[Part]) -> None:
            self.assigned.difference_update(parts)
            await revoke(parts)

        self.reader.assigned, self.reader.revoked = assigned, revoked  # type: ignore[method-assign]

    def total(self, name: str) -> dict[str, int]:
        return {channel: count for channel, count in self.metrics.totals(getattr(self.metrics, name)).items() if count}

    async def until_joined(self, timeout_s: float = 60) -> None:
        async with asyncio.timeout(timeout_s):
            while not self.reader.reading().joined or not self.reader.reading().partitions:
                await asyncio.sleep(0.01)

    async def leave(self) -> None:
        """The orderly end."""
        self.reader.finish()
        await asyncio.wait_for(self.task, 60)

    async def crash(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})

    def balance(self) -> int:
        """What was received and is not accounted for; must be 0 at a quiet moment."""
        came = sum(self.total("received").values())
        return came - sum(
            sum(self.total(name).values()) for name in ("stored", "duplicate", "rejected", "dropped", "released")
        )


@asynccontextmanager
async def member(config: KafkaConfig, dsn: str, make_store: MakeStore = market_store) -> AsyncIterator[Member]:
    """Runs a reader; leaving the block ends it in order."""
    made = Member(config, dsn, make_store)
    try:
        yield made
        await made.leave()
    finally:
        await made.crash()


def market_messages(
    config: KafkaConfig, journal_id: str, position: int, records: Sequence[Record]
) -> list[tuple[str, Message]]:
    """The messages that the Kafka sink would send for one batch of a journal, with their topics."""
    return [
        (
            topic_of(config.topic_prefix, record),
            (
                record.received_at // 1000,
                envelope.key(record),
                envelope.encode(record),
                headers_of(journal_id, position, index),
            ),
        )
        for index, record in enumerate(records)
    ]


async def publish(config: KafkaConfig, messages: Sequence[tuple[str, Message]]) -> None:
    """Send these, in order within each partition."""
    producer = await Producer.connect(config, "test", sorted({topic for topic, _ in messages}))
    try:
        parts: dict[tuple[str, int], list[Message]] = {}
        for topic, message in messages:
            place = topic, partition_for(message[1], await producer.partitions(topic))
            parts.setdefault(place, []).append(message)
        for (topic, number), left in parts.items():
            while left:
                left = left[await producer.send(topic, number, left) :]
    finally:
        await producer.close()


async def until(db: Database, sql: str, wanted: object, timeout_s: float = 60) -> None:
    """Wait until the query's one value is this."""
    found = None
    try:
        async with asyncio.timeout(timeout_s):
            while (found := await db.fetchval(sql)) != wanted:
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{sql} is {found}, not {wanted}") from None
