"""The files of the journal on disk, and the two threads that touch them.

The writer's thread appends to the newest file. The reader's thread reads, and rewrites and deletes the other files. So
no file is rewritten or deleted while it is being read, and no append waits for either.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from ingestd.errors import JournalError, WorkerClosed
from ingestd.failpoints import passing
from ingestd.journal.batch import FilePlace
from ingestd.journal.file import FileName, JournalFile
from ingestd.ops.metrics import Metrics
from ingestd.worker import Worker

log = structlog.get_logger()

T = TypeVar("T")

CLOSE_S = 10.0
_PAGE_BYTES = 4096


class JournalFiles:
    """The files, oldest first. Only the newest one may take appends."""

    def __init__(self, directory: Path, journal_id: str, file_bytes: int, metrics: Metrics) -> None:
        self.kept: list[JournalFile] = []
        self.in_use: list[JournalFile] = []  # the reader's thread works on them
        self.last_sequence = 0
        self._directory = directory
        self._journal_id = journal_id
        self._file_bytes = file_bytes
        self._log_pages = max(16, min(1000, file_bytes // 4 // _PAGE_BYTES))
        self._metrics = metrics
        self._undeleted: list[JournalFile] = []  # stored by every sink, but the disk refused to delete them
        self._writer = Worker("journal-writer")
        self._reader = Worker("journal-reader")

    def close(self) -> list[str]:
        """Close the files. Returns the names of the threads that hang in the disk and were abandoned."""
        with contextlib.suppress(WorkerClosed):
            for file in self.kept:
                if not file.ended:
                    self._writer.submit(file.finish)
        hung = [worker.name for worker in (self._writer, self._reader) if not worker.close(CLOSE_S)]
        if not hung:
            for file in self.kept:
                file.close()
        return hung

    @property
    def size_bytes(self) -> int:
        """The size on disk; see `JournalFile.size_bytes`."""
        return sum(file.size_bytes for file in (*self.kept, *self._undeleted))

    def after(self, place: FilePlace, skipped: dict[str, int]) -> JournalFile | None:
        """The first file with a batch after `place` that is not skipped; `skipped`: see `BatchReader.read_after`."""
        for file in self.kept:
            if file.place > place and file.totals.last_position > skipped.get(file.name.journal_id, 0):
                return file
        return None

    def active(self) -> JournalFile | None:
        """The file that takes appends; None if there is none, or if it has reached its size."""
        is_active = self.kept and not self.kept[-1].ended and self.kept[-1].size_bytes < self._file_bytes
        return self.kept[-1] if is_active else None

    async def begin(self) -> JournalFile:
        """Begin a new file, and finish the previous one."""
        previous = self.kept[-1] if self.kept else None
        self.last_sequence += 1
        name = FileName(self.last_sequence, self._journal_id)
        file = await self.in_writer(partial(JournalFile.create, self._directory, name, self._log_pages))
        self.kept.append(file)
        if previous is not None:
            passing("journal.rotate")
            await self.in_writer(previous.finish)
        return file

    def end(self, file: JournalFile) -> None:
        """End a file. One without a batch is deleted, so that such files do not pile up."""
        file.ended = True
        if not file.totals.last_position and file in self.kept:
            self.delete(file)

    def replace(self, file: JournalFile, smaller: JournalFile) -> None:
        """Put a rewritten file in the place of the old one. Delete the rewritten file if no records are left in it."""
        self.kept[self.kept.index(file)] = smaller
        if not any(smaller.totals.counts.values()):
            self.delete(smaller)

    @contextlib.contextmanager
    def using(self, file: JournalFile) -> Iterator[None]:
        """Keep the file from being rewritten while the block runs."""
        self.in_use.append(file)
        try:
            yield
        finally:
            self.in_use.remove(file)

    async def in_writer(self, work: Callable[[], T]) -> T:
        """Run `work` in the writer's thread. Raises JournalError after `close`."""
        return await asyncio.wrap_future(_submitted(self._writer, work))

    async def in_reader(self, work: Callable[[], T]) -> T:
        """Run `work` in the reader's thread. Raises JournalError after `close`."""
        return await asyncio.wrap_future(self.look_up(work))

    def look_up(self, work: Callable[[], T]) -> Future[T]:
        """Start `work` in the reader's thread without waiting for it. Raises JournalError after `close`."""
        return _submitted(self._reader, work)

    def delete(self, file: JournalFile) -> None:
        """Delete a file that every sink has stored. If the disk refuses, the next call of `delete` tries it again."""
        self.kept.remove(file)
        file.ended = True
        again, self._undeleted = self._undeleted, []
        for gone in (*again, file):
            with contextlib.suppress(WorkerClosed):  # the next start finds the file, and the sinks skip its batches
                self._reader.submit(gone.unlink).add_done_callback(partial(self._deleted, gone))

    def _deleted(self, file: JournalFile, done: Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._undeleted.append(file)
            self._metrics.journal_errors.inc()
            log.error("journal_file_not_deleted", path=str(file.path), error=str(error))


def _submitted(worker: Worker, work: Callable[[], T]) -> Future[T]:
    try:
        return worker.submit(work)
    except WorkerClosed as error:
        raise JournalError(str(error)) from error
