"""The files of the journal on disk, and the two threads that touch them.

The writer's thread appends to the newest file. The reader's thread reads, and does everything to the other files. So
nothing is rewritten or deleted while it is being read, and neither keeps an append waiting.
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
        self.last_sequence = 0
        self._directory = directory
        self._journal_id = journal_id
        self._file_bytes = file_bytes
        self._log_pages = max(16, min(1000, file_bytes // 4 // _PAGE_BYTES))
        self._metrics = metrics
        self._undeleted: list[JournalFile] = []  # every sink has passed them, and the disk refused to delete them
        self._in_use: list[JournalFile] = []  # the reader's thread is asked something about them
        self._writer = Worker("journal-writer")
        self._reader = Worker("journal-reader")

    def close(self) -> list[str]:
        """Close the files. Returns the names of threads that hang in the disk: these are left to themselves."""
        with contextlib.suppress(WorkerClosed):
            self._writer.submit(partial(_finish_all, list(self.kept)))
        hung = [worker.name for worker in (self._writer, self._reader) if not worker.close(CLOSE_S)]
        if not hung:
            for file in self.kept:
                file.close()
        return hung

    @property
    def size_bytes(self) -> int:
        """What the batches take on disk, with the write-ahead log; see `JournalFile.size_bytes`."""
        return sum(file.size_bytes for file in self.kept) + sum(file.size_bytes for file in self._undeleted)

    def newest_place(self) -> FilePlace | None:
        """Where the newest batch lies; None without a file."""
        return (self.kept[-1].name.sequence, self.kept[-1].last_position) if self.kept else None

    def after(self, place: FilePlace, skipped: dict[str, int]) -> JournalFile | None:
        """The first file with a batch beyond `place` that is not skipped; `skipped`: see `BatchReader.read_after`."""
        for file in self.kept:
            is_beyond = (file.name.sequence, file.last_position) > place
            if is_beyond and file.last_position > skipped.get(file.name.journal_id, 0):
                return file
        return None

    def active(self) -> JournalFile | None:
        """The file that takes appends."""
        return self.kept[-1] if self.kept and not self.kept[-1].ended else None

    def is_large(self, file: JournalFile) -> bool:
        """Whether the file is so large that it takes no more appends."""
        return file.size_bytes >= self._file_bytes

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
        """The file takes no more appends. One without a batch is deleted: such files must not pile up."""
        file.ended = True
        if not file.last_position and file in self.kept:
            self.kept.remove(file)
            self._delete(file)

    def delete_oldest(self) -> JournalFile:
        """Delete the oldest file, which every sink has stored."""
        file = self.kept.pop(0)
        self._delete(file)
        return file

    def replace(self, file: JournalFile, smaller: JournalFile) -> None:
        """A file was rewritten, with fewer records; one without any is deleted."""
        index = self.kept.index(file)
        if any(smaller.counts.values()):
            self.kept[index] = smaller
        else:
            del self.kept[index]
            self._delete(smaller)

    @contextlib.contextmanager
    def using(self, file: JournalFile) -> Iterator[None]:
        """Inside the block the file is not rewritten."""
        self._in_use.append(file)
        try:
            yield
        finally:
            self._in_use.remove(file)

    def is_in_use(self, file: JournalFile) -> bool:
        """Whether the reader's thread is asked something about the file."""
        return file in self._in_use

    async def in_writer(self, work: Callable[[], T]) -> T:
        """Do it in the writer's thread. Raises JournalError once the journal is closed."""
        return await asyncio.wrap_future(_submitted(self._writer, work))

    async def in_reader(self, work: Callable[[], T]) -> T:
        """Do it in the reader's thread. Raises JournalError once the journal is closed."""
        return await asyncio.wrap_future(self.look_up(work))

    def look_up(self, work: Callable[[], T]) -> Future[T]:
        """Do it in the reader's thread; nobody waits for it."""
        return _submitted(self._reader, work)

    def _delete(self, file: JournalFile) -> None:
        file.ended = True
        again, self._undeleted = self._undeleted, []
        for gone in (*again, file):
            with contextlib.suppress(WorkerClosed):  # the next start finds the file, and skips it
                self._reader.submit(gone.unlink).add_done_callback(partial(self._deleted, gone))

    def _deleted(self, file: JournalFile, done: Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._undeleted.append(file)  # tried again with the next one
            self._metrics.journal_errors.inc()
            log.error("journal_file_not_deleted", path=str(file.path), error=str(error))


def _submitted(worker: Worker, work: Callable[[], T]) -> Future[T]:
    try:
        return worker.submit(work)
    except WorkerClosed as error:
        raise JournalError(str(error)) from error


def _finish_all(files: list[JournalFile]) -> None:
    for file in files:
        if not file.ended:
            file.finish()
