"""Holds the open records of all feeds, seals them into batches and journals each batch.

`put` never waits. If the journal cannot keep up, `writable` waits, and the feeds stop reading their sockets.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import structlog

from ingestd.channels import channel_of, stream_of
from ingestd.clock import now_us, wait_at_most
from ingestd.config.models import IntakeConfig
from ingestd.errors import JournalError, JournalFull
from ingestd.failpoints import passing
from ingestd.gaps.open_gaps import OpenGaps, note_dropped, stream_of_gap
from ingestd.intake.drops import Drops
from ingestd.intake.open_records import OpenRecords
from ingestd.intake.overload import Overload
from ingestd.intake.sealing import (
    RejectedCounts,
    batch_size,
    count_received,
    observe_latency,
    put_unencodable_aside,
    validated,
)
from ingestd.journal.journal import Journal
from ingestd.ops.metrics import Metrics, count_by
from ingestd.ops.rejections import Rejections
from ingestd.records import BookSnapshot, FeedGap, MarketRecord, Record, StreamId, earliest_us
from ingestd.retry import Backoff
from ingestd.validation import TimeWindow, all_valid, rejection_reason

log = structlog.get_logger()

_LAST_APPEND_S = 2.0

PutAll: TypeAlias = Callable[[Sequence[MarketRecord]], None]
"""A live sink's `put_all`, which takes valid records, never blocks and never raises."""


class LiveView:
    """Validates the records of one loop turn together, and hands the valid ones to the live sinks."""

    def __init__(self, sinks: Sequence[PutAll], time_window: Callable[[int], TimeWindow]) -> None:
        self._sinks = tuple(sinks)
        self._time_window = time_window
        self._unshown: list[MarketRecord] = []
        self._all_valid = True

    def show(self, record: MarketRecord) -> None:
        """Show the record at the end of this loop turn, if it is valid."""
        if not self._unshown:
            asyncio.get_running_loop().call_soon(self._show)
        self._unshown.append(record)

    def flush(self) -> bool:
        """Show the pending records now. Returns whether every record since the last call was valid."""
        if self._unshown:
            self._show()
        were_valid, self._all_valid = self._all_valid, True
        return were_valid

    def _show(self) -> None:
        records, self._unshown = self._unshown, []
        window = self._time_window(now_us())
        if not all_valid(records, window):
            self._all_valid = False
            records = [record for record in records if rejection_reason(record, window) is None]
        if records:
            for put_all in self._sinks:
                put_all(records)


