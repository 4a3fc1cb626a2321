"""One member of a consumer group: takes messages, stores them with their offsets in one transaction, exactly once.

The position row is the truth: on assignment the reader raises the row's epoch, which fences off the member that had the
partition before, and begins at the row's offset. What a member still holds of a partition that it lost is released:
the new owner reads it again. The broker's own offsets are only told for whoever looks at the group's lag.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from ingestd.clock import monotonic_s, wait_at_most
from ingestd.errors import ConnectionLost, KafkaError, NoneTaken, Reaction, Superseded, reaction_to
from ingestd.kafka.messages import Consumer, Membership, Message, Part
from ingestd.ops.metrics import Metrics, count_by
from ingestd.retry import Backoff
from ingestd.sinks.retry import PersistentWriter, kind_of
from ingestd.sources.base import Prepared, ReaderLimits, ReaderStatus, Store
from ingestd.sources.doubts import Doubts
from ingestd.sources.partitions import REPLAY_PREFIX, Partition, released, rewind, take_over
from ingestd.sources.watch import BrokerWatch
from ingestd.status import SinkStatus
from ingestd.storage.database import Database
from ingestd.storage.stalled import disconnect_stalled
from ingestd.storage.writer import positions

log = structlog.get_logger()

_POLL_S = 0.25
_COMMIT_EVERY_S = 1.0
_MARKS_KEPT_DAYS = 90


class TopicReader:
    """Reads one store's topics until `finish`; `run` ends when what it holds is stored or left to the others."""

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
        self._make_consumer = make_consumer
        self._source_prefix = source_prefix
        self._limits = limits
        self._metrics = metrics
        self._writer = PersistentWriter(self.name, connect, metrics, waiting=self._count_held, tells=limits.tells)
        self._finish_asked = self._writer.finish_asked
        self._assigned: set[Part] = set()
        self._served: set[Part] = set()  # as the last assignment was, whatever became of it
        self._assignment = 0  # which one it is, counted
        self._to_claim: dict[Part, float] = {}  # and when: at once, or after a while where another member owns the row
        self._remade: set[Part] = set()  # of topics made anew, until the row says so
        self._partitions: dict[Part, Partition] = {}
        self._flying: list[Partition] = []
        self._landed = asyncio.Event()
        self._landed.set()
        self._held_since_s = 0.0
        self._joined = False
        self._problem: str | None = "it has not reached the broker yet"
        self._consumer: Consumer | None = None
        self._watch = BrokerWatch(self.name, metrics)
        self._doubts = Doubts(self.name, metrics)
        self._held_before: Counter[str] = Counter()
        self._told: dict[Part, int] = {}
        self._told_s = 0.0

    def status(self) -> SinkStatus:
        """The database's side."""
        return self._writer.status

    def reading(self) -> ReaderStatus:
        """The broker's side."""
        joined = self._joined and self._watch.answers
        problem = self._problem or self._watch.problem or self._doubts.problem
        return ReaderStatus(self.name, joined, len(self._partitions), self._lag(), problem)

    def held(self) -> dict[str, int]:
        """Messages taken and not yet settled, by channel; 0 for one that had some before."""
        counts = self._held_before = Counter(dict.fromkeys(self._held_before, 0))
        for partition in self._all_partitions():
            counts.update(item.channel for item in partition.held)
            counts.update(partition.repeated)
        return dict(counts)

    def finish(self) -> None:
        """Take no more; store what is held and leave the group."""
        self._finish_asked.set()

    async def run(self) -> None:
        backoff = Backoff(base_s=0.2, cap_s=5.0)
        try:
            await self._writer.until_done(
                lambda database: positions.forget(database, REPLAY_PREFIX, older_than_days=_MARKS_KEPT_DAYS)
            )
            while not self._finish_asked.is_set():
                try:
                    await self._as_member(backoff)
                except (KafkaError, ConnectionLost) as error:
                    delay_s = backoff.next_s()
                    self._note(error, backoff, delay_s)
                    await wait_at_most(delay_s, self._finish_asked)
        finally:
            self._writer.disconnect()

    def assigned(self, parts: Sequence[Part]) -> None:
        """Called by the consumer, which has paused them: they are claimed in the database first."""
        log.info("partitions_assigned", source=self.name, partitions=sorted(parts))
        self._joined, self._problem = True, None
        if self._served - set(parts):
            self._store.taken_over()
        self._assigned, self._served = set(parts), set(parts)
        self._assignment += 1
        self._to_claim = dict.fromkeys(parts, 0.0)

    async def revoked(self, parts: Sequence[Part]) -> None:
        """Called by the consumer: a flush in progress may finish, for a while; the rest is released."""
        self._assigned.difference_update(parts)
        for part in parts:
            self._to_claim.pop(part, None)
        lost = [self._partitions.pop(part) for part in parts if part in self._partitions]
        self._release([partition for partition in lost if partition not in self._flying])
        # Were it to take longer, nothing would go wrong: the new owner's claim fences it off.
        await wait_at_most(self._limits.session_timeout_s / 3, self._landed)

    async def _as_member(self, backoff: Backoff) -> None:
        consumer = self._consumer = self._make_consumer(self._store.topics(), self)
        try:
            await consumer.start()
            self._watch.begin(consumer, lambda: self._assigned)
            while not self._finish_asked.is_set():
                await self._claim(consumer)
                await self._take(await consumer.poll(self._poll_s(), self._room()))
                if self._is_due():
                    await self._flush()
                    backoff.settled()
                await self._tell_broker(consumer)
            await self._flush()
            await self._tell_broker(consumer, at_once=True)
        finally:
            self._joined = False
            self._consumer = None
            await self._watch.end()
            await consumer.stop()
            self._assigned.clear()
            self._to_claim.clear()
            self._release(list(self._partitions.values()))
            self._partitions.clear()

    def _note(self, error: KafkaError | ConnectionLost, backoff: Backoff, delay_s: float) -> None:
        self._problem = str(error)
        self._metrics.sink_errors.labels(self.name, kind_of(error)).inc()
        if alarming := reaction_to(error) is Reaction.PAUSE:
            self._metrics.sink_alarms.labels(self.name).inc()
        if backoff.is_logged(error):
            report = getattr(log, self._writer.level_of(error, alarming=alarming))
            event = "source_lost_broker" if self._served else "source_waits_for_broker"
            report(event, source=self.name, error=str(error), attempts=backoff.attempts, retry_in_s=round(delay_s, 1))

    async def _claim(self, consumer: Consumer) -> None:
        now_s = monotonic_s()
        due = sorted(part for part, due_s in self._to_claim.items() if due_s <= now_s)
        if not due:
            return
        await self._flush()  # the claims below repeat until the database answers; nothing may wait behind them
        taken: list[Partition] = []
        assignment = self._assignment

        async def attempt(database: Database) -> None:
            nonlocal assignment
            assignment = self._assignment
            wanted = [part for part in due if part in self._assigned]
            limit_s, with_marks = self._limits.stalled_after_s, self._store.heeds_places
            taken[:] = await take_over(database, self._source_prefix, wanted, limit_s, with_marks=with_marks)

        if not await self._writer.until_done(attempt) or not taken:
            return
        bounds = await consumer.bounds([partition.part for partition in taken])
        if not await self._rewind(taken, bounds) or assignment != self._assignment:
            return  # in between, another member may have had them: claim again
        for partition in taken:
            if partition.part in self._assigned and self._to_claim.pop(partition.part, None) is not None:
                self._choose_start(partition, bounds[partition.part][0])
                self._partitions[partition.part] = partition
                self._watch.ends[partition.part] = bounds[partition.part][1]
                consumer.begin(partition.part, partition.first_read)

    async def _rewind(self, taken: Sequence[Partition], bounds: Mapping[Part, tuple[int, int]]) -> bool:
        """Of topics that were made anew, store that nothing of them is. False: finishing, and no answer."""
        remade = [
            partition
            for partition in taken
            if partition.part in self._remade or partition.place.position > bounds[partition.part][1]
        ]
        firsts = {partition.part: bounds[partition.part][0] for partition in remade}
        self._remade -= set(firsts)
        return not remade or await self._writer.until_done(lambda database: rewind(database, remade, firsts))

    def _choose_start(self, partition: Partition, first: int) -> None:
        if lost := partition.begin(first):
            channel = partition.part[0].rpartition(".")[2]
            self._metrics.received.labels("", channel).inc(lost)
            self._metrics.dropped.labels(channel, "topic_retention").inc(lost)
            log.error("topic_deleted_unread_messages", partition=partition.part, messages=lost)

    async def _take(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        wanted = [message for message in messages if self._expects(message)]
        received: Counter[tuple[str, ...]] = Counter()
        for message, item in zip(wanted, self._store.read(wanted), strict=True):
            partition = self._partitions[item.part]
            if not self._held_since_s:
                self._held_since_s = monotonic_s()
            partition.next = item.offset + 1
            received[item.exchange, item.channel] += 1
            if partition.is_wanted(item, message):
                partition.held.append(item)
        count_by(self._metrics.received, received)
        self._doubts.look(self._partitions.values())

    def _expects(self, message: Message) -> bool:
        part = (message.topic, message.partition)
        partition = self._partitions.get(part)
        if partition is None:
            return False
        if message.offset >= partition.next:
            partition.proves_itself = False
            return True
        if partition.proves_itself and message.offset == partition.next - 1:
            partition.proves_itself = False
            if partition.never_had(message):
                self._remade.add(part)
                self._reclaim(part, after_s=0.0)
            return False
        if part not in self._to_claim:
            # The consumer went back: what was to come next is not in the topic any more. The claim finds out why.
            log.warning("topic_went_back", partition=part, offset=message.offset, expected=partition.next)
            self._reclaim(part, after_s=0.0)
        return False

    def _poll_s(self) -> float:
        if not self._held_since_s:
            return _POLL_S
        return max(0.0, min(_POLL_S, self._held_since_s + self._limits.flush_s - monotonic_s()))

    def _room(self) -> int:
        return max(1, self._limits.max_records - self._count_held())

    def _is_due(self) -> bool:
        if not self._held_since_s:
            return False
        due_s = self._held_since_s + self._limits.flush_s
        return monotonic_s() >= due_s or self._count_held() >= self._limits.max_records

    async def _flush(self) -> None:
        """Store what is held. When it returns, all of it is settled: stored, or released."""
        self._held_since_s = 0.0
        self._flying = [partition for partition in self._partitions.values() if partition.has_some]
        if not self._flying:
            return
        self._landed.clear()
        started_s = monotonic_s()
        try:
            prepared = await self._until_stored()
        finally:
            settled, self._flying = self._flying, []
            self._landed.set()
        if prepared is None:
            self._release(settled)
            return
        prepared.count(monotonic_s() - started_s)
        for partition in settled:
            for channel, count in partition.repeated.items():
                self._metrics.duplicate.labels(self.name, channel).inc(count)
            partition.stored()
        prepared.after_commit()

    async def _until_stored(self) -> Prepared | None:
        """Until what is flying is stored, or has been taken over by others: then None."""
        prepared: Prepared | None = None
        in_doubt = False

        def doubt() -> None:
            nonlocal in_doubt
            in_doubt = True

        async def attempt(database: Database) -> None:
            nonlocal prepared, in_doubt
            if in_doubt:
                if prepared is not None and await self._was_committed(database):
                    self._metrics.commits_resolved.labels(self.name, "committed").inc()
                    return
                in_doubt = False
            while self._flying:
                if prepared is None:
                    prepared = self._prepared()
                try:
                    await prepared.write(database)
                except Superseded as error:
                    self._fence(error.sources)
                    prepared = None
                except NoneTaken:
                    if not await self._take_company():
                        raise
                    prepared = None
                else:
                    return

        done = await self._writer.until_done(attempt, after_failure=doubt)
        return prepared if done and self._flying else None

    async def _take_company(self) -> bool:
        """Add what has come meanwhile to a flush of which a table takes nothing. False: nothing came, or was taken."""
        messages: Sequence[Message] = ()
        if self._consumer is not None and self._count_held() < self._limits.max_records:
            with contextlib.suppress(KafkaError, ConnectionLost):  # the next poll tells of it
                messages = await self._consumer.poll(0.0, self._room())
        await self._take(messages)
        self._flying += [more for more in self._partitions.values() if more.has_some and more not in self._flying]
        return bool(messages)

    def _prepared(self) -> Prepared:
        items = [item for partition in self._flying for item in partition.held]
        marks = {row: mark for partition in self._flying for row, mark in partition.mark_rows().items()}
        return self._store.prepare(items, [partition.move for partition in self._flying], marks)

    async def _was_committed(self, database: Database) -> bool:
        """Whether the transaction whose reply was lost took effect: it moved all of its rows, or none.

        A server that has not noticed the loss would keep its rows locked.
        """
        await disconnect_stalled(database, self._limits.stalled_after_s)
        places = await positions.read(database, [partition.source for partition in self._flying])
        for partition in self._flying:
            place = places.get(partition.source)
            if place is not None and place.epoch == partition.place.epoch:
                return place.position == partition.next
        return False

    def _fence(self, sources: frozenset[str]) -> None:
        """Another member owns these now: let go of them."""
        lost = [partition for partition in self._flying if partition.source in sources]
        self._flying = [partition for partition in self._flying if partition.source not in sources]
        self._release(lost)
        self._store.taken_over()
        for partition in lost:
            self._metrics.sources_fenced.labels(self.name).inc()
            log.warning("partition_taken_over", source=self.name, partition=partition.part)
            # Should the group still think that it is ours when the other should long have lost it, it is claimed again.
            self._reclaim(partition.part, after_s=self._limits.session_timeout_s)

    def _reclaim(self, part: Part, *, after_s: float) -> None:
        lost = self._partitions.pop(part, None)
        if lost is not None and lost not in self._flying:
            self._release([lost])
        if self._consumer is not None:
            self._consumer.pause(part)
        if part in self._assigned:
            self._to_claim[part] = monotonic_s() + after_s

    def _release(self, lost: list[Partition]) -> None:
        """Count what was taken of these and is left to whoever reads them next, from the row's offset."""
        count_by(self._metrics.released, released(lost))

    async def _tell_broker(self, consumer: Consumer, *, at_once: bool = False) -> None:
        if not at_once and monotonic_s() < self._told_s + _COMMIT_EVERY_S:
            return
        self._told_s = monotonic_s()
        places = {part: partition.place.position for part, partition in self._partitions.items()}
        news = {part: offset for part, offset in places.items() if self._told.get(part) != offset}
        if news:
            await consumer.commit(news)
            self._told = places

    def _all_partitions(self) -> list[Partition]:
        gone = [partition for partition in self._flying if self._partitions.get(partition.part) is not partition]
        return [*self._partitions.values(), *gone]

    def _count_held(self) -> int:
        return sum(len(partition.held) for partition in self._all_partitions())

    def _lag(self) -> int:
        """Of a partition that is not claimed yet, the database being away: by how far it was stored when last seen."""
        places = {**self._told, **{part: partition.place.position for part, partition in self._partitions.items()}}
        return sum(max(0, self._watch.ends.get(part, 0) - places[part]) for part in self._assigned if part in places)
