"""Where records meet: the intake holds open records, validates and seals them, and makes each batch durable.

A feed's `put` never waits. When the journal cannot keep up, `writable` does: the feeds stop reading their sockets. What
the configuration allows to be given up (`intake.when_full`) is spilled before that, so that the rest need not wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Protocol, TypeAlias

import structlog

from ingestd import validation
from ingestd.channels import CHANNEL_OF, TABLE_OF, channel_of, stream_of
from ingestd.clock import now_us
from ingestd.config.models import IntakeConfig
from ingestd.errors import JournalError, JournalFull
from ingestd.failpoints import passing
from ingestd.gaps.open_gaps import Dropped, DropSpans, OpenGaps, dropped, stream_of_gap
from ingestd.intake.spill import Spill
from ingestd.journal.journal import Batch, Journal
from ingestd.ops.metrics import Metrics, count_by
from ingestd.ops.rejections import Rejections
from ingestd.records import (
    MEMORY_BYTES,
    BookSnapshot,
    FeedGap,
    MarketRecord,
    Record,
    Rejected,
    StreamId,
    all_memory_bytes,
    earliest_us,
    encode_batch,
    memory_bytes,
)
from ingestd.retry import Backoff

log = structlog.get_logger()

# What sockets that stopped being read may still bring: the buffers of the kernel and of the client library.
_OVERSHOOT_RECORDS = 50_000
# A batch of books is sealed before it holds the event loop for long.
_MAX_BATCH_BOOK_BYTES = 2 * 2**20
_LEVEL_BYTES = 24
_LAST_APPEND_S = 2.0
# After so long without another one, a stretch of dropped records is over. The journal drops a file's worth at a time.
_INTAKE_PAUSED_US = 1_000_000
_JOURNAL_PAUSED_US = 60_000_000


class LiveSink(Protocol):
    """Something that shows what is now, before it is durable."""

    def put_all(self, records: Sequence[MarketRecord]) -> None:
        """Take valid records, a loop turn after they came. Never blocks, never raises, costs next to nothing."""


class Intake:
    """Turns a stream of records into durable batches, in order."""

    def __init__(
        self,
        journal: Journal,
        config: IntakeConfig,
        time_window: Callable[[int], validation.TimeWindow],
        metrics: Metrics,
        live: Sequence[LiveSink] = (),
        before_gaps: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`live` sinks get each valid record at once, before it is journaled.

        `before_gaps` is awaited before a batch with gap records is journaled: what a process leaves to the next one
        must know of a gap before the database does, or a kill in between leaves it open for ever.
        """
        self._journal = journal
        self._live = tuple(live)
        self._unshown: list[MarketRecord] = []  # what came in this loop turn, for the live sinks
        self.rejections = Rejections(metrics)
        self._known_sound = bool(live)  # every open record was found sound when it was shown
        self._config = config
        self._time_window = time_window
        self._metrics = metrics
        self._hard_limit = config.max_open_records + _OVERSHOOT_RECORDS
        self._open: list[MarketRecord | FeedGap] = []
        self._bytes = 0  # about what `_open` takes
        self._half = self._calm_records = config.max_open_records // 2  # calm: 0 while spilling or closed
        self._batch_records = config.max_batch_records
        self._half_bytes = config.max_open_bytes // 2
        self._spilling = False
        self._spill = Spill(config.when_full.model_dump(), config.max_batch_records)
        self._shed: Counter[tuple[str, str]] = Counter()  # by exchange and channel: given up by the policy
        self._recovered: set[int] = set()  # of the open records, by identity, those that say nothing about now
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False
        self._overflow: Counter[str] = Counter()
        self._before_gaps = before_gaps
        self._drops = DropSpans("the intake was full", _INTAKE_PAUSED_US)
        self._journal_drops = DropSpans("the journal was full", _JOURNAL_PAUSED_US)
        self.gaps = OpenGaps()
        self.lost: dict[StreamId, Dropped] = {}  # received and not journaled at the stop

    def resume(self, open_gaps: Sequence[FeedGap], pending: Sequence[FeedGap]) -> None:
        """Go on from an earlier process: the gaps it left open, of which those `pending` are not durable yet."""
        self.gaps.resume(open_gaps)
        for gap in open_gaps:
            self._show_open(gap)
        for gap in (*pending, *self._journal.take_damage_gaps()):
            self.put(gap)

    def put(self, record: MarketRecord | FeedGap) -> None:
        """Take one record. Far past `max_open_records` it is dropped and counted: a feed that ignores `writable`
        must not fill the memory. A gap record is never dropped: a stream has one open at most."""
        held, kind = len(self._open), type(record)
        if 0 < held < self._calm_records and self._bytes < self._half_bytes and kind is not FeedGap:
            # What the rest of this method comes to for nearly every record, without its calls.
            if self._live:
                self._show_soon(record)  # type: ignore[arg-type] # mypy does not narrow by type() is
            self._open.append(record)
            self._bytes += MEMORY_BYTES if kind is not BookSnapshot else memory_bytes(record)
            if held + 1 == self._batch_records:
                self._enough.set()
            return
        if type(record) is FeedGap:
            self._note_gap(record)
        if self._is_full() and not isinstance(record, FeedGap):
            self._drop(record)
            return
        if self._live and not isinstance(record, FeedGap):
            self._show_soon(record)
        crowded = self._spilling or len(self._open) >= self._half or self._bytes >= self._half_bytes
        if not (crowded and self._spilled(record)):
            self._hold(record)

    def put_recovered(self, record: MarketRecord) -> None:
        """As `put`, for what was asked for afterwards: not shown live, and its delay is no latency. One that finds no
        room is counted and makes no gap: the gap it was to fill stays."""
        if self._is_full():
            self._overflow[channel_of(record)] += 1
            return
        self._recovered.add(id(record))
        self._known_sound = False
        self._hold(record)

    def _show_soon(self, record: MarketRecord) -> None:
        if not self._unshown:
            asyncio.get_running_loop().call_soon(self._show)
        self._unshown.append(record)

    def _show(self) -> None:
        """Judge what came since the last time, all at once, and hand what is sound to the live sinks."""
        records, self._unshown = self._unshown, []
        window = self._time_window(now_us())
        if not validation.all_sound(records, window):
            self._known_sound = False
            records = [record for record in records if validation.flaw(record, window) is None]
        if records:
            for sink in self._live:
                sink.put_all(records)

    def _is_full(self) -> bool:
        return len(self._open) >= self._hard_limit or self._bytes >= 2 * self._config.max_open_bytes or self._closed

    def _hold(self, record: MarketRecord | FeedGap) -> None:
        held = len(self._open)
        self._open.append(record)
        self._bytes += memory_bytes(record)
        if held == 0:
            self._some.set()
        if held + 1 == self._batch_records:
            self._enough.set()
        if held + 1 >= self._config.max_open_records or self._bytes >= self._config.max_open_bytes:
            self._room.clear()

    def _append(self, record: MarketRecord | FeedGap) -> None:
        self._open.append(record)
        self._bytes += memory_bytes(record)

    def _spilled(self, record: MarketRecord | FeedGap) -> bool:
        """Whether it went aside. Once one has, what follows it must not overtake it."""
        if isinstance(record, FeedGap) or not self._spill.takes(record):
            return False
        self._spilling, self._calm_records = True, 0
        gone = self._spill.put(record)
        if gone is not None:
            self._shed[gone.exchange, channel_of(gone)] += 1
            self._drops.add(stream_of(gone), dropped(gone), gone.received_at)
        return True

    async def writable(self) -> None:
        """Return once there is room for what one socket read may bring."""
        await self._room.wait()

    @property
    def open_records(self) -> int:
        return len(self._open)

    @property
    def is_blocked(self) -> bool:
        """Whether the feeds are being held back."""
        return not self._room.is_set()

    def unjournaled(self) -> dict[StreamId, int]:
        """Of each stream the earliest moment from which something is not durable yet."""
        earliest: dict[StreamId, int] = {}
        recovered = self._recovered
        for record in (*self._open, *self._spill.records()):
            if isinstance(record, FeedGap) or (recovered and id(record) in recovered):
                continue
            stream, at = stream_of(record), earliest_us(record.time, record.received_at)
            if at < earliest.get(stream, at + 1):
                earliest[stream] = at
        for stream, span in self.lost.items():
            earliest[stream] = min(span.first, earliest.get(stream, span.first))
        return earliest

    def pending_gaps(self) -> list[FeedGap]:
        """Gap records that are not durable yet, in order."""
        waiting = [record for record in self._open if type(record) is FeedGap]
        return [*waiting, *self._drops.gaps(), *self._journal_drops.gaps()]

    def settle_drops(self, now: int) -> None:
        """Make gaps of the stretches over which records were dropped, once no more are; called about once a second."""
        for gap in (*self._drops.end_paused(now), *self._journal_drops.end_paused(now)):
            self.put(gap)

    async def run(self) -> None:
        """Seal and journal until `close`; returns when the last record is durable."""
        while True:
            await self._some.wait()
            if not self._closed and len(self._open) < self._config.max_batch_records:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._config.linger_ms / 1000):
                        await self._enough.wait()
            await self._seal()
            if self._closed and not self._open:
                return

    def close(self) -> None:
        """No more records: `run` journals what is open and returns."""
        for gap in (*self._drops.end_paused(None), *self._journal_drops.end_paused(None)):
            self.put(gap)
        self._closed, self._calm_records = True, 0
        self._some.set()
        self._enough.set()

    def abandon(self) -> int:
        """Count what is still open, and what came after `close`, as dropped. Returns how many records.

        Gap records stay: `pending_gaps` has them, for the next process.
        """
        if self._overflow:
            self._count_overflow()
        self._count_shed()
        self._open += self._spill.take_back()
        count_by(self._metrics.received, _by_channel(_by_kind(self._open)))
        records = [record for record in self._open if not isinstance(record, FeedGap)]
        lost = Counter(channel_of(record) for record in records)
        count_by(self._metrics.dropped, {(channel, "shutdown"): count for channel, count in lost.items()})
        for record in records:
            if id(record) not in self._recovered:
                self._lose(record)
        self._open = [record for record in self._open if isinstance(record, FeedGap)]
        self._bytes = all_memory_bytes(self._open)
        self._recovered.clear()
        return lost.total()

    def _note_gap(self, gap: FeedGap) -> None:
        self._known_sound = False  # its texts are made storable with the others
        before = self._drops.end(stream_of_gap(gap)) if self._drops else None
        if before is not None:
            self.put(before)
        if self.gaps.take(gap):
            self._metrics.gaps.labels(gap.exchange, gap.channel, gap.cause).inc()
        self._show_open(gap)

    def _show_open(self, gap: FeedGap) -> None:
        is_open = self.gaps.count_open(gap.exchange, gap.channel)
        self._metrics.gaps_open.labels(gap.exchange, gap.channel).set(is_open)

    def _drop(self, record: MarketRecord) -> None:
        self._overflow[channel_of(record)] += 1
        if self._closed:
            self._lose(record)
        else:
            self._drops.add(stream_of(record), dropped(record), record.received_at)

    def _lose(self, record: MarketRecord) -> None:
        span, stream = dropped(record), stream_of(record)
        if stream in self.lost:
            span.include(self.lost[stream])
        self.lost[stream] = span

    async def _seal(self) -> None:
        taken = self._open[: self._batch_size()]
        if taken:
            if self._before_gaps is not None and any(type(record) is FeedGap for record in taken):
                await self._before_gaps()
            records, rejected = self._validated(taken)
            passing("intake.seal")
            journaling = asyncio.ensure_future(self._journaled(records))
            try:
                await asyncio.shield(journaling)
            except asyncio.CancelledError:
                # What the disk has taken must not be counted as lost: it will be found at the next start.
                await self._settled(journaling)
                if journaling.cancelled() or journaling.exception() is not None:
                    raise
                self._finish(taken, rejected)
                raise
            self._finish(taken, rejected)
        if self._overflow:
            self._count_overflow()
        self._count_shed()
        self._reset_signals()

    def _finish(self, taken: list[MarketRecord | FeedGap], rejected: Counter[tuple[str, ...]]) -> None:
        self._count(taken, rejected)
        del self._open[: len(taken)]
        self._bytes -= all_memory_bytes(taken)
        for left in self._journal.take_damage_gaps():
            self.put(left)
        for stream, span in self._journal.take_dropped():
            begins = self._journal_drops.add(stream, span, now_us())
            gap = self._journal_drops.gap(stream) if begins else None
            if gap is not None:  # told at once, and again when it is over
                self.put(gap)

    async def _settled(self, journaling: asyncio.Future[Batch]) -> None:
        """An append that has begun is short; one that is waiting for room is given up."""
        await asyncio.wait({journaling}, timeout=_LAST_APPEND_S)
        if not journaling.done():
            journaling.cancel()
            await asyncio.wait({journaling}, timeout=_LAST_APPEND_S)

    def _batch_size(self) -> int:
        """How many open records go into the next batch: by number, and by bytes where there are books."""
        size = min(len(self._open), self._config.max_batch_records)
        if not any(type(record) is BookSnapshot for record in self._open[:size]):
            return size
        total = 0
        for index, record in enumerate(self._open[:size]):
            if type(record) is BookSnapshot:
                total += _LEVEL_BYTES * (len(record.bids) + len(record.asks))
            if total > _MAX_BATCH_BOOK_BYTES:
                return max(1, index)
        return size

    def _reset_signals(self) -> None:
        resume = max(1, self._config.max_open_records // 4)  # not at once: the sockets would flap around the limit
        if len(self._open) < resume and self._bytes < self._config.max_open_bytes // 4:
            self._room.set()
            self._spilling, self._calm_records = False, 0 if self._closed else self._half
            for record in self._spill.take_back():
                self._append(record)
        held = len(self._open)
        if held < self._config.max_batch_records and not self._closed:
            self._enough.clear()
        if not held:
            self._known_sound = bool(self._live)
            if not self._closed:
                self._some.clear()

    def _validated(self, taken: list[MarketRecord | FeedGap]) -> tuple[list[Record], Counter[tuple[str, ...]]]:
        if self._unshown:
            self._show()
        window = self._time_window(now_us())
        rejected: Counter[tuple[str, ...]] = Counter()
        if self._known_sound or validation.all_sound(taken, window):
            if self.rejections:
                self.rejections.accept(record for record in taken if not isinstance(record, FeedGap))
            return [*taken], rejected
        records: list[Record] = []
        for record in taken:
            if isinstance(record, FeedGap):
                records.append(validation.storable_gap(record))
                continue
            reason = validation.flaw(record, window)
            if reason is None:
                records.append(record)
                if self.rejections:
                    self.rejections.accept([record])
            else:
                self.rejections.reject(stream_of(record), reason)
                records.append(validation.rejection(record, TABLE_OF[type(record)], reason))
                rejected[channel_of(record), reason] += 1
        return records, rejected

    async def _journaled(self, records: list[Record]) -> Batch:
        """Append, for ever: what a feed handed over is given up only by the journal's own policy."""
        backoff = Backoff(base_s=0.05, cap_s=2.0)
        while True:
            try:
                batch = await self._journal.append(records)
            except JournalError as error:
                delay_s = backoff.next_s(at_least_s=0.05)
                if backoff.is_logged(error):
                    log.error("journal_refuses", error=str(error), open_records=len(self._open))
                waiting = self._journal.room_made if isinstance(error, JournalFull) else asyncio.sleep
                await waiting(delay_s)
            except (TypeError, ValueError, OverflowError) as error:
                # The second net: what validation let through and no encoding takes must not end the capture of all.
                if not self._put_unencodable_aside(records):
                    raise
                log.error("record_not_encodable", error=str(error))
            else:
                if backoff.attempts:
                    log.info("journal_accepts_again", attempts=backoff.attempts)
                return batch

    def _put_unencodable_aside(self, records: list[Record]) -> bool:
        """Replace each record that cannot be encoded by its rejection. False: it was none of them."""
        found = False
        for index, record in enumerate(records):
            try:
                encode_batch([record])
            except (TypeError, ValueError, OverflowError):
                found = True
                if isinstance(record, (FeedGap, Rejected)):
                    raise
                records[index] = validation.rejection(record, TABLE_OF[type(record)], "encode")
                self._metrics.rejected.labels(channel_of(record), "encode").inc()
        return found

    def _count(self, taken: list[MarketRecord | FeedGap], rejected: Counter[tuple[str, ...]]) -> None:
        kinds = _by_kind(taken)
        count_by(self._metrics.received, _by_channel(kinds))
        count_by(self._metrics.rejected, rejected)
        self._metrics.journal_latency_s.observe(max(0, now_us() - taken[0].received_at) / 1e6)
        for record in _newest_of(kinds, self._without_recovered(taken)):
            labels = record.exchange, channel_of(record)
            late_s = (record.received_at - record.time) / 1e6
            self._metrics.exchange_latency_s.labels(*labels).observe(max(0.0, late_s))
            self._metrics.exchange_ahead_s.labels(*labels).set(-late_s)

    def _count_shed(self) -> None:
        shed, self._shed = self._shed, Counter()
        if shed:
            count_by(self._metrics.received, shed)
            for (_, channel), count in shed.items():
                self._metrics.dropped.labels(channel, "overload").inc(count)

    def _without_recovered(self, taken: list[MarketRecord | FeedGap]) -> list[MarketRecord | FeedGap]:
        if not self._recovered:
            return taken
        fresh = [record for record in taken if id(record) not in self._recovered]
        self._recovered.difference_update(map(id, taken))
        return fresh

    def _count_overflow(self) -> None:
        overflow, self._overflow = self._overflow, Counter()
        reason = "after_close" if self._closed else "intake_full"
        count_by(self._metrics.dropped, {(channel, reason): count for channel, count in overflow.items()})
        count_by(self._metrics.received, {("", channel): count for channel, count in overflow.items()})
        log.error("intake_dropped", reason=reason, records=dict(overflow))


_Kind: TypeAlias = tuple[str, type]  # an exchange's records of one type
_kind_of: Callable[[MarketRecord | FeedGap], _Kind] = attrgetter("exchange", "__class__")


def _by_kind(records: Sequence[MarketRecord | FeedGap]) -> Counter[_Kind]:
    """How many market records of each kind."""
    kinds = Counter(map(_kind_of, records))
    for kind in [kind for kind in kinds if kind[1] is FeedGap]:
        del kinds[kind]
    return kinds


def _by_channel(kinds: Counter[_Kind]) -> Counter[tuple[str, ...]]:
    return Counter({(exchange, CHANNEL_OF[kind]): count for (exchange, kind), count in kinds.items()})


def _newest_of(kinds: Iterable[_Kind], records: Sequence[MarketRecord | FeedGap]) -> Iterator[MarketRecord | FeedGap]:
    """The last record of each of these kinds."""
    wanted = set(kinds)
    for record in reversed(records):
        if (kind := _kind_of(record)) in wanted:
            wanted.remove(kind)
            yield record
            if not wanted:
                return
