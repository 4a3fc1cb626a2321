"""One file of the journal: a SQLite database in WAL mode with one row for each sealed batch.

Synchronous; the journal calls it from its own threads.

A file that takes no more appends is read with a connection that locks it alone (`locking_mode=EXCLUSIVE`): SQLite then
keeps the index of the write-ahead log in its memory. Otherwise it would need a new `-shm` file, and on a full disk the
one thing that could free some room, reading what is journaled, would be impossible.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ingestd.errors import JournalDamaged, JournalError, JournalFull, JournalVersion
from ingestd.failpoints import passing
from ingestd.files import sync_directory
from ingestd.journal.disk import Pages, connect, translated, with_companions
from ingestd.journal.rows import StoredBatch, Totals, counts_of, row_of, stored, stored_totals, totals_row
from ingestd.records import WIRE_VERSION

FORMAT_VERSION = 1  # of the tables below; together with the version of the records it is the file's `user_version`
APPLICATION_ID = 0x494E4744  # "INGD"
_WIRE_FACTOR = 1000
_SUFFIX = ".journal"
PART = ".part"  # a file being rewritten; what a crash leaves of it is deleted at the next start
NEW = ".new"  # a file wholly rewritten that takes the place of the old one, if need be at the next start

# However little it holds, a file that takes appends needs some room for its first pages and its log. It is not counted.
_UNCOUNTED_LOG_BYTES = 256 * 1024
_LOG_PAGES = 1000
_READ_BYTES = 8 * 2**20

SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    position  INTEGER PRIMARY KEY,
    sealed_at INTEGER NOT NULL,
    counts    BLOB    NOT NULL,
    crc       INTEGER NOT NULL,
    payload   BLOB    NOT NULL
);
CREATE TABLE IF NOT EXISTS totals (of_all_batches BLOB NOT NULL);
"""


@dataclass(frozen=True, slots=True, order=True)
class FileName:
    """`00000012-3f9ac1d2e4b56789.journal`: the order of files, and the journal (one process's life) it belongs to."""

    sequence: int
    journal_id: str

    def __str__(self) -> str:
        return f"{self.sequence:08d}-{self.journal_id}{_SUFFIX}"

    def with_mark(self, mark: str) -> FileName:
        """The name of a rewritten file on its way: PART or NEW."""
        return FileName(self.sequence, self.journal_id + mark)

    def has_mark(self, mark: str) -> bool:
        return self.journal_id.endswith(mark)

    @property
    def without_mark(self) -> FileName:
        return FileName(self.sequence, self.journal_id.removesuffix(PART).removesuffix(NEW))

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        sequence, dash, rest = name.partition("-")
        if dash and sequence.isdigit() and rest.endswith(_SUFFIX) and len(rest) > len(_SUFFIX):
            return cls(int(sequence), rest.removesuffix(_SUFFIX))
        return None


