"""Where records meet: the intake holds open records, validates and seals them, and makes each batch durable.

A feed's `put` never waits. When the journal cannot keep up, `writable` does: the feeds stop reading their sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from ingestd import validation
from ingestd.backoff import Backoff
from ingestd.clock import now_us
from ingestd.config import IntakeConfig
from ingestd.errors import JournalError, JournalFull
from ingestd.failpoints import passing
from ingestd.journal import Batch, Journal
from ingestd.ops.metrics import Metrics, count_by
from ingestd.records import (
    TABLE_OF,
    BookSnapshot,
    FeedGap,
    MarketRecord,
    Record,
    Rejected,
    channel_of,
    encode_batch,
)

log = structlog.get_logger()

# What sockets that stopped being read may still bring: the buffers of the kernel and of the client library.
_OVERSHOOT_RECORDS = 50_000
# A batch of books is sealed before it holds the event loop for long.
_MAX_BATCH_BOOK_BYTES = 2 * 2**20
_LEVEL_BYTES = 24
_LAST_APPEND_S = 2.0


class LiveSink(Protocol):
    """Something that shows what is now, before it is durable."""

    def put(self, record: MarketRecord | FeedGap) -> None:
        """Take one record in the loop turn in which it arrived. Never blocks, never raises, costs next to nothing."""


class Intake:
    """Turns a stream of records into durable batches, in order."""

    def __init__(
        self,
        journal: Journal,
        config: IntakeConfig,
        time_window: Callable[[int], validation.TimeWindow],
        metrics: Metrics,
        live: Sequence[LiveSink] = (),
    ) -> None:
        """`live` sinks get each record at once, before it is validated or journaled."""
        self._journal = journal
        self._live = tuple([sink.put for sink in live])
        self._config = config
        self._time_window = time_window
        self._metrics = metrics
        self._hard_limit = config.max_open_records + _OVERSHOOT_RECORDS
        self._open: list[MarketRecord | FeedGap] = []
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False
        self._overflow: Counter[str] = Counter()

    def put(self, record: MarketRecord | FeedGap) -> None:
        """Take one record. Far past `max_open_records` it is dropped and counted: a feed that ignores `writable`
        must not fill the memory."""
        held = len(self._open)
        if held >= self._hard_limit or self._closed:
            self._overflow[channel_of(record)] += 1
            return
        self._open.append(record)
        for put in self._live:
            put(record)
        if held == 0:
            self._some.set()
        if held + 1 == self._config.max_batch_records:
            self._enough.set()
        if held + 1 == self._config.max_open_records:
            self._room.clear()

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
        self._closed = True
        self._some.set()
        self._enough.set()

    def abandon(self) -> int:
        """Count what is still open, and what came after `close`, as dropped. Returns how many records."""
        if self._overflow:
            self._count_overflow()
        count_by(self._metrics.received, _by_stream(self._open))
        lost = Counter(channel_of(record) for record in self._open)
        count_by(self._metrics.dropped, {(channel, "shutdown"): count for channel, count in lost.items()})
        self._open.clear()
        return lost.total()

    async def _seal(self) -> None:
        taken = self._open[: self._batch_size()]
        if taken:
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
        self._reset_signals()

    def _finish(self, taken: list[MarketRecord | FeedGap], rejected: Counter[tuple[str, ...]]) -> None:
        self._count(taken, rejected)
        del self._open[: len(taken)]

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
        held = len(self._open)
        if held < size_to_resume(self._config.max_open_records):
            self._room.set()
        if held < self._config.max_batch_records and not self._closed:
            self._enough.clear()
        if not held and not self._closed:
            self._some.clear()

    def _validated(self, taken: list[MarketRecord | FeedGap]) -> tuple[list[Record], Counter[tuple[str, ...]]]:
        window = self._time_window(now_us())
        records: list[Record] = []
        rejected: Counter[tuple[str, ...]] = Counter()
        for record in taken:
            if isinstance(record, FeedGap):
                records.append(validation.storable_gap(record))
                continue
            reason = validation.flaw(record, window)
            if reason is None:
                records.append(record)
            else:
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
                if backoff.attempts == 0:
                    log.error("journal_refuses", error=str(error), open_records=len(self._open))
                waiting = self._journal.room_made if isinstance(error, JournalFull) else asyncio.sleep
                await waiting(0.05 + backoff.next_s())
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
        streams = _by_stream(taken)
        count_by(self._metrics.received, streams)
        count_by(self._metrics.rejected, rejected)
        now = now_us()
        self._metrics.journal_latency_s.observe(max(0, now - taken[0].received_at) / 1e6)
        newest = {(record.exchange, channel_of(record)): record for record in taken if type(record) is not FeedGap}
        for labels, record in newest.items():
            self._metrics.exchange_latency_s.labels(*labels).observe(max(0, record.received_at - record.time) / 1e6)

    def _count_overflow(self) -> None:
        overflow, self._overflow = self._overflow, Counter()
        reason = "after_close" if self._closed else "intake_full"
        count_by(self._metrics.dropped, {(channel, reason): count for channel, count in overflow.items()})
        count_by(self._metrics.received, {("", channel): count for channel, count in overflow.items()})
        log.error("intake_dropped", reason=reason, records=dict(overflow))


def size_to_resume(max_open_records: int) -> int:
    """Reading resumes at a quarter of the limit, so that the sockets do not flap around it."""
    return max(1, max_open_records // 4)


def _by_stream(records: list[MarketRecord | FeedGap]) -> Counter[tuple[str, ...]]:
    return Counter((record.exchange, channel_of(record)) for record in records if type(record) is not FeedGap)
