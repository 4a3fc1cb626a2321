"""The messages that a member has taken and not yet stored, and when they are due for a transaction."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence

import structlog

from ingestd.clock import monotonic_s
from ingestd.kafka.messages import Message, Part
from ingestd.log_limit import LogLimit
from ingestd.ops.metrics import Metrics, count_by
from ingestd.sources.assignment import Assignment
from ingestd.sources.base import ReaderLimits, Store
from ingestd.sources.partitions import Partition

log = structlog.get_logger()

_POLL_S = 0.25
_SHOWN_S = 300.0


class Holdings:
    """The messages held of `partitions`, which this member has claimed. `storing` are the partitions whose messages are
    being stored, including ones lost meanwhile; `idle` is set while there are none. `remade` are partitions of
    recreated topics, until their rows are reset.
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
        self._since_s = 0.0  # monotonic time when the first message was taken; 0: none is held
        self._shown: Counter[str] = Counter()  # by channel, at the last call of `by_channel`

    def take(self, messages: Sequence[Message]) -> None:
        """Hold these messages, except those stored already and those of partitions not claimed."""
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
        for partition in self.partitions.values():
            if partition.doubtful:
                self.doubts.note(partition)

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
            # The consumer went back because the topic no longer has the next offset. The claim finds out why.
            log.warning("topic_went_back", partition=part, offset=message.offset, expected=partition.next)
            self.claim_again(part, after_s=0.0)
        return False

    def poll_s(self) -> float:
        """How long to wait for messages, in seconds: until a transaction is due, at most `_POLL_S`."""
        if not self._since_s:
            return _POLL_S
        return max(0.0, min(_POLL_S, self._since_s + self._limits.flush_s - monotonic_s()))

    def room(self) -> int:
        """The number of messages that may be taken."""
        return max(1, self._limits.max_records - self.count())

    def is_due(self) -> bool:
        """Whether to store the messages now, because of their age or their number."""
        if not self._since_s:
            return False
        return monotonic_s() >= self._since_s + self._limits.flush_s or self.count() >= self._limits.max_records

    def begin_storing(self) -> bool:
        """Choose all held messages for the next transaction. False: there are none."""
        self._since_s = 0.0
        self.storing = []
        self.add_to_storing()
        if self.storing:
            self.idle.clear()
        return bool(self.storing)

    def add_to_storing(self) -> None:
        """Add partitions from which messages were taken since."""
        self.storing += [more for more in self.partitions.values() if more.has_more and more not in self.storing]

    def end_storing(self) -> list[Partition]:
        """End the transaction. Returns the partitions that were being stored."""
        ended, self.storing = self.storing, []
        self.idle.set()
        return ended

    def lose(self, parts: Iterable[Part]) -> None:
        """Remove partitions that other members read now. Messages being stored may still succeed."""
        lost = [self.partitions.pop(part) for part in parts if part in self.partitions]
        self.release([partition for partition in lost if partition not in self.storing])

    def claim_again(self, part: Part, *, after_s: float) -> None:
        """Remove this partition, and claim it again after `after_s` seconds."""
        self.lose([part])
        self._assignment.claim_again(part, after_s=after_s)

    def release(self, lost: Sequence[Partition]) -> None:
        """Drop the messages taken from these partitions; the next reader begins at the stored offset."""
        for partition in lost:
            count_by(self._metrics.released, {(channel,): count for channel, count in partition.taken().items()})
            partition.held, partition.repeated = [], Counter()

    def count(self) -> int:
        """The number of messages held."""
        return sum(len(partition.held) for partition in self._all())

    def by_channel(self) -> dict[str, int]:
        """The number of messages taken and not yet stored or released, by channel. A channel stays, with 0."""
        counts = self._shown = Counter(dict.fromkeys(self._shown, 0))
        for partition in self._all():
            counts.update(partition.taken())
        return dict(counts)

    def _all(self) -> list[Partition]:
        lost = [partition for partition in self.storing if self.partitions.get(partition.part) is not partition]
        return [*self.partitions.values(), *lost]


class Doubts:
    """Counts records with impossible journal places, logs them once a minute, and shows them in the status for five
    minutes: another program may write to the topic under a daemon's name."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        self._name = name
        self._metrics = metrics
        self._log_limit = LogLimit()
        self._last_s = float("-inf")
        self._unlogged = 0  # messages
        self._where = ""

    def note(self, partition: Partition) -> None:
        """Count and log the doubtful places of this partition."""
        messages, journal_id = partition.doubtful.total(), next(iter(partition.doubtful))
        partition.doubtful.clear()
        self._metrics.places_doubted.labels(self._name).inc(messages)
        self._unlogged += messages
        self._where = f"the journal {journal_id} on {partition.part[0]}, partition {partition.part[1]}"
        self._last_s = monotonic_s()
        if not self._log_limit.allows("journal_place_cannot_be"):
            return
        self._metrics.sink_alarms.labels(self._name).inc()
        log.error(
            "journal_place_cannot_be",
            source=self._name,
            partition=partition.part,
            journal_id=journal_id,
            messages=self._unlogged,
            effect="stored without a mark: a record without an id is stored again if it is sent again",
            remedy="see who else may write to the topic, and whether that daemon's clock was set back far",
        )
        self._unlogged = 0

    @property
    def problem(self) -> str | None:
        """A sentence for people; None if no place was doubtful lately."""
        if monotonic_s() - self._last_s >= _SHOWN_S:
            return None
        return f"messages name impossible places in {self._where}; see who else may write to the topic"
