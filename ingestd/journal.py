"""The local journal: a sealed batch is durable here before any durable sink sees it.

Positions are (journal id, integer): the id is new for every process start, the integer counts up from 1. So a tail
that a host crash took back can never be mistaken for something a sink has already stored.

Each durable sink reads with a cursor of its own: from memory while it keeps up, from the files when it fell behind.
A file is unlinked when every cursor has acknowledged it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

import msgspec
import structlog

from ingestd.clock import now_us
from ingestd.config import JournalConfig
from ingestd.errors import JournalError, JournalFull, JournalLocked
from ingestd.journal_file import (
    FileName,
    JournalDamaged,
    JournalFile,
    StoredBatch,
    add_counts,
    row_bytes,
    sync_directory,
)
from ingestd.ops.metrics import Metrics
from ingestd.records import Record, count_channels, decode_batch, encode_batch

log = structlog.get_logger()


T = TypeVar("T")

# (file sequence, position): orders every batch ever kept in one directory.
Place = tuple[int, int]

# What `drop_oldest` gives up first. Gap and rejection rows are never dropped.
DROP_ORDER = ("order_book", "ticks", "open_interest", "funding", "candles", "trades")


@dataclass(frozen=True, slots=True)
class Batch:
    """A sealed, durable batch."""

    journal_id: str
    position: int
    sealed_at: int
    counts: dict[str, int]
    records: list[Record]
    size_bytes: int
    file_sequence: int

    @property
    def place(self) -> Place:
        return self.file_sequence, self.position


class Cursor:
    """One durable sink's place in the journal. Reads go forward; only `acknowledge` lets files go."""

    def __init__(self, journal: Journal, name: str) -> None:
        self.name = name
        self.acknowledged_at: Place = (0, 0)
        self.read_at: Place = (0, 0)
        self.pending: dict[str, int] = {}  # records by channel that are journaled and not acknowledged
        self.recovered: dict[str, int] = {}  # of those, what an earlier process had left for this sink
        self._acknowledged_until = 0  # when the last acknowledged batch was sealed
        self._skipped: dict[str, int] = {}  # journal id -> position, where older batches are still to be read
        self._journal = journal
        self._woken = asyncio.Event()

    async def wait(self) -> None:
        """Until there may be something new to read, or `wake` was called."""
        await self._woken.wait()
        self._woken.clear()

    def wake(self) -> None:
        """End the present or next `wait`."""
        self._woken.set()

    async def read(self, max_records: int) -> list[Batch]:
        """The next batches, about `max_records` records of them; empty when there is nothing new."""
        while batches := await self._journal.read_after(self.read_at, max_records):
            self.read_at = batches[-1].place
            wanted = [batch for batch in batches if batch.position > self._skipped.get(batch.journal_id, 0)]
            if wanted:
                return wanted
        return []

    async def skip_to(self, journal_id: str, position: int) -> None:
        """What the sink has already stored of this journal is not read again."""
        place, counts = await self._journal.counts_between(self.acknowledged_at, journal_id, position)
        if place <= self.acknowledged_at:
            return
        add_counts(self.pending, counts, -1)
        add_counts(self.recovered, counts, -1)
        if self._journal.is_next(self.acknowledged_at, journal_id):
            self._advance(place)
        else:
            # An older journal is not stored to its end: moving past it would let its files go.
            self._skipped[journal_id] = position

    def acknowledge(self, batches: list[Batch]) -> None:
        """The sink has stored everything up to and including these."""
        for batch in batches:
            add_counts(self.pending, batch.counts, -1)
        self._acknowledged_until = batches[-1].sealed_at
        self._advance(batches[-1].place)

    @property
    def pending_records(self) -> int:
        return sum(self.pending.values())

    def oldest_pending_at(self) -> int | None:
        """When the oldest batch that is not acknowledged was sealed, microseconds since the epoch; None: none is.

        Exact while the sink keeps up; of one that is behind, when the batch before it was sealed.
        """
        if not self.pending_records:
            return None
        return self._journal.sealed_after(self.acknowledged_at) or self._acknowledged_until or None

    def _advance(self, place: Place) -> None:
        self.acknowledged_at = place
        self.read_at = max(self.read_at, place)
        self._journal.release()


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
        # And what lies in memory is not dropped: it must be the smaller part of what is kept.
        self._memory_limit_bytes = min(config.memory_bytes, config.max_bytes // 4)
        self._lock: IO[str] | None = None
        self._files: list[JournalFile] = []
        self._ended: JournalFile | None = None  # takes no more appends although it is the newest
        self._memory: deque[Batch] = deque()
        self._memory_bytes = 0
        self._being_read: set[int] = set()  # sequences of the files a sink is reading from
        self._memory_floor: Place = (0, 0)  # the last batch that is only on disk
        self._cursors: list[Cursor] = []
        self._next_position = 1
        self._released = asyncio.Event()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal-writer")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="journal-reader")

    def open(self) -> None:
        """Take the directory, and find what an earlier process left.

        Raises JournalLocked when another process has it, JournalVersion when a newer ingestd wrote there.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            sync_directory(self.directory.parent)
            self._lock = (self.directory.parent / "lock").open("a+")
        except OSError as error:
            raise JournalError(
                f"the state directory {self.directory.parent} cannot be used: {error.strerror}; "
                "create it for this user, or set instance.state_dir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            self._lock = None
            raise JournalLocked(
                f"another ingestd owns {self.directory.parent}; stop it, or give this one its own instance.state_dir"
            ) from error
        try:
            self._files = self._files_left()
        except JournalError:
            self._lock.close()
            raise
        if self._files:
            self._memory_floor = (self._files[-1].name.sequence, self._files[-1].last_position)
        self._show()

    def close(self) -> None:
        """Give the directory back. What is not stored yet stays for the next start."""
        self._writer.shutdown(wait=True)
        self._reader.shutdown(wait=True)
        for file in self._files:
            file.close()
        if self._lock is not None:
            self._lock.close()

    def cursor(self, name: str) -> Cursor:
        """A place for one durable sink, before the oldest batch kept."""
        cursor = Cursor(self, name)
        for file in self._files:
            add_counts(cursor.pending, file.counts)
            if file.name.journal_id != self.journal_id:
                add_counts(cursor.recovered, file.counts)
        self._cursors.append(cursor)
        return cursor

    @property
    def journal_ids(self) -> list[str]:
        """The journals that still have files, oldest first."""
        return list(dict.fromkeys(file.name.journal_id for file in self._files))

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self._files)

    def sealed_after(self, place: Place) -> int | None:
        """When the first batch beyond `place` was sealed, where that is known without reading the disk."""
        if place >= self._memory_floor:
            index = self._memory_index(place)
            return self._memory[index].sealed_at if index < len(self._memory) else None
        for file in self._files:
            if place < (file.name.sequence, file.first_position):
                return file.oldest_sealed_at
            if place < (file.name.sequence, file.last_position):
                return None
        return None

    def is_next(self, place: Place, journal_id: str) -> bool:
        """Whether nothing of another journal is kept between `place` and the first file of this one."""
        for file in self._files:
            if (file.name.sequence, file.last_position) > place:
                return file.name.journal_id == journal_id
        return True

    async def append(self, records: list[Record]) -> Batch:
        """Make a batch durable.

        Raises JournalFull when there is no room and nothing may be dropped, JournalError when the disk fails twice;
        the batch is the caller's still.
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

    async def room_made(self, timeout_s: float) -> None:
        """Until a file was released, at most `timeout_s`."""
        self._released.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._released.wait()

    async def read_after(self, place: Place, max_records: int) -> list[Batch]:
        """The batches beyond `place`, oldest first; at least one if there is one."""
        if place >= self._memory_floor:
            return self._read_memory(place, max_records)
        for file in list(self._files):
            sequence = file.name.sequence
            if sequence < place[0] or (sequence == place[0] and file.last_position <= place[1]):
                continue
            after = place[1] if sequence == place[0] else 0
            stored = await self._read_file(file, after, max_records)
            if stored:
                return stored
        return self._read_memory(place, max_records)

    async def counts_between(self, after: Place, journal_id: str, position: int) -> tuple[Place, dict[str, int]]:
        """Where that position is kept, and the records by channel in the kept batches from `after` up to it."""
        place: Place = (0, 0)
        counts: dict[str, int] = {}
        for file in list(self._files):
            if file.name.journal_id != journal_id or file.first_position > position or file.name.sequence < after[0]:
                continue
            place = file.name.sequence, min(position, file.last_position)
            floor = after[1] if file.name.sequence == after[0] else 0
            add_counts(counts, await self._in_reader(partial(file.counts_between, floor, position)))
        return place, counts

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

    def _files_left(self) -> list[JournalFile]:
        names = [name for path in self.directory.iterdir() if (name := FileName.parse(path.name)) is not None]
        files: list[JournalFile] = []
        for name in sorted(names):
            path = self.directory / str(name)
            if name.is_part:
                JournalFile(path, name).unlink()
                continue
            floor = files[-1].last_position if files and files[-1].name.journal_id == name.journal_id else 0
            try:
                file = JournalFile.open(path, name, floor)
            except JournalDamaged as error:
                file = self._salvaged(JournalFile(path, name), error)
            if file.last_position:
                files.append(file)
            else:
                file.unlink()
        return files

    def _salvaged(self, damaged: JournalFile, error: JournalDamaged) -> JournalFile:
        repaired, missing = damaged.salvage(self.directory)
        lost = {channel: damaged.counts[channel] - repaired.counts.get(channel, 0) for channel in damaged.counts}
        for channel, count in lost.items():
            if count > 0:
                self._metrics.dropped.labels(channel, "journal_damaged").inc(count)
        for cursor in self._cursors:
            add_counts(cursor.pending, lost, -1)
        log.error(
            "journal_file_damaged",
            path=str(damaged.path),
            error=str(error),
            batches_missing=missing,
            records_missing=lost,
            records_kept=repaired.counts,
            kept_aside=str(self.directory / "bad"),
        )
        return repaired

    async def _append(self, stored: StoredBatch) -> JournalFile:
        active = self._active()
        if active is None or active.size_bytes >= self._file_bytes:
            active = await self._begin_file()
        try:
            await self._in_writer(partial(active.append, stored))
        except JournalFull:
            # On a full disk this file must be able to go once it is stored, or nothing ever frees any room.
            self._ended = active
            raise
        except JournalError:
            # After a failed sync the state of that file is unknown: it is never synced again, a new one begins.
            self._ended = active
            log.warning("journal_file_failed", path=str(active.path), exc_info=True)
            active = await self._begin_file()
            await self._in_writer(partial(active.append, stored))
        return active

    def _active(self) -> JournalFile | None:
        """The file that takes appends."""
        newest = self._files[-1] if self._files else None
        if newest is None or newest is self._ended or newest.name.journal_id != self.journal_id:
            return None
        return newest

    async def _begin_file(self) -> JournalFile:
        previous = self._files[-1] if self._files else None
        sequence = max(self._memory_floor[0], *(file.name.sequence for file in self._files), 0) + 1
        file = await self._in_writer(partial(JournalFile.create, self.directory, FileName(sequence, self.journal_id)))
        self._files.append(file)
        if previous is not None:
            await self._in_writer(previous.close_writer)
        return file

    async def _make_room(self, size: int) -> None:
        # One batch always fits into an empty journal, however small the limit.
        while self.size_bytes and self.size_bytes + size > self._config.max_bytes:
            if self._config.when_full == "drop_oldest" and await self._drop_oldest():
                continue
            raise JournalFull(
                f"the journal holds {self.size_bytes} of {self._config.max_bytes} bytes (journal.max_bytes) "
                "and its sinks have not stored them; mend the sink or raise the limit"
            )

    async def _drop_oldest(self) -> bool:
        """Give up the least valuable channel of the oldest file no sink is reading. False: nothing to give up."""
        candidates = [file for file in self._files if self._may_shrink(file)]
        for channel in DROP_ORDER:
            for file in candidates:
                dropped = file.counts.get(channel, 0)
                if not dropped:
                    continue
                smaller = await self._in_writer(partial(file.without_channel, channel))
                self._files[self._files.index(file)] = smaller
                if not smaller.counts:
                    self._files.remove(smaller)
                    await self._in_writer(smaller.unlink)
                for cursor in self._cursors:
                    if cursor.acknowledged_at[0] < file.name.sequence:
                        add_counts(cursor.pending, {channel: dropped}, -1)
                self._metrics.dropped.labels(channel, "journal_full").inc(dropped)
                log.warning("journal_full_dropped", channel=channel, records=dropped, file=str(file.name))
                return True
        return False

    def _may_shrink(self, file: JournalFile) -> bool:
        """Whether no sink has batches of the file in its hands, and none will get them from memory."""
        sequence = file.name.sequence
        if file is self._active() or sequence in self._being_read:
            return False
        if self._memory and sequence >= self._memory[0].file_sequence:
            return False
        return all(sequence > cursor.read_at[0] or sequence < cursor.acknowledged_at[0] for cursor in self._cursors)

    def _publish(self, batch: Batch) -> None:
        for cursor in self._cursors:
            add_counts(cursor.pending, batch.counts)
            cursor.wake()
        self._memory.append(batch)
        self._memory_bytes += batch.size_bytes
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
        self._memory_bytes -= batch.size_bytes
        self._memory_floor = batch.place

    def _read_memory(self, place: Place, max_records: int) -> list[Batch]:
        start = self._memory_index(place)
        batches: list[Batch] = []
        count = 0
        for batch in islice(self._memory, start, None):
            if batches and count + len(batch.records) > max_records:
                break
            batches.append(batch)
            count += len(batch.records)
        return batches

    def _memory_index(self, place: Place) -> int:
        """Where in memory the first batch beyond `place` is: positions in it follow one another."""
        if not self._memory or place < self._memory[0].place:
            return 0
        return place[1] + 1 - self._memory[0].position

    async def _read_file(self, file: JournalFile, after: int, max_records: int) -> list[Batch]:
        self._being_read.add(file.name.sequence)
        try:
            return await self._in_reader(partial(self._read_decoded, file, after, max_records))
        except JournalDamaged as error:
            repaired = await self._in_writer(partial(self._salvaged, file, error))
            self._files[self._files.index(file)] = repaired
            return await self._in_reader(partial(self._read_decoded, repaired, after, max_records))
        finally:
            self._being_read.discard(file.name.sequence)

    def _read_decoded(self, file: JournalFile, after: int, max_records: int) -> list[Batch]:
        """In the reader's thread: the event loop does not wait for the decoding."""
        return [self._decoded(file, stored) for stored in file.read(after, max_records)]

    def _decoded(self, file: JournalFile, stored: StoredBatch) -> Batch:
        try:
            records = decode_batch(stored.payload)
        except msgspec.DecodeError as error:
            # Its checksum is right, so it was written so: by a program whose records are others.
            self._keep_undecodable(file, stored, error)
            records = []
        return Batch(
            journal_id=file.name.journal_id,
            position=stored.position,
            sealed_at=stored.sealed_at,
            counts=stored.counts,
            records=records,
            size_bytes=len(stored.payload),
            file_sequence=file.name.sequence,
        )

    def _keep_undecodable(self, file: JournalFile, stored: StoredBatch, error: Exception) -> None:
        kept = self.directory / "bad" / f"{file.name}-{stored.position}.msgpack"
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(stored.payload)
        for channel, count in stored.counts.items():
            self._metrics.dropped.labels(channel, "journal_undecodable").inc(count)
        log.error("journal_batch_undecodable", error=str(error), records=stored.counts, kept_aside=str(kept))

    def _newest_place(self) -> Place:
        if not self._files:
            return self._memory_floor
        return self._files[-1].name.sequence, self._files[-1].last_position

    def _may_end(self, file: JournalFile) -> bool:
        return file is not self._active() or file.size_bytes >= self._file_bytes

    def _unlink_oldest(self) -> None:
        file = self._files.pop(0)
        self._writer.submit(file.unlink)
        self._memory_floor = max(self._memory_floor, (file.name.sequence, file.last_position))
        self._released.set()

    def _show(self) -> None:
        self._metrics.journal_bytes.set(self.size_bytes)
        waiting = [at for cursor in self._cursors if (at := cursor.oldest_pending_at()) is not None]
        self._metrics.journal_age_s.set(max(0, now_us() - min(waiting)) / 1e6 if waiting else 0)

    async def _in_writer(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def _in_reader(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)
