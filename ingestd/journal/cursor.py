"""One durable sink's cursor over the journal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from ingestd.clock import now_us
from ingestd.errors import JournalError
from ingestd.journal.backlog import Backlog
from ingestd.journal.batch import Batch, FilePlace, add_counts
from ingestd.journal.file import JournalFile
from ingestd.journal.reading import BatchReader


class Cursor:
    """One durable sink's place in the journal. Reads go forward; only `acknowledge` and `skip_to` allow files to be
    deleted, by calling `release`. `pending` and `recovered` are those of its `Backlog`.
    """

    def __init__(self, name: str, backlog: Backlog, reader: BatchReader, release: Callable[[], None]) -> None:
        self.name = name
        self.pending = backlog.pending
        self.recovered = backlog.recovered
        self._backlog = backlog
        self._reader = reader
        self._release = release
        self._woken = asyncio.Event()
        self._sealed_after: tuple[FilePlace, int] | None = None  # as last looked up
        self._looking_up: Future[int | None] | None = None

    async def wait(self) -> None:
        """Wait until there may be something new to read, or `wake` is called."""
        await self._woken.wait()
        self._woken.clear()

    def wake(self) -> None:
        """End the present or next `wait`."""
        self._woken.set()

    async def read(self, max_records: int) -> list[Batch]:
        """Return the next batches, with about `max_records` records; none if there is nothing new.

        Raises JournalError if the disk cannot be read now. Try again: no batch is lost.
        """
        batches = await self._reader.read_after(self.read_at, max_records, self._backlog.skipped)
        if batches:
            self._backlog.read_at = batches[-1].place
        return batches

    async def skip_to(self, journal_id: str, position: int) -> None:
        """Skip the batches of this journal that the sink has stored already.

        Unstored batches of older journals are read before the rest of this one, and their files are kept.
        """
        backlog = self._backlog
        if position <= backlog.skipped.get(journal_id, 0):
            return
        files = [file for file in self._reader.files.kept if file.name.journal_id == journal_id]
        floors = [backlog.floor_in(file) for file in files]
        backlog.skipped[journal_id] = position
        for file, floor in zip(files, floors, strict=True):
            if file.totals.first_position > position or file.totals.last_position <= floor:
                continue
            if position >= file.totals.last_position:
                counts = backlog.left_in(file.name.sequence)
            else:
                with self._reader.files.using(file):
                    counts = await self._reader.files.in_reader(partial(file.counts_between, floor, position))
            backlog.take(file.name.sequence, counts)
            if journal_id != self._reader.journal_id:
                add_counts(backlog.recovered, counts, -1)
        self._let_go()

    def acknowledge(self, batches: list[Batch]) -> None:
        """Note that the sink has stored everything up to and including these batches."""
        self._backlog.acknowledge(batches)
        self._let_go()

    def _let_go(self) -> None:
        self._backlog.pass_skipped(self._reader.files.kept)
        self._release()

    @property
    def read_at(self) -> FilePlace:
        """The place of the last batch read."""
        return self._backlog.read_at

    @property
    def pending_records(self) -> int:
        """The number of records journaled and not acknowledged."""
        return sum(self.pending.values())

    def oldest_pending_at(self) -> int | None:
        """When the oldest unacknowledged batch was sealed, in microseconds since the epoch; None if there is none.

        Never waits for the disk. If only the disk knows, a look-up is started and the previous answer returned.
        """
        file = self._reader.files.after(self._backlog.acknowledged_at, self._backlog.skipped)
        if file is None:
            return None
        if self._backlog.has_none_of(file):
            return file.totals.oldest_sealed_at
        floor = self._backlog.floor_in(file)
        if (batch := self._reader.in_memory(file.name.journal_id, floor + 1)) is not None:
            return batch.sealed_at
        place = (file.name.sequence, floor)
        if self._sealed_after is None or self._sealed_after[0] != place:
            self._look_up(file, place)
        return self._sealed_after[1] if self._sealed_after is not None else file.totals.oldest_sealed_at

    def age_s(self) -> float:
        """The age in seconds of the oldest unacknowledged batch; 0 if there is none."""
        sealed_at = self.oldest_pending_at()
        return 0 if sealed_at is None else max(0, now_us() - sealed_at) / 1e6

    def _look_up(self, file: JournalFile, place: FilePlace) -> None:
        if self._looking_up is not None and not self._looking_up.done():
            return

        def answered(future: Future[int | None]) -> None:
            if not future.cancelled() and future.exception() is None and (at := future.result()) is not None:
                self._sealed_after = place, at

        with contextlib.suppress(JournalError):  # closed
            self._looking_up = self._reader.files.look_up(partial(file.sealed_after, place[1]))
            self._looking_up.add_done_callback(answered)
