"""What one flush takes: batches read from the journal until there are enough, or until the first has waited enough."""

from __future__ import annotations

import asyncio
import contextlib

from ingestd.clock import monotonic_s, now_us
from ingestd.journal import Batch, Cursor


class Gatherer:
    """Reads a sink's cursor in portions of about `max_records`, each at most `flush_ms` after its first batch was
    sealed. Once `finish_asked` is set it waits for nothing more."""

    def __init__(self, cursor: Cursor, flush_ms: int, max_records: int, finish_asked: asyncio.Event) -> None:
        self._cursor = cursor
        self._flush_ms = flush_ms
        self._max_records = max_records
        self._finish_asked = finish_asked

    async def next(self) -> list[Batch]:
        """The next portion. Empty once finished and drained."""
        batches = await self._cursor.read(self._max_records)
        while not batches and not self._finish_asked.is_set():
            await self._cursor.wait()
            batches = await self._cursor.read(self._max_records)
        if batches:
            await self._linger(batches)
        return batches

    async def _linger(self, batches: list[Batch]) -> None:
        due_s = monotonic_s() + self._flush_ms / 1000 - max(0, now_us() - batches[0].sealed_at) / 1e6
        count = sum(len(batch.records) for batch in batches)
        while count < self._max_records and not self._finish_asked.is_set() and monotonic_s() < due_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due_s - monotonic_s()):
                    await self._cursor.wait()
            more = await self._cursor.read(self._max_records - count)
            batches.extend(more)
            count += sum(len(batch.records) for batch in more)
