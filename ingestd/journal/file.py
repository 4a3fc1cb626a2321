"""One file of the journal: a SQLite database in WAL mode with one row for each sealed batch.

Synchronous; the journal calls it from its own threads.

A file that takes no more appends is read by a connection with `locking_mode=EXCLUSIVE`. SQLite then keeps the index of
the write-ahead log in memory instead of in a new `-shm` file, for which a full disk has no room; and the
journal must be read before it can shrink.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ingestd.errors import JournalDamaged, JournalError, JournalFull, JournalVersion
from ingestd.failpoints import passing
from ingestd.files import sync_directory
from ingestd.journal.batch import (
    FilePlace,
    StoredBatch,
    Totals,
    add_counts,
    counts_of,
    row_of,
    stored,
    stored_totals,
    totals_row,
)
from ingestd.journal.disk import Pages, connect, translated, with_companions
from ingestd.records import WIRE_VERSION

FORMAT_VERSION = 1  # of the tables below; `user_version` holds it and the version of the records
APPLICATION_ID = 0x494E4744  # "INGD"
_WIRE_FACTOR = 1000
END = 2**63 - 1
"""The largest position that SQLite can hold, beyond every batch."""

# An active file needs some room for its first pages and its log, however little it holds. This much is not counted.
_UNCOUNTED_LOG_BYTES = 256 * 1024

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
    """`00000012-3f9ac1d2e4b56789.journal`: the file's place in the order of files, and the id of its journal."""

    sequence: int
    journal_id: str

    def __str__(self) -> str:
        return f"{self.sequence:08d}-{self.journal_id}.journal"

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        match = re.fullmatch(r"([0-9]+)-(.+)\.journal", name, re.DOTALL)
        return None if match is None else cls(int(match[1]), match[2])


