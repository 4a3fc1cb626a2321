"""What a member has taken from its partitions and not yet stored, and when it is enough for a transaction."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence

import structlog

from ingestd.clock import monotonic_s
from ingestd.kafka.messages import Message, Part
from ingestd.ops.metrics import Metrics, count_by
from ingestd.sources.assignment import Assignment
from ingestd.sources.base import ReaderLimits, Store
from ingestd.sources.doubts import Doubts
from ingestd.sources.partitions import Partition, released

log = structlog.get_logger()

_POLL_S = 0.25


class Holdings:
    """`partitions` are those this member has claimed. `storing` are those whose messages are being stored, also where
    the partition was lost meanwhile; `idle` is set while there is none. `remade` are partitions of topics that were
    made anew, until their rows say so.
    """

    def __init__(self, store: Store, assignment: Assignment, limits: ReaderLimits, metrics: Metrics) -> None:
        self.partitions: dict[Part, Partition] = {}
        self.storing: list[Partition] = []
        self.idle = asyncio.Event()
        self.idle.set()
        self.remade: set[Part] = set()
        self.doubts = Doubts(store.name, metrics)
        self._store = store
        self._assignment = assignment
        self._limits = limits
        self._metrics = metrics
        self._since_s = 0.0  # when the first message was taken; 0: nothing is held
        self._shown: Counter[str] = Counter()  # by channel, when last asked

    def take(self, messages: Sequence[Message]) -> None:
        """Hold these messages, but for those that are stored already."""
        if not messages:
            return
        wanted = [message for message in messages if self._is_next(message)]
        received: Counter[tuple[str, ...]] = Counter()
        for message, item in zip(wanted, self._store.read(wanted), strict=True):
            partition = self.partitions[item.part]
            if not self._since_s:
                self._since_s = monotonic_s()
            partition.next = item.offset + 1
            received[item.exchange, item.channel] += 1
            if partition.is_wanted(item, message):
                partition.held.append(item)
        count_by(self._metrics.received, received)
        self.doubts.look(self.partitions.values())

    def _is_next(self, message: Message) -> bool:
        part = (message.topic, message.partition)
        partition = self.partitions.get(part)
        if partition is None:
            return False
        if message.offset >= partition.next:
            partition.verify_previous_message = False
            return True
        if partition.verify_previous_message and message.offset == partition.next - 1:
            partition.verify_previous_message = False
            if partition.never_had(message):
                self.remade.add(part)
                self.claim_again(part, after_s=0.0)
            return False
        if not self._assignment.is_unclaimed(part):
            # The consumer went back, because the topic no longer has the next offset. The claim finds out why.
            log.warning("topic_went_back", partition=part, offset=message.offset, expected=partition.next)
            self.claim_again(part, after_s=0.0)
        return False

    def poll_s(self) -> float:
        """How long to wait for messages: until a transaction is due, but not for long."""
        if not self._since_s:
            return _POLL_S
        return max(0.0, min(_POLL_S, self._since_s + self._limits.flush_s - monotonic_s()))

    def room(self) -> int:
        """How many messages to take at most."""
        return max(1, self._limits.max_records - self.count())

    def is_due(self) -> bool:
        """Whether the messages are to be stored now: they have waited long enough, or are enough."""
        if not self._since_s:
            return False
        return monotonic_s() >= self._since_s + self._limits.flush_s or self.count() >= self._limits.max_records

    def begin_storing(self) -> bool:
        """Choose what the next transaction stores: all that is held. False: there is nothing."""
        self._since_s = 0.0
        self.storing = []
        self.add_to_storing()
        if self.storing:
            self.idle.clear()
        return bool(self.storing)

    def add_to_storing(self) -> None:
        """Add the partitions of which something was taken since."""
        self.storing += [more for more in self.partitions.values() if more.has_more and more not in self.storing]

    def end_storing(self) -> list[Partition]:
        """The partitions that were being stored: nothing is any more."""
        ended, self.storing = self.storing, []
        self.idle.set()
        return ended

    def lose(self, parts: Iterable[Part]) -> None:
        """Others read these partitions now. What is being stored may still succeed."""
        lost = [self.partitions.pop(part) for part in parts if part in self.partitions]
        self.release([partition for partition in lost if partition not in self.storing])

    def claim_again(self, part: Part, *, after_s: float) -> None:
        """Let go of this partition, and claim it after so many seconds."""
        self.lose([part])
        self._assignment.claim_again(part, after_s=after_s)

    def release(self, lost: Sequence[Partition]) -> None:
        """Drop what was taken of these partitions: whoever reads them next begins at the offset in the row."""
        count_by(self._metrics.released, released(lost))

    def count(self) -> int:
        """How many messages are held."""
        return sum(len(partition.held) for partition in self._all())

    def by_channel(self) -> dict[str, int]:
        """Messages taken and not yet settled, by channel; 0 for one that had some before."""
        counts = self._shown = Counter(dict.fromkeys(self._shown, 0))
        for partition in self._all():
            counts.update(item.channel for item in partition.held)
            counts.update(partition.repeated)
        return dict(counts)

    def _all(self) -> list[Partition]:
        lost = [partition for partition in self.storing if self.partitions.get(partition.part) is not partition]
        return [*self.partitions.values(), *lost]
