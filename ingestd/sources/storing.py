"""Stores the messages that a member of the group holds, and their offsets, in one transaction.

Repeats the transaction until it succeeds, other members have taken the partitions over, or the daemon stops.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from ingestd.clock import monotonic_s
from ingestd.errors import ConnectionLost, KafkaError, NoneTaken, Superseded
from ingestd.kafka.messages import Message
from ingestd.ops.metrics import Metrics
from ingestd.sinks.retry import PersistentWriter
from ingestd.sources.assignment import Assignment
from ingestd.sources.base import Prepared, ReaderLimits, Store
from ingestd.sources.holdings import Holdings
from ingestd.storage.database import Database
from ingestd.storage.leases import disconnect_stalled
from ingestd.storage.writer import positions

log = structlog.get_logger()


@dataclass(slots=True)
class Storing:
    """Runs the transactions of one member of the consumer group."""

    store: Store
    assignment: Assignment
    holdings: Holdings
    writer: PersistentWriter[Database]
    limits: ReaderLimits
    metrics: Metrics
    _prepared: Prepared | None = None
    _in_doubt: bool = False  # a reply was lost, so the transaction may be committed

    async def flush(self) -> None:
        """Store all held messages. When this returns, each is stored or released."""
        holdings = self.holdings
        if not holdings.begin_storing():
            return
        started_s = monotonic_s()
        try:
            is_done = await self.writer.until_done(self._attempt, after_failure=self._doubt)
        finally:
            settled, prepared = holdings.end_storing(), self._prepared
            self._prepared, self._in_doubt = None, False
        if not is_done or not settled or prepared is None:
            holdings.release(settled)
            return
        took_s = monotonic_s() - started_s
        for partition in settled:
            for channel, count in partition.repeated.items():
                self.metrics.duplicate.labels(self.store.name, channel).inc(count)
            partition.stored()
        prepared.committed(took_s)

    def _doubt(self) -> None:
        self._in_doubt = True

    async def _attempt(self, database: Database) -> None:
        if self._in_doubt:
            if self._prepared is not None and await self._was_committed(database):
                self.metrics.commits_resolved.labels(self.store.name, "committed").inc()
                return
            self._in_doubt = False
        while self.holdings.storing:
            if self._prepared is None:
                self._prepared = self._prepare()
            try:
                await self._prepared.write(database)
            except Superseded as error:
                self._let_go(error.sources)
                self._prepared = None
            except NoneTaken:
                if not await self._take_more():
                    raise
                self._prepared = None
            else:
                return

    def _prepare(self) -> Prepared:
        storing = self.holdings.storing
        items = [item for partition in storing for item in partition.held]
        marks = {row: mark for partition in storing for row, mark in partition.mark_rows().items()}
        return self.store.prepare(items, [partition.move for partition in storing], marks)

    async def _was_committed(self, database: Database) -> bool:
        """Whether the transaction whose reply was lost is committed.

        It moves the offsets of all its partitions or of none, so one partition that nobody else has claimed decides.
        The lost session is ended first: a server that has not noticed the loss would keep the offsets' rows locked.
        """
        await disconnect_stalled(database, self.limits.stalled_after_s)
        storing = self.holdings.storing
        places = await positions.read(database, [partition.source for partition in storing])
        for partition in storing:
            place = places.get(partition.source)
            if place is not None and place.epoch == partition.place.epoch:
                return place.position == partition.next
        return False

    async def _take_more(self) -> bool:
        """Add new messages to the transaction, because a table refuses all rows of it: they may show what is at fault.

        False: no message came, or there is no room.
        """
        holdings, consumer = self.holdings, self.assignment.consumer
        messages: Sequence[Message] = ()
        if consumer is not None and holdings.count() < self.limits.max_records:
            with contextlib.suppress(KafkaError, ConnectionLost):  # the next poll reports the error
                messages = await consumer.poll(0.0, holdings.room())
        holdings.take(messages)
        holdings.add_to_storing()
        return bool(messages)

    def _let_go(self, sources: frozenset[str]) -> None:
        """Release the partitions of these sources: another member has claimed their rows of `ingest_positions`."""
        holdings, name = self.holdings, self.store.name
        lost = [partition for partition in holdings.storing if partition.source in sources]
        holdings.storing = [partition for partition in holdings.storing if partition.source not in sources]
        holdings.release(lost)
        self.store.taken_over()
        for partition in lost:
            self.metrics.sources_fenced.labels(name).inc()
            log.warning("partition_taken_over", source=name, partition=partition.part)
            # If the group still assigns the partition to this member after the session timeout, the other member has
            # lost it: claim it again.
            holdings.claim_again(partition.part, after_s=self.limits.session_timeout_s)
