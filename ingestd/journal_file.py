"""One file of the journal: a SQLite database in WAL mode with one row for each sealed batch.

Synchronous; the journal calls it from its own threads. Every sqlite3 error becomes a JournalError here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ingestd.errors import JournalError, JournalFull, JournalVersion
from ingestd.records import channel_of, count_channels, decode_batch, encode_batch

FORMAT_VERSION = 1
_APPLICATION_ID = 0x494E4744  # "INGD"
_SUFFIX = ".journal"
_PART = ".part"  # a file being rewritten; what a crash leaves of it is deleted at the next start
# What a row costs on disk beyond its payload: row header, counts, b-tree overhead.
ROW_OVERHEAD_BYTES = 96
_PAGE_BYTES = 4096  # SQLite's default
_LAST_STEP = 2**40
_LITTLE_ROOM_BYTES = 256 * 1024

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    position  INTEGER PRIMARY KEY,
    sealed_at INTEGER NOT NULL,
    counts    BLOB    NOT NULL,
    crc       INTEGER NOT NULL,
    payload   BLOB    NOT NULL
)
"""

_counts_encoder = msgspec.msgpack.Encoder()
_counts_decoder = msgspec.msgpack.Decoder(dict[str, int])


class JournalDamaged(JournalError):
    """The file holds something that was never written to it: a bad sector, a torn copy, a foreign file."""


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A row: `position` counts up by one through all files of a journal; `sealed_at` in microseconds."""

    position: int
    sealed_at: int
    counts: dict[str, int]
    payload: bytes


@dataclass(frozen=True, slots=True, order=True)
class FileName:
    """`00000012-3f9ac1d2e4b56789.journal`: the order of files, and the journal (one process's life) it belongs to."""

    sequence: int
    journal_id: str

    def __str__(self) -> str:
        return f"{self.sequence:08d}-{self.journal_id}{_SUFFIX}"

    @property
    def is_part(self) -> bool:
        return self.journal_id.endswith(_PART)

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        sequence, dash, rest = name.partition("-")
        if dash and sequence.isdigit() and rest.endswith(_SUFFIX) and len(rest) > len(_SUFFIX):
            return cls(int(sequence), rest.removesuffix(_SUFFIX))
        return None


class JournalFile:
    """One file, open for appending (`create`) or left by an earlier process (`open`)."""

    def __init__(self, path: Path, name: FileName) -> None:
        self.path = path
        self.name = name
        self.first_position = 0
        self.last_position = 0
        self.counts: dict[str, int] = {}
        self.oldest_sealed_at: int | None = None
        self.floor = 0  # positions up to this one are the previous file's: a failed sync may have left copies here
        self.size_bytes = 0  # what the rows take on disk, rounded up
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None

    @classmethod
    def create(cls, directory: Path, name: FileName) -> JournalFile:
        """A new, empty file that is durable before this returns."""
        file = cls(directory / str(name), name)
        try:
            with _translated(file.path):
                file._writer = _connect(file.path)
                file._writer.execute("PRAGMA journal_mode=WAL")
                file._writer.execute("PRAGMA synchronous=FULL")
                file._writer.execute(f"PRAGMA application_id={_APPLICATION_ID}")
                file._writer.execute(f"PRAGMA user_version={FORMAT_VERSION}")
                file._writer.execute(_SCHEMA)
                sync_directory(directory)
        except JournalError:
            file.unlink()  # half a file, on a full disk: it holds nothing
            raise
        return file

    @classmethod
    def open(cls, path: Path, name: FileName, floor: int = 0) -> JournalFile:
        """A file left by an earlier process. Raises JournalVersion or JournalDamaged."""
        file = cls(path, name)
        file.floor = floor
        try:
            file._check_and_account()
        finally:
            file.close()
        return file

    def _check_and_account(self) -> None:
        path = self.path
        with _translated(path):
            connection = self._connection()
            application_id = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if application_id != _APPLICATION_ID:
                raise JournalDamaged(f"{path} is not a journal file")
            if version > FORMAT_VERSION:
                raise JournalVersion(
                    f"the journal file {path} has format {version}, this ingestd reads up to {FORMAT_VERSION}; "
                    "run the newer ingestd until its journal is drained, or move the file away"
                )
            query = (
                "SELECT position, sealed_at, counts, length(payload) FROM batches WHERE position > ? ORDER BY position"
            )
            for position, sealed_at, counts, length in connection.execute(query, (self.floor,)):
                self._account(position, sealed_at, _counts_decoder.decode(counts), length)

    def append(self, batch: StoredBatch) -> None:
        """Make one batch durable: committed and synced when this returns."""
        if self._writer is None:
            raise JournalError(f"{self.path} is closed")
        with _translated(self.path):
            self._writer.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", _row(batch))
        self._account(batch.position, batch.sealed_at, batch.counts, len(batch.payload))

    def append_all(self, batches: list[StoredBatch]) -> None:
        """Many batches, durable together."""
        if self._writer is None:
            raise JournalError(f"{self.path} is closed")
        with _translated(self.path):
            self._writer.execute("BEGIN")
            self._writer.executemany("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", map(_row, batches))
            self._writer.execute("COMMIT")

    def read(self, after: int, max_records: int) -> list[StoredBatch]:
        """The batches beyond `after`, in order, at least one if there is one, about `max_records` records of them."""
        batches: list[StoredBatch] = []
        records = 0
        with _translated(self.path):
            query = "SELECT position, sealed_at, counts, crc, payload FROM batches WHERE position > ? ORDER BY position"
            for row in self._connection().execute(query, (max(after, self.floor),)):
                batch = _stored(row)
                if batch is None:
                    if batches:
                        break  # hand over what is good; the next read meets the bad row first
                    raise JournalDamaged(f"{self.path}: batch {row[0]} fails its checksum")
                records += sum(batch.counts.values())
                if batches and records > max_records:
                    break
                batches.append(batch)
        return batches

    def counts_between(self, after: int, position: int) -> dict[str, int]:
        """Records by channel in the batches beyond `after` up to and including `position`."""
        sums: dict[str, int] = {}
        with _translated(self.path):
            query = "SELECT counts FROM batches WHERE position > ? AND position <= ?"
            for (counts,) in self._connection().execute(query, (max(after, self.floor), position)):
                add_counts(sums, _counts_decoder.decode(counts))
        return sums

    def salvage(self, directory: Path) -> tuple[JournalFile, int]:
        """Copy every undamaged batch into a file of the same name, move the damaged one to `bad/`.

        Returns the new file and how many positions are missing from it. Does not raise on damage, whatever it is.
        """
        good = list(self._undamaged())
        self.close()
        part = self._write_part(directory, good)
        bad_directory = directory / "bad"
        bad_directory.mkdir(exist_ok=True)
        # Under both names first: at no moment, whatever crashes, is there no file of this name.
        for path in _with_companions(self.path):
            kept = bad_directory / path.name
            kept.unlink(missing_ok=True)
            if path.exists():
                os.link(path, kept)
        sync_directory(bad_directory)
        repaired = self._put_in_place(part)
        missing = good[-1].position - good[0].position + 1 - len(good) if good else 0
        return repaired, max(missing, self.last_position - (good[-1].position if good else 0))

    def without_channel(self, channel: str) -> JournalFile:
        """The same batches, at the same positions, without the records of one channel; replaces this file."""
        part = self._write_part(self.path.parent, [_without(batch, channel) for batch in self._undamaged()])
        self.close()
        return self._put_in_place(part)

    def _write_part(self, directory: Path, batches: list[StoredBatch]) -> Path:
        name = FileName(self.name.sequence, self.name.journal_id + _PART)
        JournalFile(directory / str(name), name).unlink()  # what an earlier attempt left
        part = JournalFile.create(directory, name)
        try:
            part.append_all(batches)
        except JournalError:
            part.unlink()
            raise
        part.close()
        return part.path

    def _put_in_place(self, part: Path) -> JournalFile:
        # Closing folded the write-ahead log into the file; a log that stayed behind would be replayed into the new one.
        for path in _with_companions(self.path)[1:]:
            path.unlink(missing_ok=True)
        os.replace(part, self.path)
        sync_directory(self.path.parent)
        return JournalFile.open(self.path, self.name, self.floor)

    def close_writer(self) -> None:
        """No more appends; the write-ahead log is folded into the file."""
        if self._writer is not None:
            with contextlib.suppress(sqlite3.Error):  # folding is a courtesy: the log itself is durable
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._writer.close()
            self._writer = None

    def close(self) -> None:
        self.close_writer()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def unlink(self) -> None:
        """Forget the file: every durable sink has stored what it holds."""
        self.close()
        for path in reversed(_with_companions(self.path)):  # the database last: a log alone would stay for ever
            path.unlink(missing_ok=True)

    def _account(self, position: int, sealed_at: int, counts: dict[str, int], length: int) -> None:
        self.first_position = self.first_position or position
        self.last_position = max(self.last_position, position)
        self.size_bytes += row_bytes(length)
        if self.oldest_sealed_at is None:
            self.oldest_sealed_at = sealed_at
        add_counts(self.counts, counts)

    def _connection(self) -> sqlite3.Connection:
        if self._reader is None:
            self._reader = _connect(self.path)
            if self._writer is None:
                # Nobody else has it open: the index of the write-ahead log can live in memory. As a file it would need
                # room, and a full disk is just when an old file must be read and freed.
                self._reader.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._reader.execute("PRAGMA cache_size=-512")  # KiB
        return self._reader

    def _undamaged(self) -> Iterator[StoredBatch]:
        query = (
            "SELECT position, sealed_at, counts, crc, payload FROM batches "
            "WHERE position >= ? ORDER BY position LIMIT 1"
        )
        position, step = max(self.first_position, self.floor + 1), 1
        while step < _LAST_STEP:
            try:
                row = self._connection().execute(query, (position,)).fetchone()
            except sqlite3.Error:
                # A damaged page fails every query that meets it: step over it, further each time.
                position, step = position + step, step * 2
                continue
            if step > 1:
                readable = position if row is None else row[0]
                position, step = self._first_readable(query, position - step // 2, readable), 1
                continue
            if row is None:
                return
            batch = _undamaged_batch(row)
            if batch is not None:
                yield batch
            position = row[0] + 1

    def _first_readable(self, query: str, unreadable: int, readable: int) -> int:
        """The first position past a damaged page, between one that fails and one that does not."""
        while readable - unreadable > 1:
            middle = (unreadable + readable) // 2
            try:
                self._connection().execute(query, (middle,)).fetchone()
            except sqlite3.Error:
                unreadable = middle
            else:
                readable = middle
        return readable


def row_bytes(payload_length: int) -> int:
    """What a row takes on disk at most: a row that does not share its page takes whole pages."""
    length = payload_length + ROW_OVERHEAD_BYTES
    return length + length // 4 if length < _PAGE_BYTES // 4 else -(-length // _PAGE_BYTES) * _PAGE_BYTES


def add_counts(sums: dict[str, int], counts: dict[str, int], sign: int = 1) -> None:
    """Add `counts` to `sums` in place, times `sign`."""
    for channel, count in counts.items():
        sums[channel] = sums.get(channel, 0) + sign * count


def _connect(path: Path) -> sqlite3.Connection:
    # Autocommit: one INSERT is one transaction, so one batch is one sync. The journal's threads take turns.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)


def _row(batch: StoredBatch) -> tuple[int, int, bytes, int, bytes]:
    counts = _counts_encoder.encode(batch.counts)
    crc = zlib.crc32(batch.payload, zlib.crc32(counts))
    return batch.position, batch.sealed_at, counts, crc, batch.payload


def _stored(row: tuple[int, int, bytes, int, bytes]) -> StoredBatch | None:
    position, sealed_at, counts, crc, payload = row
    if zlib.crc32(payload, zlib.crc32(counts)) != crc:
        return None
    return StoredBatch(position, sealed_at, _counts_decoder.decode(counts), payload)


def _undamaged_batch(row: tuple[int, int, bytes, int, bytes]) -> StoredBatch | None:
    try:
        return _stored(row)
    except (msgspec.DecodeError, TypeError, ValueError):
        return None


def _without(batch: StoredBatch, channel: str) -> StoredBatch:
    kept = [record for record in decode_batch(batch.payload) if channel_of(record) != channel]
    return StoredBatch(batch.position, batch.sealed_at, count_channels(kept), encode_batch(kept))


def _with_companions(path: Path) -> tuple[Path, Path, Path]:
    return path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# SQLite says these too when a companion file finds no room.
_MAY_BE_ROOM = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


def _little_room(directory: Path) -> bool:
    state = os.statvfs(directory)
    return state.f_bavail * state.f_frsize < _LITTLE_ROOM_BYTES


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        primary = code & 0xFF if code is not None else None
        if primary == sqlite3.SQLITE_FULL or (primary in _MAY_BE_ROOM and _little_room(path.parent)):
            raise JournalFull(f"no room left on the disk of {path.parent}; free some, nothing is lost") from error
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise JournalDamaged(f"{path}: {error}") from error
        if isinstance(error, sqlite3.OperationalError) and "no such table" in str(error):
            raise JournalDamaged(f"{path}: {error}") from error
        raise JournalError(f"{path}: {error}; check the disk and its permissions") from error
    except (msgspec.DecodeError, TypeError) as error:
        raise JournalDamaged(f"{path}: {error}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise JournalFull(f"no room left on the disk of {path.parent}; free some, nothing is lost") from error
        raise JournalError(f"{path}: {error}; check the disk and its permissions") from error
