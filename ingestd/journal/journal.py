"""The local journal: a sealed batch is durable here before any durable sink sees it.

Positions are (journal id, integer): the id is new for every process start, the integer counts up from 1. So a batch
that a crash of the host took back can never be mistaken for something a sink has already stored.

Each durable sink reads with a cursor of its own: from memory while it keeps up, from the files when it fell behind.
A file is deleted when every cursor has acknowledged it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from functools import partial
from pathlib import Path
from typing import IO

import structlog

from ingestd.channels import count_channels
from ingestd.clock import now_us
from ingestd.config.models import JournalConfig
from ingestd.errors import JournalError, JournalFull
from ingestd.gaps.open_gaps import Dropped
from ingestd.journal.backlog import Backlog
from ingestd.journal.batch import Batch, FilePlace
from ingestd.journal.cursor import Cursor
from ingestd.journal.disk import row_bytes
from ingestd.journal.file import JournalFile, add_counts
from ingestd.journal.files import JournalFiles
from ingestd.journal.memory import RecentBatches
from ingestd.journal.reading import BatchReader
from ingestd.journal.recovery import files_left, take_directory
from ingestd.journal.rewriting import Rewriter
from ingestd.journal.rows import StoredBatch
from ingestd.ops.metrics import Metrics
from ingestd.records import FeedGap, Record, StreamId, encode_batch

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
        # A file must be able to end while there is still room for the next one.
        file_bytes = max(1, min(config.file_bytes, config.max_bytes // 4))
        self._files = JournalFiles(self.directory, self.journal_id, file_bytes, metrics)
        # Memory keeps the smaller part: what is dropped is dropped from files, and leaves memory before.
        self._recent = RecentBatches(min(config.memory_bytes, config.max_bytes // 4))
        self._backlogs: list[Backlog] = []
        self._rewriter = Rewriter(self._files, self._recent, self._backlogs, metrics)
        self._reader = BatchReader(self.journal_id, self._files, self._recent, self._rewriter)
        self._cursors: list[Cursor] = []
        self._next_position = 1
        self._released = asyncio.Event()

    def open(self) -> None:
        """Lock the directory, and load the files of an earlier process.

        Raises JournalLocked when another process has it, JournalVersion when a newer ingestd wrote there.
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
        self._metrics.journal_age_s.set_function(self._age_s)
        self._metrics.journal_bytes.set(self.size_bytes)

    def close(self) -> None:
        """Unlock the directory. Batches not stored yet stay for the next start.

        Takes at most twenty seconds: a thread that hangs in the disk is left to itself; it ends with the process, and
        so does the lock then.
        """
        if hung := self._files.close():
            log.error("journal_hangs", threads=hung, directory=str(self.directory))
        elif self._lock is not None:
            self._lock.close()

    def cursor(self, name: str) -> Cursor:
        """Make a cursor for one durable sink, before the oldest batch kept."""
        backlog = Backlog()
        for file in self._files.kept:
            backlog.add(file.name.sequence, file.counts)
            if file.name.journal_id != self.journal_id:
                add_counts(backlog.recovered, file.counts)
        add_counts(backlog.recovered, self._lost_at_open)
        cursor = Cursor(name, backlog, self._reader, self._release)
        self._backlogs.append(backlog)
        self._cursors.append(cursor)
        return cursor

    @property
    def journal_ids(self) -> list[str]:
        """The journals that still have files, oldest first."""
        return list(dict.fromkeys(file.name.journal_id for file in self._files.kept))

    @property
    def size_bytes(self) -> int:
        """What the batches take on disk, with the write-ahead log; see `JournalFile.size_bytes`."""
        return self._files.size_bytes

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
        """What was dropped since the last call because the journal was full."""
        return self._rewriter.take_dropped()

    def take_damage_gaps(self) -> list[FeedGap]:
        """The gaps that damaged files have left since the last call."""
        return self._rewriter.take_damage_gaps()

    async def room_made(self, timeout_s: float) -> None:
        """Return when a file was deleted, after `timeout_s` in any case."""
        self._released.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._released.wait()

    def _release(self) -> None:
        """Delete the files that every cursor has acknowledged."""
        files = self._files.kept
        passed = min((backlog.acknowledged_at for backlog in self._backlogs), default=self._newest_place())
        while len(files) > 1 and (files[0].name.sequence, files[0].last_position) <= passed:
            self._delete_oldest()
        # The last file goes too when it takes no more appends, or when it alone keeps the journal from being empty.
        if len(files) == 1 and self._newest_place() <= passed and (files[0].ended or self._files.is_large(files[0])):
            self._delete_oldest()
        self._recent.forget_through(passed)
        self._metrics.journal_bytes.set(self.size_bytes)

    def _delete_oldest(self) -> None:
        file = self._files.delete_oldest()
        self._recent.floor = max(self._recent.floor, (file.name.sequence, file.last_position))
        for backlog in self._backlogs:
            backlog.forget(file.name.sequence)
        self._released.set()

    async def _append(self, stored: StoredBatch) -> JournalFile:
        active = self._files.active()
        if active is None or self._files.is_large(active):
            active = await self._files.begin()
        try:
            await self._files.in_writer(partial(active.append, stored))
        except JournalFull:
            # On a full disk this file must be able to go once it is stored, or nothing ever frees any room.
            self._end(active)
            raise
        except JournalError:
            # After a failed sync the file's state is unknown: it is never synced again; a new file begins.
            log.warning("journal_file_failed", path=str(active.path), exc_info=True)
            self._end(active)
            active = await self._files.begin()
            try:
                await self._files.in_writer(partial(active.append, stored))
            except JournalError:
                self._end(active)
                raise
        return active

    def _end(self, file: JournalFile) -> None:
        """The file takes no more appends. If everything in it is stored, it frees its room."""
        self._files.end(file)
        self._release()

    async def _make_room(self, size: int) -> None:
        while self.size_bytes + size > self._config.max_bytes:
            if all(backlog.acknowledged_at >= self._newest_place() for backlog in self._backlogs):
                # Nothing to wait for: all batches are stored, and one batch is accepted whatever its size.
                if (active := self._files.active()) is not None:
                    self._end(active)
                return
            if self._config.when_full == "drop_oldest" and await self._rewriter.drop_oldest():
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
        return self._files.newest_place() or self._recent.floor

    def _age_s(self) -> float:
        """The age of the oldest batch that some sink has not acknowledged; 0 when there is none."""
        waiting = [at for cursor in self._cursors if (at := cursor.oldest_pending_at()) is not None]
        return max(0, now_us() - min(waiting)) / 1e6 if waiting else 0.0
