"""One member of a consumer group: takes messages, and stores them with their offsets in one transaction, exactly once.

The row in `ingest_positions` decides, not the offset that the broker keeps. A member that is given a partition raises
the row's epoch, which fences off the member that had it, and begins at the row's offset (`claims`). When it loses a
partition it drops what it has not stored, and the new owner reads that again. Offsets are committed to the broker only
for whoever watches the group's lag.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from ingestd.clock import monotonic_s, wait_at_most
from ingestd.errors import ConnectionLost, KafkaError, Reaction, reaction_to
from ingestd.kafka.messages import Consumer, Membership, Part
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
    """Reads one store's topics until `finish`. `run` ends when what is held is stored, or left to other members."""

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
        self._claims = Claims(
            self._assignment,
            holdings,
            writer,
            limits,
            metrics,
            source_prefix=source_prefix,
            with_marks=store.uses_marks,
        )
        self._joined = False
        self._problem: str | None = "it has not reached the broker yet"
        self._committed_s = 0.0  # when the broker was last told

    def status(self) -> SinkStatus:
        """The database's side."""
        return self._writer.status

    def reading(self) -> ReaderStatus:
        """The broker's side."""
        joined = self._joined and self._watch.answers
        problem = self._problem or self._watch.problem or self._holdings.doubts.problem
        return ReaderStatus(self.name, joined, len(self._holdings.partitions), self._lag(), problem)

    def held(self) -> dict[str, int]:
        """Messages taken and not yet settled, by channel; 0 for one that had some before."""
        return self._holdings.by_channel()

    def finish(self) -> None:
        """Take no more; store what is held and leave the group."""
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
        """Called by the consumer, which has paused these partitions: they are claimed in the database first."""
        log.info("partitions_assigned", source=self.name, partitions=sorted(parts))
        self._joined, self._problem = True, None
        if self._assignment.begin(parts):
            self._store.taken_over()

    async def revoked(self, parts: Sequence[Part]) -> None:
        """Called by the consumer: a transaction in progress may end, within limits; what else is held is released."""
        self._assignment.revoke(parts)
        self._holdings.lose(parts)
        # If it takes longer, nothing goes wrong: the new owner's claim fences it off.
        await wait_at_most(self._limits.session_timeout_s / 3, self._holdings.idle)

    async def _be_member(self, backoff: Backoff) -> None:
        assignment, holdings = self._assignment, self._holdings
        consumer = assignment.consumer = self._make_consumer(self._store.topics(), self)
        try:
            await consumer.start()
            self._watch.begin(consumer, lambda: assignment.parts)
            while not self._writer.finish_asked.is_set():
                if parts := assignment.to_claim():
                    await self._storing.flush()  # a claim lasts until the database answers: nothing may wait behind it
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
        """Where a partition is not claimed yet, because the database is away, the offset last committed counts."""
        offsets, ends = {**self._assignment.committed, **self._stored_offsets()}, self._watch.ends
        return sum(max(0, ends.get(part, 0) - offsets[part]) for part in self._assignment.parts if part in offsets)
