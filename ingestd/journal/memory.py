"""The newest batches, kept in memory for sinks that keep up. Pure."""

from __future__ import annotations

from collections import deque
from itertools import islice

from ingestd.journal.batch import Batch, FilePlace


class RecentBatches:
    """The newest batches of this process: at least one, and others up to `limit_bytes` in all."""

    def __init__(self, limit_bytes: int) -> None:
        self.floor: FilePlace = (0, 0)  # the last batch that is only on disk
        self._limit_bytes = limit_bytes
        self._batches: deque[Batch] = deque()
        self._bytes = 0

    def add(self, batch: Batch) -> None:
        """Keep one more batch, and forget the oldest ones if there is no room for it."""
        self._batches.append(batch)
        self._bytes += batch.memory_bytes
        while len(self._batches) > 1 and self._bytes > self._limit_bytes:
            self._forget_oldest()

    def forget_through(self, place: FilePlace) -> None:
        """Forget the batches up to and including `place`."""
        while self._batches and self._batches[0].place <= place:
            self._forget_oldest()

    def at(self, position: int) -> Batch | None:
        """The batch at this position, if it is in memory."""
        index = position - self._batches[0].position if self._batches else -1
        return self._batches[index] if 0 <= index < len(self._batches) else None

    def read(self, place: FilePlace, skipped: int, max_records: int, max_bytes: int) -> list[Batch]:
        """The batches after both `place` and the position `skipped`, oldest first; at least one if there is one."""
        if not self._batches:
            return []
        first = self._batches[0]
        after = max(place[1] if place >= first.place else 0, skipped)
        batches: list[Batch] = []
        count = size = 0
        for batch in islice(self._batches, max(0, after + 1 - first.position), None):
            count += len(batch.records)
            size += batch.size_bytes
            if batches and (count > max_records or size > max_bytes):
                break
            batches.append(batch)
        return batches

    def _forget_oldest(self) -> None:
        batch = self._batches.popleft()
        self._bytes -= batch.memory_bytes
        self.floor = batch.place