class JournalFile:
    """One file: new and open for appending (`create`), or left by an earlier process (`load`)."""

    def __init__(self, directory: Path, name: FileName) -> None:
        self.path = directory / str(name)
        self.name = name
        self.ended = True  # takes no more appends
        self.totals = Totals()
        self.is_counted = False  # whether the totals are known to cover everything that was written
        self._pages = Pages()
        self._log_bytes = 0
        self._failed = False
        self._identity: tuple[int, int] | None = None  # device and inode of the file that takes the appends
        self._writer: sqlite3.Connection | None = None
        self._writing = threading.Lock()
        self._reader: sqlite3.Connection | None = None

    @classmethod
    def create(cls, directory: Path, name: FileName, log_pages: int) -> JournalFile:
        """Make a new file, durable on return. Its log is folded in every `log_pages` pages."""
        file = cls(directory, name)
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

    def load(self, below: int) -> None:
        """Find out what an earlier process left in the file. Raises JournalVersion or JournalDamaged.

        `below` is the first position of the journal's next file, or `END`. A failed sync may leave one batch in both
        files; the copy in the later file is the one that was reported durable.
        """
        with self._reading():
            self._check_version()
            if not self._take_totals(below):
                self._count_rows(below)
        self.close_reader()

    def append(self, batch: StoredBatch) -> None:
        """Make one batch durable: it is committed and synced on return. A JournalError ends the file."""
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
        """Raise if the file was deleted or replaced: it would still take rows, which no restart would find."""
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise JournalError(f"{self.path} was deleted, or cannot be looked at: {error.strerror}") from error
        identity = status.st_dev, status.st_ino
        if self._identity is None:
            self._identity = identity
        elif self._identity != identity:
            raise JournalError(f"{self.path} was replaced by another file")

    def read(self, after: int, max_records: int, max_bytes: int) -> list[StoredBatch]:
        """Read the batches after position `after`, in order: the first one, and more up to `max_records` and
        `max_bytes` in all.

        Raises JournalDamaged if the first one is damaged, missing or out of order.
        """
        batches: list[StoredBatch] = []
        records = size = 0
        last = self.totals.last_position
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
        if self.ended and (not batches or batches[-1].position >= self.totals.last_position):
            self.close_reader()
        return batches

    def counts_between(self, after: int, position: int) -> dict[str, int]:
        """Count the records by channel in the batches after `after`, up to and including `position`."""
        sums: dict[str, int] = {}
        query = "SELECT counts FROM batches WHERE position > ? AND position <= ?"
        with self._reading():
            for (counts,) in self._connection().execute(query, (after, min(position, self.totals.last_position))):
                add_counts(sums, counts_of(counts))
        return sums

    def sealed_after(self, after: int) -> int | None:
        """When the first batch after `after` was sealed, in microseconds; None if there is no such batch."""
        with self._reading():
            query = "SELECT sealed_at FROM batches WHERE position > ? ORDER BY position LIMIT 1"
            row = self._connection().execute(query, (after,)).fetchone()
        return None if row is None else int(row[0])

    def has_rows(self) -> bool:
        """Whether the file has any row, even if only such as the next file repeats."""
        with self._reading():
            found = self.rows(0, END).fetchone() is not None
        self.close_reader()
        return found

    def rows(self, position: int, below: int) -> sqlite3.Cursor:
        """The raw rows from `position` up to `below`. Raises sqlite3.Error."""
        query = (
            "SELECT position, sealed_at, counts, crc, payload FROM batches "
            "WHERE position >= ? AND position < ? ORDER BY position"
        )
        return self._connection().execute(query, (position, below))

    @property
    def place(self) -> FilePlace:
        """The place of the last batch."""
        return self.name.sequence, self.totals.last_position

    @property
    def size_bytes(self) -> int:
        """The size on disk: the batches, page by page, and the write-ahead log beyond its first 256 KiB."""
        return self.totals.rows_bytes + self._log_bytes

    def account(self, position: int, sealed_at: int, counts: dict[str, int], length: int) -> None:
        """Add a row to the totals. `length` is the size of its encoded counts and its payload, in bytes."""
        totals = self.totals
        totals.first_position = totals.first_position or position
        totals.last_position = max(totals.last_position, position)
        totals.oldest_sealed_at = totals.oldest_sealed_at or sealed_at
        totals.batches += 1
        totals.rows_bytes += self._pages.add(length)
        add_counts(totals.counts, counts)

    def finish(self) -> None:
        """End the file: store the totals and fold the write-ahead log into it.

        After a failed sync both are left out: the state of the file is unknown, and another sync would not reveal it.
        """
        with self._writing:
            self.ended = True
            if self._failed or self._writer is None:
                return  # after a failure the connection stays: closing it would sync
            with contextlib.suppress(sqlite3.Error, OSError):  # it only speeds up the next start; the log is durable
                if self.totals.last_position:
                    self._writer.execute("PRAGMA synchronous=NORMAL")  # the checkpoint syncs it
                    self._writer.execute("INSERT INTO totals VALUES (?)", (totals_row(self.totals),))
                    passing("journal.finish")
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._writer.close()
            self._writer = None  # only now, because without a writer the reader locks the file exclusively
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
        """Delete the file: every durable sink has stored its batches, or it has none."""
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
        """Use the stored totals. False: none cover all rows. Raises JournalDamaged if the file lacks rows."""
        connection = self._connection()
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'totals'").fetchone():
            return False
        row = connection.execute("SELECT of_all_batches FROM totals").fetchone()
        totals = None if row is None else stored_totals(row[0])
        # In two queries, each answered from one end of the table.
        first = connection.execute("SELECT min(position) FROM batches WHERE position < ?", (below,)).fetchone()[0]
        last = connection.execute("SELECT max(position) FROM batches WHERE position < ?", (below,)).fetchone()[0]
        if totals is None or first is None or first < totals.first_position or last > totals.last_position:
            return False
        self.totals, self.is_counted = totals, True
        if (first, last) != (totals.first_position, totals.last_position):
            raise JournalDamaged(f"{self.path}: its first or last batches are missing")
        return True

    def _is_next(self, position: int, after: int) -> bool:
        """Whether the row at `position` may follow `after`. A damaged tree can lead to a wrong row that is intact."""
        totals = self.totals
        has_holes = totals.batches != totals.last_position - totals.first_position + 1  # damaged batches were taken out
        return position > after if has_holes else position == max(after + 1, totals.first_position)

    def _count_rows(self, below: int) -> None:
        query = "SELECT position, sealed_at, counts, length(payload) FROM batches WHERE position < ? ORDER BY position"
        for position, sealed_at, counts, length in self._connection().execute(query, (below,)):
            if self.totals.batches and position != self.totals.last_position + 1:
                raise JournalDamaged(f"{self.path}: batch {position} follows {self.totals.last_position}")
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


def write_schema(connection: sqlite3.Connection) -> None:
    """Create the tables and set the versions, in one transaction."""
    connection.execute("BEGIN")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={FORMAT_VERSION * _WIRE_FACTOR + WIRE_VERSION}")
    for statement in filter(str.strip, SCHEMA.split(";")):
        connection.execute(statement)
    connection.execute("COMMIT")
