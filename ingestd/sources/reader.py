"""One member of a consumer group: takes messages, and stores them with their offsets in one transaction, exactly once.

The row in `ingest_positions` decides, not the offset that the broker keeps. A member that is assigned a partition
raises the row's epoch, which fences off the previous member, and begins at the row's offset (`claims`). When a member
loses a partition it drops the messages it has not stored, and the new owner reads them again. Offsets are committed to
the broker only for tools that watch the group's lag.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from ingestd.clock import monotonic_s, wait_at_most
from ingestd.config.models import DatabaseConfig, KafkaConfig
from ingestd.errors import ConnectionLost, KafkaError, Reaction, reaction_to
from ingestd.kafka.consumer import GroupConsumer
from ingestd.kafka.messages import Consumer, Membership, Part
from ingestd.ops.health import SourceHealth
from ingestd.ops.metrics import Metrics
from ingestd.retry import Backoff
from ingestd.sinks.retry import PersistentWriter, kind_of
from ingestd.sources.assignment import Assignment
from ingestd.sources.base import ReaderLimits, ReaderStatus, Store
from ingestd.sources.claims import Claims
from ingestd.sources.holdings import Holdings
from ingestd.sources.partitions import REPLAY_PREFIX
from ingestd.sources.storing import Storing
from ingestd.sources.watch import BrokerWatch
from ingestd.status import SinkStatus
from ingestd.storage.database import Database
from ingestd.storage.writer import positions

log = structlog.get_logger()

_COMMIT_EVERY_S = 1.0
_MARKS_KEPT_DAYS = 90


class TopicReader:
    """Reads one store's topics until `finish`, when held messages are stored or left to other members."""

    def __init__(
        self,
        store: Store,
        make_consumer: Callable[[Sequence[str], Membership], Consumer],
        connect: Callable[[], Awaitable[Database]],
        source_prefix: str,
        limits: ReaderLimits,
        metrics: Metrics,
    ) -> None:
        self.name = store.name
        self._store = store
        self._assignment = Assignment()
        self._make_consumer = make_consumer
        self._limits = limits
        self._metrics = metrics
        self._watch = BrokerWatch(self.name, metrics)
        self._holdings = holdings = Holdings(store, self._assignment, limits, metrics)
        self._writer = writer = PersistentWriter(
            self.name, connect, metrics, holdings.count, logs_outages=limits.logs_outages
        )
        self._storing = Storing(store, self._assignment, holdings, writer, limits, metrics)
        self._claims = Claims(self._assignment, holdings, writer, limits, metrics, source_prefix, store.uses_marks)
        self._joined = False
        self._problem: str | None = "it has not reached the broker yet"
        self._committed_s = 0.0  # monotonic time of the last commit to the broker

    def status(self) -> SinkStatus:
        """The state of the database connection."""
        return self._writer.status

    def reading(self) -> ReaderStatus:
        """The state of reading from the broker."""
        joined = self._joined and self._watch.answers
        problem = self._problem or self._watch.problem or self._holdings.doubts.problem
        return ReaderStatus(joined, len(self._holdings.partitions), self._lag(), problem)

    def health(self, *, needed: bool) -> SourceHealth:
        """The reader's health. `needed`: the daemon is not ready without this reader."""
        reading = self.reading()
        return SourceHealth(self.name, reading.joined, reading.problem, needed)

    def show(self) -> None:
        """Update the gauges of this reader."""
        reading, metrics = self.reading(), self._metrics
        metrics.source_up.labels(self.name).set(reading.joined)
        metrics.source_partitions.labels(self.name).set(reading.partitions)
        metrics.source_lag.labels(self.name).set(reading.lag)
        metrics.sink_lag_records.labels(self.name).set(reading.lag)
        for channel, count in self.held().items():
            metrics.in_journal.labels(channel).set(count)

    def held(self) -> dict[str, int]:
        """The number of messages taken and not yet stored or released, by channel. A channel stays, with 0."""
        return self._holdings.by_channel()

    def finish(self) -> None:
        """Stop reading; store the held messages and leave the group."""
        self._writer.finish_asked.set()

    async def run(self) -> None:
        backoff = Backoff(base_s=0.2, cap_s=5.0)
        finish_asked = self._writer.finish_asked
        try:
            await self._writer.until_done(
                lambda database: positions.forget(database, REPLAY_PREFIX, older_than_days=_MARKS_KEPT_DAYS)
            )
            while not finish_asked.is_set():
                try:
                    await self._be_member(backoff)
                except (KafkaError, ConnectionLost) as error:
                    delay_s = backoff.next_s()
                    self._note(error, backoff, delay_s)
                    await wait_at_most(delay_s, finish_asked)
        finally:
            self._writer.disconnect()

    def assigned(self, parts: Sequence[Part]) -> None:
        """Take an assignment. The consumer has paused these partitions, which must first be claimed in the database."""
        log.info("partitions_assigned", source=self.name, partitions=sorted(parts))
        self._joined, self._problem = True, None
        if self._assignment.begin(parts):
            self._store.taken_over()

    async def revoked(self, parts: Sequence[Part]) -> None:
        """Give up these partitions: wait a while for a transaction in progress, and release other held messages."""
        self._assignment.revoke(parts)
        self._holdings.lose(parts)
        # A transaction that takes longer does no harm: the new owner's claim fences it off.
        await wait_at_most(self._limits.session_timeout_s / 3, self._holdings.idle)

    async def _be_member(self, backoff: Backoff) -> None:
        assignment, holdings = self._assignment, self._holdings
        consumer = assignment.consumer = self._make_consumer(self._store.topics(), self)
        try:
            await consumer.start()
            self._watch.begin(consumer, lambda: assignment.parts)
            while not self._writer.finish_asked.is_set():
                if parts := assignment.to_claim():
                    await self._storing.flush()  # store first: a claim waits until the database answers
                    ends = await self._claims.claim(parts, consumer)
                    self._watch.ends.update(ends)
                holdings.take(await consumer.poll(holdings.poll_s(), holdings.room()))
                if holdings.is_due():
                    await self._storing.flush()
                    backoff.settled()
                if monotonic_s() >= self._committed_s + _COMMIT_EVERY_S:
                    await self._commit(consumer)
            await self._storing.flush()
            await self._commit(consumer)
        finally:
            self._joined = False
            assignment.consumer = None
            await self._watch.end()
            await consumer.stop()
            assignment.end()
            holdings.lose(list(holdings.partitions))

    def _note(self, error: KafkaError | ConnectionLost, backoff: Backoff, delay_s: float) -> None:
        self._problem = str(error)
        self._metrics.sink_errors.labels(self.name, kind_of(error)).inc()
        if alarming := reaction_to(error) is Reaction.PAUSE:
            self._metrics.sink_alarms.labels(self.name).inc()
        if backoff.is_logged(error):
            report = getattr(log, self._writer.level_of(error, alarming=alarming))
            event = "source_lost_broker" if self._assignment.had_some else "source_waits_for_broker"
            attempts, retry_in_s = backoff.attempts, round(delay_s, 1)
            report(event, source=self.name, error=str(error), attempts=attempts, retry_in_s=retry_in_s)

    async def _commit(self, consumer: Consumer) -> None:
        self._committed_s = monotonic_s()
        offsets, committed = self._stored_offsets(), self._assignment.committed
        if news := {part: offset for part, offset in offsets.items() if committed.get(part) != offset}:
            await consumer.commit(news)
            self._assignment.committed = offsets

    def _stored_offsets(self) -> dict[Part, int]:
        return {part: partition.place.position for part, partition in self._holdings.partitions.items()}

    def _lag(self) -> int:
        """The number of messages behind the end. An unclaimed partition counts from its last committed offset."""
        offsets, ends = {**self._assignment.committed, **self._stored_offsets()}, self._watch.ends
        return sum(max(0, ends.get(part, 0) - offsets[part]) for part in self._assignment.parts if part in offsets)


def build_reader(
    store: Store,
    instance: str,
    kafka: KafkaConfig,
    database: DatabaseConfig,
    connect: Callable[[], Awaitable[Database]],
    metrics: Metrics,
    *,
    logs_outages: bool = True,
) -> TopicReader:
    """Build a reader of this store's topics, in a group of its own: `group_id-market` or `group_id-events`."""

    def make_consumer(topics: Sequence[str], membership: Membership) -> Consumer:
        group_id = f"{kafka.group_id}-{store.name}"
        return GroupConsumer(topics, membership, config=kafka, client_id=f"ingestd {instance}", group_id=group_id)

    limits = ReaderLimits(
        flush_s=database.flush_ms / 1000,
        max_records=database.max_flush_records,
        session_timeout_s=kafka.session_timeout_s,
        stalled_after_s=database.flush_timeout_s,
        logs_outages=logs_outages,
    )
    return TopicReader(store, make_consumer, connect, kafka.topic_prefix, limits, metrics)