class Intake:
    """Turns records into durable batches, in order."""

    def __init__(
        self,
        journal: Journal,
        config: IntakeConfig,
        time_window: Callable[[int], TimeWindow],
        metrics: Metrics,
        live: Sequence[PutAll] = (),
        before_gaps: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`live` sinks get each valid record at once, before it is journaled.

        `before_gaps` is awaited before a batch with gap records is journaled: the state left to the next process must
        contain a gap before the database does, or a kill in between leaves the gap open for ever.
        """
        self.gaps = OpenGaps()
        self.rejections = Rejections(metrics)
        self._journal = journal
        self._config = config
        self._time_window = time_window
        self._metrics = metrics
        self._before_gaps = before_gaps
        self._live = LiveView(live, time_window) if live else None
        self._open = OpenRecords(shown_live=bool(live))
        self._overload = Overload(config)
        self._drops = Drops(metrics)
        self.lost = self._drops.lost
        self._unchecked_below = 0  # see `_check_again`
        self._not_empty = asyncio.Event()
        self._batch_full = asyncio.Event()
        self._closed = False

    def resume(self, open_gaps: Sequence[FeedGap], pending: Sequence[FeedGap]) -> None:
        """Continue the gaps that an earlier process left open. Those in `pending` are not durable yet."""
        self.gaps.resume(open_gaps)
        for gap in open_gaps:
            self._show_open(gap)
        for gap in (*pending, *self._journal.take_damage_gaps()):
            self.put(gap)

    def put(self, record: MarketRecord | FeedGap) -> None:
        """Take one record. If far too many are open, drop and count it, so that a feed that ignores `writable` cannot
        fill the memory. A gap record is never dropped: there are few."""
        records, kind = self._open.records, type(record)
        if 0 < len(records) < self._unchecked_below and kind is not BookSnapshot and kind is not FeedGap:
            # Fast path, for nearly every record: the same effect as `_take`, without its calls.
            if self._live is not None:
                self._live.show(record)  # type: ignore[arg-type] # mypy does not narrow by type() is
            records.append(record)
        elif isinstance(record, FeedGap):
            self._note_gap(record)
            self._hold(record)
        else:
            self._take(record)

    def put_backfilled(self, record: MarketRecord) -> None:
        """Take one backfilled record: live sinks do not get it, and the exchange's latency is not measured by it.
        If it is dropped, that makes no gap, because the gap it was to fill stays."""
        if self._overload.is_full(len(self._open), self._open.size_bytes):
            self._drops.without_room(record, is_backfilled=True)
            return
        self._open.add_backfilled(record)
        self._signal()

    def _take(self, record: MarketRecord) -> None:
        if self._overload.is_full(len(self._open), self._open.size_bytes):
            self._drops.without_room(record)
            return
        if self._live is not None:
            self._live.show(record)
        if self._overload.sets_aside(record, len(self._open), self._open.size_bytes):
            if (given_up := self._overload.set_aside(record)) is not None:
                self._drops.overloaded(given_up)
            self._check_again()
            return
        self._hold(record)

    def _hold(self, record: MarketRecord | FeedGap) -> None:
        self._open.add(record)
        self._signal()

    def _signal(self) -> None:
        """After a record was added, wake `run` and pause the feeds if it is time to."""
        count = len(self._open)
        if count == 1:
            self._not_empty.set()
        if count == self._config.max_batch_records:
            self._batch_full.set()
        self._overload.maybe_pause(count, self._open.size_bytes)
        self._check_again()

    def _check_again(self) -> None:
        """Compute how many records may be open before a further one needs checks or wakes a waiting task.

        Call this whenever the open records change other than by the fast path of `put`.
        """
        calm = self._overload.calm_below(self._open.book_bytes)
        full = self._config.max_batch_records
        self._unchecked_below = min(calm, full - 1) if len(self._open) < full else calm

    async def writable(self) -> None:
        """Wait until there is room for the records of one socket read."""
        await self._overload.resumed()

    @property
    def is_blocked(self) -> bool:
        """Whether the feeds are being held back."""
        return self._overload.is_paused

    def unjournaled(self) -> dict[StreamId, int]:
        """For each stream, the time of its earliest record that is not durable yet."""
        earliest: dict[StreamId, int] = {}
        for record in (*self._open.fresh(self._open.records), *self._overload.records_set_aside()):
            if isinstance(record, FeedGap):
                continue
            stream, at = stream_of(record), earliest_us(record.time, record.received_at)
            if at < earliest.get(stream, at + 1):
                earliest[stream] = at
        for stream, span in self.lost.items():
            earliest[stream] = min(span.first, earliest.get(stream, span.first))
        return earliest

    def pending_gaps(self) -> list[FeedGap]:
        """Gap records that are not durable yet, in order."""
        return [*self._open.gaps(), *self._drops.gaps()]

    def settle_drops(self, now: int | None) -> None:
        """Make gaps for periods of dropped records that have ended (None: for all); called about once a second."""
        for gap in self._drops.end_paused(now):
            self.put(gap)

    async def run(self) -> None:
        """Seal and journal until `close`; returns when the last record is durable."""
        while True:
            await self._not_empty.wait()
            if not self._closed and len(self._open) < self._config.max_batch_records:
                await wait_at_most(self._config.linger_ms / 1000, self._batch_full)
            await self._seal()
            if self._closed and not self._open.records:
                return

    def close(self) -> None:
        """Take no more records: `run` journals the open ones and returns."""
        self.settle_drops(None)
        self._closed = self._drops.is_closed = True
        self._overload.close()
        self._check_again()
        self._not_empty.set()
        self._batch_full.set()

    def abandon(self) -> int:
        """Count the open records, and those that came after `close`, as dropped. Returns their number.

        Gap records stay, in `pending_gaps`, for the next process.
        """
        self._drops.count()
        self._open.add_again(self._overload.take_back())
        count_received(self._metrics, self._open.records)
        for fresh in self._open.fresh(self._open.records):
            if not isinstance(fresh, FeedGap):
                note_dropped(fresh, self.lost)
        gaps = self._open.gaps()
        lost = Counter(channel_of(record) for record in self._open.records if not isinstance(record, FeedGap))
        count_by(self._metrics.dropped, {(channel, "shutdown"): count for channel, count in lost.items()})
        self._open.remove(len(self._open))
        for gap in gaps:
            self._open.add(gap)
        return lost.total()

    def _note_gap(self, gap: FeedGap) -> None:
        self._open.all_valid = False  # so that `validated` makes its texts storable
        if (before := self._drops.end_before(stream_of_gap(gap))) is not None:
            self.put(before)
        if self.gaps.take(gap):
            self._metrics.gaps.labels(gap.exchange, gap.channel, gap.cause).inc()
        self._show_open(gap)

    def _show_open(self, gap: FeedGap) -> None:
        labels = gap.exchange, gap.channel
        self._metrics.gaps_open.labels(*labels).set(self.gaps.counts[labels])

    async def _seal(self) -> None:
        taken = self._open.records[: batch_size(self._open.records, self._config.max_batch_records)]
        if taken:
            if self._before_gaps is not None and any(type(record) is FeedGap for record in taken):
                await self._before_gaps()
            if self._live is not None and not self._live.flush():
                self._open.all_valid = False
            window, known_valid = self._time_window(now_us()), self._open.all_valid
            records, rejected = validated(taken, window, self.rejections, known_valid=known_valid)
            passing("intake.seal")
            journaling = asyncio.ensure_future(self._journaled(records))
            try:
                await asyncio.shield(journaling)
            except asyncio.CancelledError:
                # Records that are on the disk must not be counted as lost: the next start finds them.
                await self._settled(journaling)
                if not journaling.cancelled() and journaling.exception() is None:
                    self._finish(taken, rejected)
                raise
            self._finish(taken, rejected)
        self._drops.count()
        self._reset_signals()

    def _finish(self, taken: Sequence[MarketRecord | FeedGap], rejected: RejectedCounts) -> None:
        """Count a durable batch and take over the gaps that the journal reports."""
        kinds = count_received(self._metrics, taken)
        count_by(self._metrics.rejected, rejected)
        self._metrics.journal_latency_s.observe(max(0, now_us() - taken[0].received_at) / 1e6)
        observe_latency(self._metrics, kinds, self._open.fresh(taken))
        self._open.remove(len(taken))
        for gap in self._journal.take_damage_gaps():
            self.put(gap)
        for stream, span in self._journal.take_dropped():
            if (begun := self._drops.by_journal(stream, span, now_us())) is not None:
                self.put(begun)

    async def _settled(self, journaling: asyncio.Future[None]) -> None:
        """Wait for an append in progress, which takes a moment; cancel one that waits for room."""
        await asyncio.wait({journaling}, timeout=_LAST_APPEND_S)
        if not journaling.done():
            journaling.cancel()
            await asyncio.wait({journaling}, timeout=_LAST_APPEND_S)

    def _reset_signals(self) -> None:
        self._open.add_again(self._overload.maybe_resume(len(self._open), self._open.size_bytes))
        self._check_again()
        if self._closed:
            return  # `run` must go on without waiting
        if len(self._open) < self._config.max_batch_records:
            self._batch_full.clear()
        if not self._open.records:
            self._not_empty.clear()

    async def _journaled(self, records: list[Record]) -> None:
        """Append, retrying for ever: only the journal's own policy may drop a feed's records."""
        backoff = Backoff(base_s=0.05, cap_s=2.0)
        while True:
            try:
                await self._journal.append(records)
            except JournalError as error:
                delay_s = backoff.next_s(at_least_s=0.05)
                if backoff.is_logged(error):
                    log.error("journal_refuses", error=str(error), open_records=len(self._open))
                waiting = self._journal.room_made if isinstance(error, JournalFull) else asyncio.sleep
                await waiting(delay_s)
            except (TypeError, ValueError, OverflowError) as error:
                # A record that passes validation but cannot be encoded must not stop the capture of others.
                rejected = put_unencodable_aside(records)
                if not rejected:
                    raise
                count_by(self._metrics.rejected, rejected)
                log.error("record_not_encodable", error=str(error))
            else:
                if backoff.attempts:
                    log.info("journal_accepts_again", attempts=backoff.attempts)
                return
