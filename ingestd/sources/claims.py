"""Claims partitions in the database: fences off their previous member, and begins at the stored offset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from ingestd.kafka.messages import Consumer, Part
from ingestd.ops.metrics import Metrics
from ingestd.sinks.retry import PersistentWriter
from ingestd.sources.assignment import Assignment
from ingestd.sources.base import ReaderLimits
from ingestd.sources.holdings import Holdings
from ingestd.sources.partitions import Partition, rewind, take_over
from ingestd.storage.database import Database

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of one member. `with_marks`: repeated messages are recognised by their journals' marks."""

    assignment: Assignment
    holdings: Holdings
    writer: PersistentWriter[Database]
    limits: ReaderLimits
    metrics: Metrics
    source_prefix: str
    with_marks: bool

    async def claim(self, parts: Sequence[Part], consumer: Consumer) -> Mapping[Part, int]:
        """Claim these partitions, and read each from its stored offset. Return the end offsets of those claimed.

        Waits until the database answers. Partitions revoked meanwhile are left out.
        """
        assignment = self.assignment
        taken: list[Partition] = []
        number = assignment.number

        async def attempt(database: Database) -> None:
            nonlocal number
            number = assignment.number
            wanted = [part for part in parts if part in assignment.parts]
            limit_s = self.limits.stalled_after_s
            taken[:] = await take_over(database, self.source_prefix, wanted, limit_s, with_marks=self.with_marks)

        if not await self.writer.until_done(attempt) or not taken:
            return {}
        bounds = await consumer.bounds([partition.part for partition in taken])
        if not await self._rewind(taken, bounds) or number != assignment.number:
            return {}  # another member may have had them in between: claim again
        begun = [partition for partition in taken if assignment.claimed(partition.part)]
        for partition in begun:
            self._begin(partition, bounds[partition.part][0])
            consumer.begin(partition.part, partition.first_read)
        return {partition.part: bounds[partition.part][1] for partition in begun}

    async def _rewind(self, taken: Sequence[Partition], bounds: Mapping[Part, tuple[int, int]]) -> bool:
        """Reset the stored positions of recreated topics. False: stopping, and the database did not answer."""
        remade = [
            partition
            for partition in taken
            if partition.part in self.holdings.remade or partition.place.position > bounds[partition.part][1]
        ]
        firsts = {partition.part: bounds[partition.part][0] for partition in remade}
        self.holdings.remade -= set(firsts)
        return not remade or await self.writer.until_done(lambda database: rewind(database, remade, firsts))

    def _begin(self, partition: Partition, first: int) -> None:
        if lost := partition.begin(first):
            channel = partition.part[0].rpartition(".")[2]
            self.metrics.received.labels("", channel).inc(lost)
            self.metrics.dropped.labels(channel, "topic_retention").inc(lost)
            log.error("topic_deleted_unread_messages", partition=partition.part, messages=lost)
        self.holdings.partitions[partition.part] = partition
