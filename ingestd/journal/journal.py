"""The local journal: a sealed batch is durable here before any durable sink sees it.

Positions are (journal id, integer): the id is new for every process start, the integer counts up from 1. So a tail
that a host crash took back can never be mistaken for something a sink has already stored.

Each durable sink reads with a cursor of its own: from memory while it keeps up, from the files when it fell behind.
A file is unlinked when every cursor has acknowledged it.

Two threads touch the disk. The writer's appends to the newest file; the reader's does everything to the others, and
reads. So nothing is rewritten or unlinked while it is being read, and neither ever keeps an append waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

import msgspec
import structlog

from ingestd.channels import ROWS, count_channels
from ingestd.clock import now_us
from ingestd.config.models import JournalConfig
from ingestd.errors import JournalDamaged, JournalError, JournalFull, WorkerClosed
from ingestd.failpoints import passing
from ingestd.gaps.open_gaps import Dropped
from ingestd.journal.cursor import Batch, Cursor, Place
from ingestd.journal.disk import row_bytes
from ingestd.journal.file import FileName, JournalFile, add_counts
from ingestd.journal.recovery import files_left, gaps_left_by, take_directory
from ingestd.journal.rows import StoredBatch
from ingestd.journal.salvage import Rewritten, salvage, without_channel
from ingestd.ops.metrics import Metrics
from ingestd.records import FeedGap, Record, StreamId, decode_batch, encode_batch
from ingestd.worker import Worker

__all__ = ["DROP_ORDER", "Batch", "Cursor", "Journal", "Place"]

log = structlog.get_logger()

T = TypeVar("T")

# What `drop_oldest` gives up first. Gap and rejection rows are never dropped.
DROP_ORDER = tuple(row.name for row in sorted(ROWS, key=lambda row: row.drop_rank))

# A read brings no more than this, besides its first batch: decoded it is several times as large.
_READ_BYTES = 8 * 2**20
_PAGE_BYTES = 4096
_CLOSE_S = 10.0


class Journal:
    """Owns the files, the lock on the state directory, and the two threads that touch the disk."""

    def __init__(self, state_dir: Path, config: JournalConfig, metrics: Metrics) -> None:
        self.directory = state_dir / "journal"
        self.journal_id = secrets.token_hex(8)
        self.error: str | None = None
        self._config = config
        self._metrics = metrics
        # A file must be able to end while there is still room for the next one.
        self._file_bytes = max(1, min(config.file_bytes, config.max_bytes // 4))
        # Memory is the smaller part of what is kept: dropping takes what it drops out of memory, too.
        self._memory_limit_bytes = min(config.memory_bytes, config.max_bytes // 4)
        self._log_pages = max(16, min(1000, self._file_bytes // 4 // _PAGE_BYTES))
        self._lock: IO[str] | None = None
        self._files: list[JournalFile] = []
        self._last_sequence = 0
        self._undeleted: list[JournalFile] = []  # every sink has passed them, and the disk refused to delete them
        self._in_use: list[JournalFile] = []  # the reader's thread is asked something about them
        self._mending = asyncio.Lock()
        self._unfinished: set[asyncio.Future[None]] = set()
        self._lost_at_open: dict[str, int] = {}
        self._dropped: list[tuple[StreamId, Dropped]] = []
        self._damage_gaps: list[FeedGap] = []
        self._memory: deque[Batch] = deque()
        self._memory_bytes = 0
        self._memory_floor: Place = (0, 0)  # the last batch that is only on disk
        self._cursors: list[Cursor] = []
        self._next_position = 1
        self._released = asyncio.Event()
        self._writer = Worker("journal-writer")
        self._reader = Worker("journal-reader")

    def open(self) -> None:
        """Take the directory, and find what an earlier process left.

        Raises JournalLocked when another process has it, JournalVersion when a newer ingestd wrote there.
        """
        self._lock = take_directory(self.directory)
        try:
            found = files_left(self.directory)
        except JournalError:
            self._lock.close()
            raise
        self._files, self._last_sequence = found.files, found.last_sequence
        self._lost_at_open, self._damage_gaps = found.lost, found.gaps
        self._count_dropped(found.lost, "journal_damaged")
        self._memory_floor = self._newest_place()
        self._metrics.journal_age_s.set_function(self._age_s)
        self._show()

    def close(self) -> None:
        """Give the directory back. What is not stored yet stays for the next start.

        Takes at most twenty seconds: a thread that hangs in the disk is left to itself, it ends with the process, and
        so does the lock then.
        """
        with contextlib.suppress(WorkerClosed):
            self._writer.submit(partial(_finish_all, list(self._files)))
        hung = [worker.name for worker in (self._writer, self._reader) if not worker.close(_CLOSE_S)]
        if hung:
            log.error("journal_hangs", threads=hung, directory=str(self.directory))
            return
        for file in self._files:
            file.close()
        if self._lock is not None:
            self._lock.close()

    def cursor(self, name: str) -> Cursor:
        """A place for one durable sink, before the oldest batch kept."""
        cursor = Cursor(self, name)
        for file in self._files:
            cursor.add(file.name.sequence, file.counts)
            if file.name.journal_id != self.journal_id:
                add_counts(cursor.recovered, file.counts)
        add_counts(cursor.recovered, self._lost_at_open)
        self._cursors.append(cursor)
        return cursor

    @property
    def recovered(self) -> dict[str, int]:
        """Records by channel that the sinks have to store from before this start, or that are counted as dropped.

        Found at `open`, without what was skipped by `skip_to`; the most that any cursor has. What is dropped of them
        later stays counted here, and so does what salvaging lost at `open`: `dropped` has it.
        """
        most: dict[str, int] = {}
        for cursor in self._cursors:
            for channel, count in cursor.recovered.items():
                most[channel] = max(count, most.get(channel, 0))
        return most

    @property
    def journal_ids(self) -> list[str]:
        """The journals that still have files, oldest first."""
        return list(dict.fromkeys(file.name.journal_id for file in self._files))

    @property
    def size_bytes(self) -> int:
        """What the batches take on disk, with the write-ahead log; see `JournalFile.size_bytes`."""
        return sum(file.size_bytes for file in self._files) + sum(file.size_bytes for file in self._undeleted)

    def files(self) -> list[JournalFile]:
        """The files kept, oldest first; a copy."""
        return list(self._files)

    async def append(self, records: list[Record]) -> Batch:
        """Make a batch durable.

        Raises JournalFull when there is no room and nothing may be dropped, JournalError when the disk fails twice;
        the batch is the caller's still. After a JournalError a crash may bring it back nevertheless, unless it is
        appended again.
        """
        payload = encode_batch(records)
        stored = StoredBatch(self._next_position, now_us(), count_channels(records), payload)
        try:
            await self._make_room(row_bytes(len(payload)))
            file = await self._append(stored)
        except JournalError as error:
            self.error = str(error)
            self._metrics.journal_errors.inc()
            self._metrics.journal_full.set(isinstance(error, JournalFull))
            raise
        self.error = None
        self._next_position += 1
        batch = Batch(
            journal_id=self.journal_id,
            position=stored.position,
            sealed_at=stored.sealed_at,
            counts=stored.counts,
            records=records,
            size_bytes=len(payload),
            file_sequence=file.name.sequence,
        )
        self._publish(batch)
        return batch

    def take_dropped(self) -> list[tuple[StreamId, Dropped]]:
        """What was given up since the last call because the journal was full."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def take_damage_gaps(self) -> list[FeedGap]:
        """The gaps that damaged files have left since the last call."""
        gaps, self._damage_gaps = self._damage_gaps, []
        return gaps

    async def room_made(self, timeout_s: float) -> None:
        """Until a file was released, at most `timeout_s`."""
        self._released.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._released.wait()

    async def read_after(self, place: Place, max_records: int, skipped: dict[str, int] | None = None) -> list[Batch]:
        """The batches beyond `place`, oldest first; at least one if there is one.

        `skipped`: by journal id, the position up to which it is passed over.
        """
        skipped = skipped or {}
        while place < self._memory_floor and (file := self.file_after(place, skipped)) is not None:
            after = max(place[1] if file.name.sequence == place[0] else 0, skipped.get(file.name.journal_id, 0))
            batches = await self._read_file(file, after, max_records)
            if batches:
                return batches
            if file in self._files:
                place = file.name.sequence, file.last_position
        return self._read_memory(place, max_records, skipped.get(self.journal_id, 0))

    def file_after(self, place: Place, skipped: dict[str, int]) -> JournalFile | None:
        """The first file with a batch beyond `place` that is not skipped."""
        for file in self._files:
            is_beyond = (file.name.sequence, file.last_position) > place
            if is_beyond and file.last_position > skipped.get(file.name.journal_id, 0):
                return file
        return None

    def in_memory(self, journal_id: str, position: int) -> Batch | None:
        """That batch, if it is in memory."""
        if journal_id != self.journal_id or not self._memory:
            return None
        index = position - self._memory[0].position
        return self._memory[index] if 0 <= index < len(self._memory) else None

    async def counts_between(self, file: JournalFile, after: int, position: int) -> dict[str, int]:
        """Records by channel in the batches of a file beyond `after` up to and including `position`."""
        with self._using(file):
            return await self._in_reader(partial(file.counts_between, after, position))

    def look_up(self, work: Callable[[], T]) -> Future[T]:
        """Do it in the reader's thread. Raises JournalError once the journal is closed."""
        return _submitted(self._reader, work)

    def release(self) -> None:
        """Unlink the files that every cursor has passed."""
        passed = min((cursor.acknowledged_at for cursor in self._cursors), default=self._newest_place())
        while len(self._files) > 1 and (self._files[0].name.sequence, self._files[0].last_position) <= passed:
            self._unlink_oldest()
        # The last file goes too when it is not ours to write, or when it alone keeps the journal from being empty.
        if len(self._files) == 1 and self._newest_place() <= passed and self._may_end(self._files[0]):
            self._unlink_oldest()
        while self._memory and self._memory[0].place <= passed:
            self._forget_oldest()
        self._show()

    async def _append(self, stored: StoredBatch) -> JournalFile:
        active = self._active()
        if active is None or active.size_bytes >= self._file_bytes:
            active = await self._begin_file()
        try:
            await self._in_writer(partial(active.append, stored))
        except JournalFull:
            # On a full disk this file must be able to go once it is stored, or nothing ever frees any room.
            self._end(active)
            raise
        except JournalError:
            # After a failed sync the state of that file is unknown: it is never synced again, a new one begins.
            log.warning("journal_file_failed", path=str(active.path), exc_info=True)
            self._end(active)
            active = await self._begin_file()
            try:
                await self._in_writer(partial(active.append, stored))
            except JournalError:
                self._end(active)
                raise
        return active

    def _active(self) -> JournalFile | None:
        """The file that takes appends."""
        newest = self._files[-1] if self._files else None
        return newest if newest is not None and not newest.ended else None

    async def _begin_file(self) -> JournalFile:
        previous = self._files[-1] if self._files else None
        self._last_sequence += 1
        name = FileName(self._last_sequence, self.journal_id)
        file = await self._in_writer(partial(JournalFile.create, self.directory, name, self._log_pages))
        self._files.append(file)
        if previous is not None:
            passing("journal.rotate")
            await self._in_writer(previous.finish)
        return file

    def _end(self, file: JournalFile) -> None:
        """It takes no more appends. Files without a batch do not pile up, and one that is stored frees its room."""
        file.ended = True
        if not file.last_position and file in self._files:
            self._files.remove(file)
            self._unlink(file)
        self.release()

    async def _make_room(self, size: int) -> None:
        while self.size_bytes + size > self._config.max_bytes:
            if all(cursor.acknowledged_at >= self._newest_place() for cursor in self._cursors):
                # There is nothing to wait for: what is kept is stored, and one batch is taken whatever its size.
                if (active := self._active()) is not None:
                    self._end(active)
                return
            if self._config.when_full == "drop_oldest" and await self._drop_oldest():
                continue
            raise JournalFull(
                f"the journal holds {self.size_bytes} of {self._config.max_bytes} bytes (journal.max_bytes) "
                "and its sinks have not stored them; mend the sink or raise the limit"
            )

    async def _drop_oldest(self) -> bool:
        """Give up the least valuable channel of the oldest file no sink has begun. False: nothing to give up."""
        candidates = [file for file in self._files if self._may_shrink(file)]
        for channel in DROP_ORDER:
            for file in candidates:
                if file.counts.get(channel, 0) and file in self._files and self._may_shrink(file):
                    await self._whole(self._drop(file, channel))
                    return True
        return False

    def _may_shrink(self, file: JournalFile) -> bool:
        if file.ended and file not in self._in_use and not any(cursor.has_begun(file) for cursor in self._cursors):
            return any(cursor.floor_in(file) < file.first_position for cursor in self._cursors)
        return False

    async def _drop(self, file: JournalFile, channel: str) -> None:
        sequence = file.name.sequence
        while self._memory and self._memory[0].file_sequence <= sequence:
            self._forget_oldest()  # what a sink gets is what is counted as kept: from the file
        waiting = [cursor for cursor in self._cursors if cursor.floor_in(file) < file.first_position]
        rewritten = await self._in_reader(partial(without_channel, file, channel))
        for cursor in waiting:
            cursor.lose(sequence, rewritten.file.counts)
        self._replace(file, rewritten.file)
        self._count_dropped({channel: file.counts[channel]}, "journal_full")
        self._dropped += rewritten.dropped.items()
        self._count_dropped(rewritten.lost, "journal_damaged")
        log.warning("journal_full_dropped", channel=channel, records=file.counts[channel], file=str(file.name))
        self._show()

    def _replace(self, file: JournalFile, smaller: JournalFile) -> None:
        index = self._files.index(file)
        if any(smaller.counts.values()):
            self._files[index] = smaller
        else:
            del self._files[index]
            self._unlink(smaller)

    def _publish(self, batch: Batch) -> None:
        for cursor in self._cursors:
            cursor.add(batch.file_sequence, batch.counts)
            cursor.wake()
        self._memory.append(batch)
        self._memory_bytes += batch.memory_bytes
        while len(self._memory) > 1 and self._memory_bytes > self._memory_limit_bytes:
            self._forget_oldest()
        for channel, count in batch.counts.items():
            self._metrics.journaled.labels(channel).inc(count)
        self._metrics.journal_full.set(0)
        if not self._cursors:
            self.release()
        self._show()

    def _forget_oldest(self) -> None:
        batch = self._memory.popleft()
        self._memory_bytes -= batch.memory_bytes
        self._memory_floor = batch.place

    def _read_memory(self, place: Place, max_records: int, skipped: int) -> list[Batch]:
        if not self._memory:
            return []
        first = self._memory[0]
        after = max(place[1] if place >= first.place else 0, skipped)
        batches: list[Batch] = []
        count = size = 0
        for batch in islice(self._memory, max(0, after + 1 - first.position), None):
            count += len(batch.records)
            size += batch.size_bytes
            if batches and (count > max_records or size > _READ_BYTES):
                break
            batches.append(batch)
        return batches

    async def _read_file(self, file: JournalFile, after: int, max_records: int) -> list[Batch]:
        """Empty, too, when the file was replaced meanwhile."""
        with self._using(file):
            try:
                return await self._in_reader(partial(_read, file, after, max_records))
            except JournalDamaged as error:
                async with self._mending:
                    if file in self._files:
                        await self._whole(self._salvage(file, error))
                return []
            except JournalError:
                if file in self._files:
                    raise
                return []

    async def _salvage(self, file: JournalFile, error: JournalDamaged) -> None:
        file.ended = True
        rewritten = await self._in_reader(partial(salvage, file, file.last_position + 1))
        lost = self._lose(file, rewritten)
        self._count_dropped(lost, "journal_damaged")
        self._damage_gaps += gaps_left_by(file, rewritten, lost)
        self._replace(file, rewritten.file)
        log.error(
            "journal_file_damaged",
            path=str(file.path),
            error=str(error),
            records_missing=lost,
            records_kept=rewritten.file.counts,
            kept_aside=[str(path) for path in rewritten.kept_aside],
        )

    def _lose(self, file: JournalFile, rewritten: Rewritten) -> dict[str, int]:
        """What went of the records some sink has not stored yet."""
        most: dict[str, int] = {}
        for cursor in self._cursors:
            gone = cursor.lose(file.name.sequence, rewritten.counts_beyond(cursor.floor_in(file)))
            for channel, count in gone.items():
                most[channel] = max(count, most.get(channel, 0))
        return most

    def _newest_place(self) -> Place:
        if not self._files:
            return self._memory_floor
        return self._files[-1].name.sequence, self._files[-1].last_position

    def _may_end(self, file: JournalFile) -> bool:
        return file.ended or file.size_bytes >= self._file_bytes

    def _unlink_oldest(self) -> None:
        file = self._files.pop(0)
        self._memory_floor = max(self._memory_floor, (file.name.sequence, file.last_position))
        for cursor in self._cursors:
            cursor.forget(file.name.sequence)
        self._unlink(file)
        self._released.set()

    def _unlink(self, file: JournalFile) -> None:
        file.ended = True
        again, self._undeleted = self._undeleted, []
        for gone in (*again, file):
            with contextlib.suppress(WorkerClosed):  # the next start finds it, and skips it
                self._reader.submit(gone.unlink).add_done_callback(partial(self._unlinked, gone))

    def _unlinked(self, file: JournalFile, done: Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._undeleted.append(file)  # tried again with the next one
            self._metrics.journal_errors.inc()
            log.error("journal_file_not_deleted", path=str(file.path), error=str(error))

    def _count_dropped(self, counts: dict[str, int], reason: str) -> None:
        for channel, count in counts.items():
            if count > 0:
                self._metrics.dropped.labels(channel, reason).inc(count)

    def _show(self) -> None:
        self._metrics.journal_bytes.set(self.size_bytes)

    def _age_s(self) -> float:
        """Of the oldest batch that some sink has not acknowledged; 0 when there is none."""
        waiting = [at for cursor in self._cursors if (at := cursor.oldest_pending_at()) is not None]
        return max(0, now_us() - min(waiting)) / 1e6 if waiting else 0.0

    @contextlib.contextmanager
    def _using(self, file: JournalFile) -> Iterator[None]:
        self._in_use.append(file)
        try:
            yield
        finally:
            self._in_use.remove(file)

    async def _whole(self, work: Coroutine[None, None, None]) -> None:
        """To its end, also when the caller is cancelled: what the disk holds and what is counted go together."""
        task = asyncio.ensure_future(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        await asyncio.shield(task)

    async def _in_writer(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(_submitted(self._writer, work))

    async def _in_reader(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(_submitted(self._reader, work))


def _submitted(worker: Worker, work: Callable[[], T]) -> Future[T]:
    try:
        return worker.submit(work)
    except WorkerClosed as error:
        raise JournalError(str(error)) from error


def _read(file: JournalFile, after: int, max_records: int) -> list[Batch]:
    """In the reader's thread: the event loop does not wait for the decoding either."""
    batches: list[Batch] = []
    for stored in file.read(after, max_records, _READ_BYTES):
        try:
            batches.append(_decoded(file, stored))
        except msgspec.DecodeError as error:
            if batches:
                break  # the next read meets it first
            raise JournalDamaged(f"{file.path}: batch {stored.position} cannot be decoded: {error}") from error
    return batches


def _decoded(file: JournalFile, stored: StoredBatch) -> Batch:
    return Batch(
        journal_id=file.name.journal_id,
        position=stored.position,
        sealed_at=stored.sealed_at,
        counts=stored.counts,
        records=decode_batch(stored.payload),
        size_bytes=len(stored.payload),
        file_sequence=file.name.sequence,
    )


def _finish_all(files: list[JournalFile]) -> None:
    for file in files:
        if not file.ended:
            file.finish()
