"""Any sequence of records, replays, rebalances, crashes and zombies leaves the tables equal to what was published.

A crash cuts a member at any await and drops its connection without a word. A zombie is a member that the group has
forgotten and that does not know: it goes on writing what it holds while others have its partitions. In some runs a
commit succeeds and its reply is lost. The model is the dictionary of `test_exactly_once`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.kafka.messages import Consumer, Membership
from ingestd.ops.metrics import Metrics
from ingestd.records import MarketRecord, Record
from ingestd.sources.base import ReaderLimits
from ingestd.sources.market_topics import MarketStore
from ingestd.sources.partitions import position_source
from ingestd.sources.reader import TopicReader
from ingestd.storage.database import Database
from ingestd.validation import TimeWindow
from ingestd.venues.market_names import Names
from tests.integration.property.test_exactly_once import TABLES, expected, stored
from tests.support.database_doubles import LosesReplies
from tests.support.postgres import DatabaseForTest
from tests.support.records import market_records
from tests.support.time_limits import examples
from tests.support.topic_log import MemoryConsumer, TopicLog


@dataclass(frozen=True)
class Publish:
    """The feed publishes a batch of its journal; `again`: it crashed before, and sends so many records once more."""

    records: tuple[MarketRecord, ...]
    again: int


@dataclass(frozen=True)
class Poison:
    """Somebody publishes what no record is."""

    value: bytes


@dataclass(frozen=True)
class Wait:
    """The members work for a moment."""

    ms: float


@dataclass(frozen=True)
class Join:
    """One more member."""


@dataclass(frozen=True)
class Crash:
    """A member is cut; the group notices at once."""

    member: int


@dataclass(frozen=True)
class Zombie:
    """The group forgets a member, which goes on."""

    member: int


@dataclass(frozen=True)
class LoseReplies:
    """The next commits succeed and say nothing."""

    count: int


publish = st.builds(Publish, st.lists(market_records(), min_size=1, max_size=20).map(tuple), st.integers(0, 30))
steps = st.lists(
    st.one_of(
        publish,
        publish,
        st.binary(max_size=20).map(Poison),
        st.floats(0, 60).map(Wait),
        st.just(Join()),
        st.integers(0, 3).map(Crash),
        st.integers(0, 3).map(Zombie),
        st.integers(1, 2).map(LoseReplies),
    ),
    min_size=1,
    max_size=14,
)


class Group:
    """The members and what was published."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.broker = TopicLog()
        self.members: list[tuple[TopicReader, asyncio.Task[None], Metrics]] = []
        self.crashed: list[Metrics] = []
        self.journal: list[tuple[Record, int, int]] = []
        self.position = 0
        self.poisoned = 0

    def join(self) -> None:
        metrics = Metrics()
        store = MarketStore("wolfinch", lambda _now: TimeWindow({}, 10**16), metrics, sent=Names(), stored=Names())
        reader = TopicReader(
            store,
            self.consumer,
            lambda: LosesReplies.connect(self.dsn, call_timeout_s=5, lock_timeout_s=2),
            "wolfinch",
            ReaderLimits(flush_s=0.002, max_records=15, session_timeout_s=0.1, stalled_after_s=1),
            metrics,
        )
        self.members.append((reader, asyncio.create_task(reader.run()), metrics))

    def consumer(self, topics: Sequence[str], membership: Membership) -> Consumer:
        return MemoryConsumer(self.broker, topics, membership)

    def consumer_of(self, index: int) -> MemoryConsumer | None:
        reader = self.members[index % len(self.members)][0]
        return next((member for member in self.broker.members if member.membership is reader), None)

    async def is_at_work(self) -> None:
        """Until every partition is claimed: from here on the steps meet members that read and write."""
        async with asyncio.timeout(60):
            while not 0 < len(self.broker.log) == sum(reader.reading().partitions for reader, _, _ in self.members):
                await asyncio.sleep(0.002)

    async def crash(self, index: int) -> None:
        consumer = self.consumer_of(index)
        _, task, _ = self.members.pop(index % len(self.members))
        if consumer is not None:  # or its goodbye would be told to the group
            self.broker.members.remove(consumer)
        task.cancel()
        await asyncio.wait({task})
        await self.broker.rebalance()

    def publish(self, step: Publish) -> None:
        for record, position, index in self.journal[-step.again :] if step.again else []:
            self.broker.append_record(record, "feed", position, index)
        self.position += 1
        for index, record in enumerate(step.records):
            self.journal.append((record, self.position, index))
            self.broker.append_record(record, "feed", self.position, index)

    async def settle(self) -> None:
        """Until the rows are where the topics end."""
        if not self.members:
            self.join()
        db = await Database.connect(self.dsn)
        try:
            async with asyncio.timeout(60):
                while not await self.is_stored(db):
                    await asyncio.sleep(0.005)
        finally:
            await db.close()
        for reader, task, _ in self.members:
            reader.finish()
            await asyncio.wait_for(task, 60)

    async def is_stored(self, db: Database) -> bool:
        rows = await db.fetch("SELECT source, position FROM ingest_positions WHERE starts_with(source, 'kafka:')")
        places = {row["source"]: row["position"] for row in rows}
        ends = {position_source("wolfinch", part): self.broker.end(part) for part in self.broker.log}
        return all(places.get(source, 0) == end for source, end in ends.items())


async def play(script: list[object], dsn: str) -> Group:
    LosesReplies.lose(iter(()))
    group = Group(dsn)
    group.join()
    group.join()
    await group.is_at_work()
    for step in script:
        if isinstance(step, Publish):
            group.publish(step)
        elif isinstance(step, Poison):
            group.broker.append("wolfinch.market.trades", step.value, step.value)
            group.poisoned += 1
        elif isinstance(step, Wait):
            await asyncio.sleep(step.ms / 1000)
        elif isinstance(step, Join) and len(group.members) < 4:
            group.join()
        elif isinstance(step, Crash) and group.members:
            await group.crash(step.member)
        elif isinstance(step, Zombie) and group.members:
            consumer = group.consumer_of(step.member)
            if consumer is not None and len(group.broker.members) > 1:
                await group.broker.forget(consumer)
        elif isinstance(step, LoseReplies):
            LosesReplies.lose(repeat(True, step.count))
    # A forgotten member that never hears of the group again reads nothing more; somebody else must be there.
    group.join()
    await group.settle()
    return group


async def check(script: list[object], dsn: str) -> None:
    db = await Database.connect(dsn)
    try:
        await db.execute(f"TRUNCATE {', '.join(TABLES)}, ingest_positions")
        group = await play(script, dsn)
        found, wanted = await stored(db), expected([record for record, _, _ in group.journal])
        assert found.pop("rejected_records").total() == group.poisoned
        wanted.pop("rejected_records")
        # Of two candles of one key in different transactions the later wins, as published: one key, one partition.
        assert found == wanted
        for _, _, metrics in group.members:
            totals = metrics.totals
            came = sum(totals(metrics.received).values())
            counters = (metrics.stored, metrics.duplicate, metrics.rejected, metrics.dropped, metrics.released)
            assert came == sum(sum(totals(counter).values()) for counter in counters), "a member counted wrongly"
    finally:
        await db.close()


@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=steps)
def test_the_tables_equal_the_topics(postgres_database: DatabaseForTest, script: list[object]) -> None:
    asyncio.run(check(script, postgres_database.dsn))
