"""The local journal: a sealed batch is durable here before any durable sink sees it.

A position is a journal id, new for every process, and an integer that counts up from 1. If a crash of the host loses a
batch that a sink has stored already, no later batch gets the same position, at which the sink would skip it.

Each durable sink reads with its own cursor: from memory while it keeps up, otherwise from the files. A file is deleted
when every cursor has acknowledged it.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from pathlib import Path
from typing import IO

import structlog

from ingestd.channels import count_channels
from ingestd.clock import now_us, wait_at_most
from ingestd.config.models import JournalConfig
from ingestd.errors import JournalError, JournalFull
from ingestd.journal.backlog import Backlog
from ingestd.journal.batch import Batch, FilePlace, StoredBatch, add_counts
from ingestd.journal.cursor import Cursor
from ingestd.journal.disk import row_bytes
from ingestd.journal.file import JournalFile
from ingestd.journal.files import JournalFiles
from ingestd.journal.memory import RecentBatches
from ingestd.journal.reading import BatchReader
from ingestd.journal.recovery import files_left, take_directory
from ingestd.journal.rewriting import Rewriter
from ingestd.ops.metrics import Metrics
from ingestd.records import Record, encode_batch

__all__ = ["Batch", "Cursor", "Journal"]

log = structlog.get_logger()


class Journal:
    """Appends batches, hands out cursors, and deletes the files that every cursor has acknowledged."""

    def __init__(self, state_dir: Path, config: JournalConfig, metrics: Metrics) -> None:
        self.directory = state_dir / "journal"
        self.journal_id = secrets.token_hex(8)
        self.error: str | None = None
        self._config = config
        self._metrics = metrics
        self._lock: IO[str] | None = None
        self._lost_at_open: dict[str, int] = {}
        # At most a quarter of the journal, so that there is room for the next file when one ends.
        file_bytes = max(1, min(config.file_bytes, config.max_bytes // 4))
        self._files = JournalFiles(self.directory, self.journal_id, file_bytes, metrics)
        # At most a quarter too: to drop records from files, the journal first takes their batches out of memory.
        self._recent = RecentBatches(min(config.memory_bytes, config.max_bytes // 4))
        self._backlogs: list[Backlog] = []
        self._rewriter = Rewriter(self._files, self._recent, self._backlogs, metrics)
        self.take_dropped, self.take_damage_gaps = self._rewriter.take_dropped, self._rewriter.take_damage_gaps
        self._reader = BatchReader(self.journal_id, self._files, self._recent, self._rewriter)
        self._cursors: list[Cursor] = []
        self._next_position = 1
        self._released = asyncio.Event()

    def open(self) -> None:
        """Lock the directory, and load the files that earlier processes have left.

        Raises JournalLocked if another process has locked it, JournalVersion if a newer ingestd wrote the files.
        """
        self._lock = take_directory(self.directory)
        try:
            found = files_left(self.directory)
        except JournalError:
            self._lock.close()
            raise
        self._files.kept, self._files.last_sequence = found.files, found.last_sequence
        self._lost_at_open = found.lost
        self._rewriter.note_found(found)
        self._recent.floor = self._newest_place()
        self._metrics.journal_age_s.set_function(lambda: max((cursor.age_s() for cursor in self._cursors), default=0))
        self._metrics.journal_max_bytes.set(self._config.max_bytes)
        self._metrics.journal_bytes.set(self.size_bytes)

    def close(self) -> None:
        """Close the files and unlock the directory. Batches not stored yet stay for the next start.

        Takes at most twenty seconds. A thread that hangs in the disk is abandoned; the process then keeps the lock
        until it ends, and the thread ends with it.
        """
        if hung := self._files.close():
            log.error("journal_hangs", threads=hung, directory=str(self.directory))
        elif self._lock is not None:
            self._lock.close()

    def cursor(self, name: str) -> Cursor:
        """Make a cursor for one durable sink. It begins before the oldest batch kept."""
        backlog = Backlog()
        for file in self._files.kept:
            backlog.add(file.name.sequence, file.totals.counts)
            if file.name.journal_id != self.journal_id:
                add_counts(backlog.recovered, file.totals.counts)
        add_counts(backlog.recovered, self._lost_at_open)
        cursor = Cursor(name, backlog, self._reader, self._release)
        self._backlogs.append(backlog)
        self._cursors.append(cursor)
        return cursor

    @property
    def journal_ids(self) -> list[str]:
        """The ids of the journals that still have files, oldest first."""
        return list(dict.fromkeys(file.name.journal_id for file in self._files.kept))

    @property
    def size_bytes(self) -> int:
        """The size on disk; see `JournalFile.size_bytes`."""
        return self._files.size_bytes

    async def append(self, records: list[Record]) -> Batch:
        """Make a batch of these records. It is durable on return.

        Raises JournalFull if there is no room and nothing may be dropped, JournalError if the disk fails twice. The
        records are then still the caller's to append. If it never does, the next start may find them nevertheless, in
        the file that failed.
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
        batch = stored.with_records(records, self.journal_id, file.name.sequence)
        self._publish(batch)
        return batch

    async def room_made(self, timeout_s: float) -> None:
        """Wait until a file is deleted, at most `timeout_s`."""
        self._released.clear()
        await wait_at_most(timeout_s, self._released)

    def _release(self) -> None:
        """Delete the files that every cursor has acknowledged."""
        files = self._files.kept
        passed = min((backlog.acknowledged_at for backlog in self._backlogs), default=self._newest_place())
        # The newest file goes only if it takes no more appends.
        while files and files[0].place <= passed and (len(files) > 1 or self._files.active() is None):
            oldest = files[0]
            self._files.delete(oldest)
            self._recent.floor = max(self._recent.floor, oldest.place)
            for backlog in self._backlogs:
                backlog.forget(oldest.name.sequence)
            self._released.set()
        self._recent.forget_through(passed)
        self._metrics.journal_bytes.set(self.size_bytes)

    async def _append(self, stored: StoredBatch) -> JournalFile:
        active = self._files.active() or await self._files.begin()
        try:
            await self._append_to(active, stored)
        except JournalFull:
            raise
        except JournalError:
            log.warning("journal_file_failed", path=str(active.path), exc_info=True)
            active = await self._files.begin()
            await self._append_to(active, stored)
        return active

    async def _append_to(self, file: JournalFile, stored: StoredBatch) -> None:
        """Append to this file, and end it after an error. After a failed sync its state is unknown; on a full disk only
        the deletion of stored files frees room, and the file that takes appends is never deleted."""
        try:
            await self._files.in_writer(partial(file.append, stored))
        except JournalError:
            self._end(file)
            raise

    def _end(self, file: JournalFile) -> None:
        """End a file, and delete it if every sink has stored it."""
        self._files.end(file)
        self._release()

    async def _make_room(self, size: int) -> None:
        while self.size_bytes + size > self._config.max_bytes:
            if all(backlog.acknowledged_at >= self._newest_place() for backlog in self._backlogs):
                # All batches are stored, so there is nothing to wait for: one batch is accepted whatever its size.
                if (active := self._files.active()) is not None:
                    self._end(active)
                return
            if self._config.when_full == "drop_oldest" and await self._rewriter.drop_one_channel():
                continue
            raise JournalFull(
                f"the journal has reached its {self._config.max_bytes} bytes (journal.max_bytes) "
                "and its sinks have not stored them; fix the sink or raise the limit"
            )

    def _publish(self, batch: Batch) -> None:
        """Make a durable batch available to the sinks."""
        for backlog in self._backlogs:
            backlog.add(batch.file_sequence, batch.counts)
        for cursor in self._cursors:
            cursor.wake()
        self._recent.add(batch)
        for channel, count in batch.counts.items():
            self._metrics.journaled.labels(channel).inc(count)
        self._metrics.journal_full.set(0)
        if not self._cursors:
            self._release()
        self._metrics.journal_bytes.set(self.size_bytes)

    def _newest_place(self) -> FilePlace:
        return self._files.kept[-1].place if self._files.kept else self._recent.floor