class JournalFile:
    """One file, open for appending (`create`), or left by an earlier process and to be looked at (`load`).

    It has 17 attributes, because half of them are what `totals` stores: together they say what the file holds.
    """

    def __init__(self, path: Path, name: FileName) -> None:
        self.path = path
        self.name = name
        self.ended = True  # takes no more appends
        self.first_position = 0
        self.last_position = 0
        self.batches = 0
        self.counts: dict[str, int] = {}
        self.is_counted = False  # whether `counts` is known to be all that was written to it
        self.oldest_sealed_at: int | None = None
        self.rows_bytes = 0
        self._pages = Pages()
        self._log_bytes = 0
        self._failed = False
        self._identity: tuple[int, int] | None = None  # device and inode of what takes the appends
        self._writer: sqlite3.Connection | None = None
        self._writing = threading.Lock()
        self._reader: sqlite3.Connection | None = None

    @classmethod
    def create(cls, directory: Path, name: FileName, log_pages: int = _LOG_PAGES) -> JournalFile:
        """A new, empty file that is durable before this returns. Its log is folded in every `log_pages` pages."""
        file = cls(directory / str(name), name)
        try:
            with translated(file.path):
                file._writer = connect(file.path, "rwc")
                file._writer.execute("PRAGMA journal_mode=WAL")
                file._writer.execute("PRAGMA synchronous=FULL")
                file._writer.execute(f"PRAGMA wal_autocheckpoint={log_pages}")
                write_schema(file._writer)
                passing("journal.create")
                sync_directory(directory)
        except JournalError:
            with contextlib.suppress(JournalError):
                file.unlink()  # incomplete, as the disk is full; it holds no batch
            raise
        file.ended, file.is_counted = False, True
        return file

    def load(self, below: int | None = None) -> None:
        """Find out what an earlier process left in it. Raises JournalVersion or JournalDamaged.

        `below` is where the next file of the same journal begins. A sync that failed may have left the same batch in
        both; the one that was reported durable is the later one.
        """
        with self._reading():
            self._check_version()
            if not self._take_totals(2**63 - 1 if below is None else below):
                self._count_rows(2**63 - 1 if below is None else below)
        self.close_reader()

    def append(self, batch: StoredBatch) -> None:
        """Make one batch durable: committed and synced when this returns. After an error the file has ended."""
        row = row_of(batch)
        with self._writing:
            if self._writer is None or self.ended:
                raise JournalError(f"{self.path} takes no more batches")
            try:
                self._check_it_is_there()
                with translated(self.path):
                    passing("journal.append.before")
                    self._writer.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", row)
                    passing("journal.append.after")
            except JournalError as error:
                self.ended = True
                self._failed = not isinstance(error, JournalFull)
                raise
            self.account(batch.position, batch.sealed_at, batch.counts, len(row[2]) + len(batch.payload))
            self._measure_log()

    def _check_it_is_there(self) -> None:
        """Raise if the file was deleted or replaced: it still takes rows, but they are lost after a restart."""
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise JournalError(f"{self.path} was deleted, or cannot be looked at: {error.strerror}") from error
        identity = status.st_dev, status.st_ino
        if self._identity is None:
            self._identity = identity
        elif self._identity != identity:
            raise JournalError(f"{self.path} was replaced by another file")

    def read(self, after: int, max_records: int, max_bytes: int = _READ_BYTES) -> list[StoredBatch]:
        """The batches beyond `after`, in order, at least one if there is one, about `max_records` records of them.

        Raises JournalDamaged when the first of them is damaged, or is not the one that must come next.
        """
        batches: list[StoredBatch] = []
        records = size = 0
        last = self.last_position
        with self._reading():
            for row in self.rows(after + 1, last + 1):
                batch = stored(row) if self._is_next(row[0], after) else None
                if batch is None:
                    if batches:
                        break  # return the good batches; the next read finds the bad row first
                    raise JournalDamaged(f"{self.path}: batch {row[0]}, after {after}, is out of order or damaged")
                records += sum(batch.counts.values())
                size += len(batch.payload)
                if batches and (records > max_records or size > max_bytes):
                    break
                batches.append(batch)
                after = batch.position
            else:
                if not batches and after < last:
                    raise JournalDamaged(f"{self.path}: the batches after {after} are missing")
        if self.ended and (not batches or batches[-1].position >= self.last_position):
            self.close_reader()
        return batches

    def counts_between(self, after: int, position: int) -> dict[str, int]:
        """Records by channel in the batches beyond `after` up to and including `position`."""
        sums: dict[str, int] = {}
        query = "SELECT counts FROM batches WHERE position > ? AND position <= ?"
        with self._reading():
            for (counts,) in self._connection().execute(query, (after, min(position, self.last_position))):
                add_counts(sums, counts_of(counts))
        return sums

    def sealed_after(self, after: int) -> int | None:
        """When the first batch beyond `after` was sealed."""
        with self._reading():
            query = "SELECT sealed_at FROM batches WHERE position > ? ORDER BY position LIMIT 1"
            row = self._connection().execute(query, (after,)).fetchone()
        return None if row is None else int(row[0])

    def has_rows(self) -> bool:
        with self._reading():
            found = self.rows(0, 2**63 - 1).fetchone() is not None
        self.close_reader()
        return found

    def rows(self, position: int, below: int) -> sqlite3.Cursor:
        """The rows from `position` on, as they are. Raises sqlite3.Error."""
        query = (
            "SELECT position, sealed_at, counts, crc, payload FROM batches "
            "WHERE position >= ? AND position < ? ORDER BY position"
        )
        return self._connection().execute(query, (position, below))

    @property
    def size_bytes(self) -> int:
        """What the batches take on disk, page by page, and the write-ahead log beyond its first 256 KiB."""
        return self.rows_bytes + self._log_bytes

    def totals(self) -> bytes:
        """The totals as they are stored, with their checksum."""
        counts = {channel: count for channel, count in self.counts.items() if count}
        ends = self.first_position, self.last_position, self.oldest_sealed_at or 0
        return totals_row(Totals(*ends, self.batches, self.rows_bytes, counts))

    def account(self, position: int, sealed_at: int, counts: dict[str, int], length: int) -> None:
        """Count one more row, of `length` bytes of counts and payload."""
        self.first_position = self.first_position or position
        self.last_position = max(self.last_position, position)
        self.batches += 1
        if self.oldest_sealed_at is None:
            self.oldest_sealed_at = sealed_at
        add_counts(self.counts, counts)
        self.rows_bytes += self._pages.add(length)

    def finish(self) -> None:
        """No more appends: the totals are stored and the write-ahead log is folded into the file.

        Not after a failed sync: what the disk holds of that file is not known, and another sync would not tell.
        """
        with self._writing:
            self.ended = True
            if self._failed:
                return  # the connection stays: closing it would sync
            if self._writer is None:
                return
            with contextlib.suppress(sqlite3.Error, OSError):  # a courtesy to the next start: the log is durable
                if self.last_position:
                    self._writer.execute("PRAGMA synchronous=NORMAL")  # the folding syncs it
                    self._writer.execute("INSERT INTO totals VALUES (?)", (self.totals(),))
                    passing("journal.finish")
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._writer.close()
            self._writer = None  # not before: from now on it is read by a connection that locks it alone
            self._measure_log()

    def close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def close(self) -> None:
        self.close_reader()
        self.finish()
        with self._writing:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def unlink(self) -> None:
        """Forget the file: every durable sink has stored what it holds, or it holds nothing."""
        self.ended = True
        with translated(self.path):
            try:
                passing("journal.unlink.before")
                for path in with_companions(self.path):
                    path.unlink(missing_ok=True)
                    passing("journal.unlink.between")
            finally:
                self._failed = True  # no totals for a file that is gone
                self.close()

    def _check_version(self) -> None:
        connection = self._connection()
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise JournalDamaged(f"{self.path} is not a journal file")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        layout, records = divmod(version, _WIRE_FACTOR) if version >= _WIRE_FACTOR else (version, 1)
        if layout > FORMAT_VERSION or records > WIRE_VERSION:
            raise JournalVersion(
                f"the journal file {self.path} has format {layout} and records of version {records}, this ingestd "
                f"reads up to {FORMAT_VERSION} and {WIRE_VERSION}; run the newer ingestd until its journal is "
                "drained, or move the file away"
            )

    def _take_totals(self, below: int) -> bool:
        """Use the stored totals. False: there are none, or they do not match the rows."""
        connection = self._connection()
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'totals'").fetchone():
            return False
        row = connection.execute("SELECT of_all_batches FROM totals").fetchone()
        totals = None if row is None else stored_totals(row[0])
        if totals is None:
            return False
        # In two queries, each answered from one end of the table.
        first = connection.execute("SELECT min(position) FROM batches WHERE position < ?", (below,)).fetchone()[0]
        last = connection.execute("SELECT max(position) FROM batches WHERE position < ?", (below,)).fetchone()[0]
        if first is None or first < totals.first_position or last > totals.last_position:
            return False
        self.first_position, self.last_position = totals.first_position, totals.last_position
        self.oldest_sealed_at = totals.oldest_sealed_at
        self.batches, self.rows_bytes, self.counts = totals.batches, totals.rows_bytes, dict(totals.counts)
        self.is_counted = True
        if (first, last) != (totals.first_position, totals.last_position):
            raise JournalDamaged(f"{self.path}: its first or last batches are missing")
        return True

    def _is_next(self, position: int, after: int) -> bool:
        """A damaged tree leads to the wrong rows, also back to those that were read: its rows themselves look sound."""
        has_holes = self.batches != self.last_position - self.first_position + 1  # damage was taken out of it
        return position > after if has_holes else position == max(after + 1, self.first_position)

    def _count_rows(self, below: int) -> None:
        query = "SELECT position, sealed_at, counts, length(payload) FROM batches WHERE position < ? ORDER BY position"
        for position, sealed_at, counts, length in self._connection().execute(query, (below,)):
            if self.batches and position != self.last_position + 1:
                raise JournalDamaged(f"{self.path}: batch {position} follows {self.last_position}")
            self.account(position, sealed_at, counts_of(counts), len(counts) + length)
        self.is_counted = True
        self._measure_log()

    def _measure_log(self) -> None:
        try:
            size = os.stat(f"{self.path}-wal").st_size
        except OSError:
            size = 0
        self._log_bytes = max(0, size - _UNCOUNTED_LOG_BYTES)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            with translated(self.path):
                yield
        except JournalError:
            self.close_reader()  # the next attempt opens a new connection
            raise

    def _connection(self) -> sqlite3.Connection:
        if self._reader is None:
            self._reader = connect(self.path, "rw")
            if self._writer is None:
                self._reader.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._reader.execute("PRAGMA cache_size=-256")
        return self._reader


def add_counts(sums: dict[str, int], counts: dict[str, int], sign: int = 1) -> None:
    """Add `counts` to `sums` in place, times `sign`."""
    for channel, count in counts.items():
        sums[channel] = sums.get(channel, 0) + sign * count


def write_schema(connection: sqlite3.Connection) -> None:
    """The tables and the versions, in one transaction."""
    connection.execute("BEGIN")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={FORMAT_VERSION * _WIRE_FACTOR + WIRE_VERSION}")
    for statement in filter(str.strip, SCHEMA.split(";")):
        connection.execute(statement)
    connection.execute("COMMIT")
