"""Collects the batches of one flush from the journal, until there are enough or the first has waited long enough."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.errors import JournalError
from ingestd.journal.journal import Batch, Cursor
from ingestd.ops.metrics import Metrics
from ingestd.retry import Backoff

log = structlog.get_logger()

_LAST_READS = 3  # retries of a read from a failing disk, while finishing


class Gatherer:
    """Reads a sink's cursor in portions of about `max_records`. A portion ends at the latest `flush_ms` after its first
    batch was sealed. Once `finish_asked` is set, it does not wait for more batches.

    While `requested` is unset, a portion is filled up to `max_records`: code that prepares portions ahead clears it.
    Wake the cursor after setting it.
    """

    def __init__(
        self, cursor: Cursor, flush_ms: int, max_records: int, finish_asked: asyncio.Event, metrics: Metrics
    ) -> None:
        self._cursor = cursor
        self._flush_ms = flush_ms
        self._max_records = max_records
        self._finish_asked = finish_asked
        self._metrics = metrics
        self.requested = asyncio.Event()
        self.requested.set()

    async def next(self) -> list[Batch]:
        """The next portion, when it is complete. Empty when finished and drained."""
        return [batch async for batches in self.portion() for batch in batches]

    async def portion(self) -> AsyncIterator[list[Batch]]:
        """Yield the batches of the next portion as they arrive. Yields none when finished and drained."""
        batches = await self._read(self._max_records)
        while not batches and not self._finish_asked.is_set():
            await self._cursor.wait()
            batches = await self._read(self._max_records)
        if not batches:
            return
        yield batches
        due_s = monotonic_s() + self._flush_ms / 1000 - max(0, now_us() - batches[0].sealed_at) / 1e6
        count = count_records(batches)
        while count < self._max_records and not self._finish_asked.is_set():
            left_s = due_s - monotonic_s()
            if left_s <= 0 and self.requested.is_set():
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s if left_s > 0 else None):
                    await self._cursor.wait()
            more = await self._read(self._max_records - count)
            if more:
                count += count_records(more)
                yield more

    async def _read(self, max_records: int) -> list[Batch]:
        """Read the next batches, again while the disk fails. Only while finishing, return none after a few failures."""
        backoff = Backoff(base_s=0.1, cap_s=2.0)
        while True:
            try:
                return await self._cursor.read(max_records)
            except JournalError as error:
                self._metrics.sink_alarms.labels(self._cursor.name).inc()
                if self._finish_asked.is_set() and backoff.attempts >= _LAST_READS:
                    return []
                delay_s = backoff.next_s(at_least_s=0.05)
                if backoff.is_logged(error):
                    log.error("journal_unreadable", sink=self._cursor.name, error=str(error), attempts=backoff.attempts)
                await asyncio.sleep(delay_s)


def count_records(batches: Iterable[Batch]) -> int:
    """The number of records in these batches."""
    return sum(len(batch.records) for batch in batches)


def observe_latency(metrics: Metrics, sink: str, batches: Iterable[Batch]) -> None:
    """Measure how long the first record of each batch took from its receipt until now, when the batch is stored."""
    now = now_us()
    for batch in batches:
        if batch.records:
            metrics.commit_latency_s.labels(sink).observe(max(0, now - batch.records[0].received_at) / 1e6)
