"""The journal's seam to SQLite and the disk: connections, errors, durable file names, sizes of rows in pages."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ingestd.errors import JournalDamaged, JournalError, JournalFull
from ingestd.files import open_own

_PAGE = 4096
_LEAF_BYTES = _PAGE - 8
_LEAF_OVERHEAD_BYTES = 24  # its header, and its share of the inner pages
_LARGEST_LOCAL = _PAGE - 35  # a longer row continues on pages of its own (SQLite file format, section 1.6)
_SMALLEST_LOCAL = 489
# What a row costs beyond its counts and payload: header, time, checksum; rounded up.
_ROW_BYTES = 64
_NO_ROOM_BYTES = 64 * 1024
LARGE_BATCH_BYTES = 64 * 2**20


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Connect in autocommit mode: one INSERT is one transaction and one sync. Only mode `rwc` creates the file."""
    if mode == "rwc":
        os.close(open_own(path))  # SQLite gives its log and the log's index the permissions of this file
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10)


class Pages:
    """How rows inserted in order fill the pages of a SQLite table."""

    def __init__(self) -> None:
        self._free = 0  # bytes left in the leaf page that takes the next row

    def add(self, length: int) -> int:
        """Add a row with `length` bytes of counts and payload. Returns the bytes it takes on disk."""
        local, overflow = _row_space(length)
        taken = local + overflow
        if local > self._free:
            # The row begins a new page; the rest of this page stays unused.
            taken += self._free + _LEAF_OVERHEAD_BYTES
            self._free = _LEAF_BYTES
        self._free -= local
        return taken


def row_bytes(length: int) -> int:
    """About how many bytes a row takes on disk; up to a page more if it does not fit into the last one."""
    return sum(_row_space(length))


def _row_space(length: int) -> tuple[int, int]:
    """The bytes a row takes in its leaf page, and on pages of its own."""
    size = length + _ROW_BYTES
    if size <= _LARGEST_LOCAL:
        return size, 0
    local = _SMALLEST_LOCAL + (size - _SMALLEST_LOCAL) % (_PAGE - 4)
    if local > _LARGEST_LOCAL:
        local = _SMALLEST_LOCAL
    return local, -(-(size - local) // (_PAGE - 4)) * _PAGE


def with_companions(path: Path) -> tuple[Path, Path, Path]:
    """The file, its write-ahead log, and the log's index."""
    return path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn every error of SQLite and of the disk into a JournalError."""
    try:
        yield
    except sqlite3.Error as error:
        raise _journal_error(path, error) from error
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise JournalDamaged(f"{path}: {error}") from error
    except MemoryError as error:
        # SQLite can raise this error for a damaged row.
        if _has_memory():
            raise JournalDamaged(f"{path}: a row cannot be read") from error
        raise JournalError(f"{path}: there is no memory left to read or write it") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room_error(path) from error
        raise JournalError(f"{path}: {error}; check the disk and its permissions") from error


def _has_memory() -> bool:
    """Whether the system still grants far more memory than a usual batch takes."""
    try:
        bytearray(LARGE_BATCH_BYTES)
    except MemoryError:
        return False
    return True


# Errors caused by the system, another process or this program, and not by the file.
_NOT_CORRUPTION_CODES = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_ABORT,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_CONSTRAINT,
    }
)


def _journal_error(path: Path, error: sqlite3.Error) -> JournalError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    # On a full disk SQLite cannot create or extend its small files either, and reports that by other codes.
    may_be_full = primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
    if primary == sqlite3.SQLITE_FULL or (may_be_full and _is_full(path.parent)):
        return _no_room_error(path)
    # Our statements are correct, so any other error is about the file: "no such column" means a damaged schema. SQLite
    # has no code for a text that is not UTF-8.
    is_damage = isinstance(error, sqlite3.OperationalError) if primary is None else primary not in _NOT_CORRUPTION_CODES
    if is_damage:
        return JournalDamaged(f"{path}: {error}")
    return JournalError(f"{path}: {error}; check the disk and its permissions")


def _no_room_error(path: Path) -> JournalFull:
    return JournalFull(f"no room left on the disk of {path.parent}; free some, nothing is lost")


def _is_full(directory: Path) -> bool:
    try:
        disk = os.statvfs(directory)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _NO_ROOM_BYTES or (disk.f_files > 0 and disk.f_favail == 0)
