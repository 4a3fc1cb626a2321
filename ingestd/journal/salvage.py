"""Rewrites a journal file without its damaged batches, or without one channel.

The new file is written beside the old one (`.part`), made durable, and renamed (`.new`). From then on it is the valid
one: the old file's write-ahead log is deleted, which would otherwise be replayed into the new file, and the new file
takes the old one's name. A crash at any moment leaves the whole old file or the whole new one; `sweep` then finishes or
undoes the rewriting. A damaged file is first given a second name in `bad/`.

Synchronous, for the thread that owns the files that take no more appends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ingestd import files
from ingestd.channels import channel_of, count_channels, stream_of
from ingestd.gaps.open_gaps import Dropped, note_dropped
from ingestd.journal.batch import Row, StoredBatch, add_counts, row_of, stored, totals_row
from ingestd.journal.disk import connect, translated, with_companions
from ingestd.journal.file import FileName, JournalFile, write_schema
from ingestd.records import FeedGap, Record, Rejected, StreamId, decode_batch, encode_batch

_PART = ".part.journal"  # a file being rewritten; deleted at the next start
_NEW = ".new.journal"  # a rewritten file, complete, that does not have the old one's name yet
_STEPS = 2000  # positions tried one by one across a damaged page, before the steps double
_PAGE_BYTES = 4096
_LEAST_PATIENCE = 1000  # failed reads after which the rest is given up, besides one for each page
# SQLite quotes a damaged schema in its error, and the quotation may not be text. For MemoryError see `disk.translated`.
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError, MemoryError)


@dataclass
class Rewritten:
    """The result of rewriting: the new file, and the records not in it."""

    file: JournalFile
    counts_at: dict[int, dict[str, int]] = field(default_factory=dict)  # of the batches kept, by position
    sealed: list[tuple[int, int]] = field(default_factory=list)  # position and sealed_at of each batch kept
    streams: set[StreamId] = field(default_factory=set)  # those of the batches kept
    lost: dict[str, int] = field(default_factory=dict)  # records; known only if the old file had been counted
    kept_aside: list[Path] = field(default_factory=list)
    dropped: dict[StreamId, Dropped] = field(default_factory=dict)  # on purpose, with a channel

    def counts_beyond(self, position: int) -> dict[str, int]:
        """Records by channel in the batches beyond `position`."""
        sums: dict[str, int] = {}
        for at, counts in self.counts_at.items():
            if at > position:
                add_counts(sums, counts)
        return sums


def salvage(file: JournalFile, below: int) -> Rewritten:
    """Replace a damaged file by one with its undamaged batches; the damaged ones are kept in `bad/`.

    Raises JournalError only if the disk refuses, never for the damage. `below`: see `JournalFile.load`.
    """
    file.finish()  # so that an append in flight is salvaged too
    return _rewrite(file, None, below)


def without_channel(file: JournalFile, channel: str) -> Rewritten:
    """Replace a file by one with the same batches at the same positions, without the records of one channel."""
    return _rewrite(file, channel, file.totals.last_position + 1)


def sweep(directory: Path) -> None:
    """At the start, finish or undo a rewriting that a crash interrupted, and delete leftover files."""
    with translated(directory):
        for path in sorted(directory.glob(f"*{_NEW}")):
            if FileName.parse(path.name) is not None:
                _put_in_place(path, path.with_name(f"{path.name.removesuffix(_NEW)}.journal"))
        for path in sorted(directory.iterdir()):
            base = path.with_name(path.name.removesuffix("-wal").removesuffix("-shm").removesuffix("-journal"))
            if FileName.parse(base.name) is not None and (base.name.endswith(_PART) or not base.exists()):
                path.unlink(missing_ok=True)


def _rewrite(file: JournalFile, channel: str | None, below: int) -> Rewritten:
    directory = file.path.parent
    part, new = file.path.with_suffix(_PART), file.path.with_suffix(_NEW)
    found = _Undamaged(file, below)
    copy = JournalFile(directory, file.name)
    result = Rewritten(copy, streams=found.streams)
    with translated(file.path):
        try:
            _discard(part)
            batches = found.batches() if channel is None else _all_without(channel, found.batches(), result.dropped)
            _write(part, copy, result, batches)
            file.close_reader()
            lost = Counter(file.totals.counts) - Counter(copy.totals.counts)  # the positive differences
            result.lost = {name: count for name, count in lost.items() if name != channel}
            if found.damage or (result.lost and not found.undecodable):
                result.kept_aside = keep_aside(file.path)
            result.kept_aside += [_keep_payload(file, batch) for batch in found.undecodable]
            os.replace(part, new)
            files.sync_directory(directory)
        finally:
            file.close_reader()
            with contextlib.suppress(OSError):
                _discard(part)
        file.close()
        _put_in_place(new, file.path)
    return result


def _write(part: Path, copy: JournalFile, result: Rewritten, batches: Iterable[StoredBatch]) -> None:
    """Write all batches in one transaction with one sync. No log is needed, because a crash discards the file."""
    connection = connect(part, "rwc")
    try:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=FULL")
        write_schema(connection)
        connection.execute("BEGIN")
        for batch in batches:
            row = row_of(batch)
            connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", row)
            copy.account(batch.position, batch.sealed_at, batch.counts, len(row[2]) + len(batch.payload))
            result.counts_at[batch.position] = batch.counts
            result.sealed.append((batch.position, batch.sealed_at))
        copy.is_counted = True
        if copy.totals.last_position:
            connection.execute("INSERT INTO totals VALUES (?)", (totals_row(copy.totals),))
        connection.execute("COMMIT")
    finally:
        connection.close()


def _put_in_place(new: Path, path: Path) -> None:
    for companion in with_companions(path)[1:]:
        companion.unlink(missing_ok=True)
    files.sync_directory(path.parent)
    os.replace(new, path)
    files.sync_directory(path.parent)


def keep_aside(path: Path) -> list[Path]:
    """Give a file and its log a second name in `bad/`, durable on return."""
    bad = _bad_directory(path.parent)
    kept = []
    for name in with_companions(path)[:2]:
        if name.exists():
            aside = _free_name(bad / name.name, name)
            if not aside.exists():
                try:
                    os.link(name, aside)
                except OSError:  # not every file system has hard links
                    shutil.copyfile(name, aside)
                    aside.chmod(0o600)
            kept.append(aside)
    files.sync_directory(bad)
    return kept


def _keep_payload(file: JournalFile, batch: StoredBatch) -> Path:
    kept = _bad_directory(file.path.parent) / f"{file.name}-{batch.position}.msgpack"
    files.replace(kept, batch.payload)
    return kept


def _bad_directory(directory: Path) -> Path:
    bad = directory / "bad"
    if not bad.is_dir():
        files.make_directory(bad)
        files.sync_directory(directory)
    return bad


def _free_name(path: Path, same_as: Path) -> Path:
    """A name that no other file has: nothing in `bad/` is overwritten."""
    number, free = 1, path
    while free.exists() and not free.samefile(same_as):
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


def _discard(path: Path) -> None:
    for name in with_companions(path):
        name.unlink(missing_ok=True)


def _all_without(channel: str, batches: Iterable[StoredBatch], spans: dict[StreamId, Dropped]) -> Iterator[StoredBatch]:
    """The batches without the records of this channel, which are noted in `spans`."""
    for batch in batches:
        if channel not in batch.counts:
            yield batch
            continue
        kept: list[Record] = []
        for record in decode_batch(batch.payload):
            if channel_of(record) != channel or isinstance(record, (FeedGap, Rejected)):
                kept.append(record)
            else:
                note_dropped(record, spans)
        yield StoredBatch(batch.position, batch.sealed_at, count_channels(kept), encode_batch(kept))


class _Undamaged:
    """Reads every row of a file, damaged or not, that can be reached."""

    def __init__(self, file: JournalFile, below: int) -> None:
        self.damage = False
        self.streams: set[StreamId] = set()
        self.undecodable: list[StoredBatch] = []  # intact, but written by a version with other records
        self._file = file
        self._below = below

    def batches(self) -> Iterator[StoredBatch]:
        """Yield the undamaged batches in order. Ends even if a damaged tree leads in circles."""
        position: int | None = 0
        patience = _LEAST_PATIENCE + self._file.path.stat().st_size // _PAGE_BYTES
        while position is not None and patience > 0:
            try:
                for row in self._file.rows(position, self._below):
                    if row[0] < position:
                        self.damage, patience = True, patience - 1
                        if patience <= 0:
                            return
                        continue
                    batch = self._sound(row)
                    position = row[0] + 1
                    if batch is not None:
                        yield batch
            except _UNREADABLE:
                self.damage, patience = True, patience - 1
                position = self._next_readable(position)
            else:
                return

    def _sound(self, row: Row) -> StoredBatch | None:
        try:
            batch = stored(row)
        except (msgspec.DecodeError, TypeError, ValueError):
            batch = None
        if batch is None:
            self.damage = True
            return None
        try:
            records = decode_batch(batch.payload)
        except msgspec.DecodeError:
            self.undecodable.append(batch)
            return None
        self.streams.update(stream_of(record) for record in records if not isinstance(record, (FeedGap, Rejected)))
        return batch

    def _next_readable(self, position: int) -> int | None:
        """Find the first position after a damaged page, where every query fails, from which rows can be read again."""
        for candidate in range(position, position + _STEPS):
            if self._is_readable(candidate):
                return candidate
        failing, step = position + _STEPS - 1, 1
        while not self._is_readable(failing + step):
            failing, step = failing + step, step * 2
            if failing + step >= self._below:
                return None
        between = range(failing + 1, failing + step)
        return failing + 1 + bisect_left(between, True, key=self._is_readable)

    def _is_readable(self, position: int) -> bool:
        try:
            self._file.rows(position, self._below).fetchone()
        except _UNREADABLE:
            return False
        return True
