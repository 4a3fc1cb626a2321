"""Start of the journal: lock the state directory, and load the files of an earlier process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import structlog

from ingestd.clock import iso_text, now_us
from ingestd.errors import JournalDamaged, JournalError, JournalLocked
from ingestd.files import close_to_others, make_directory, open_own, sync_directory
from ingestd.journal.damage import damage_gaps, missing_span
from ingestd.journal.disk import translated
from ingestd.journal.file import FileName, JournalFile, add_counts
from ingestd.journal.salvage import Rewritten, keep_aside, salvage, sweep
from ingestd.records import FeedGap

log = structlog.get_logger()

# The channel for counting batches whose records cannot be counted any more.
UNKNOWN = "unknown"
_HOLDER_CHARACTERS = 300


@dataclass
class Found:
    """The files left, oldest first; the records, or else batches, that damage took from them."""

    files: list[JournalFile] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    gaps: list[FeedGap] = field(default_factory=list)  # the gaps of lost batches
    last_sequence: int = 0


def take_directory(directory: Path) -> IO[str]:
    """Make the journal's directory and lock the state directory around it.

    Raises JournalError if that fails, JournalLocked if another process holds the lock.
    """
    state_dir = directory.parent
    try:
        make_directory(directory)
        sync_directory(state_dir)
        sync_directory(state_dir.absolute().parent)
        lock = os.fdopen(open_own(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_APPEND, sole=True), "a+")
    except OSError as error:
        raise JournalError(
            f"the state directory {state_dir} cannot be used: {error.strerror}; "
            "create it for this user, or set instance.state_dir"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read(_HOLDER_CHARACTERS).strip()
        lock.close()
        raise JournalLocked(
            f"another ingestd owns {state_dir}{f' ({holder})' if holder else ''}; "
            "stop it, or give this one its own instance.state_dir"
        ) from error
    with contextlib.suppress(OSError):
        close_to_others(directory)
    with contextlib.suppress(OSError):  # the name is for people; a full disk must not keep the journal shut
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}, since {iso_text(now_us())}\n")
        lock.flush()
    return lock


def files_left(directory: Path) -> Found:
    """Look at every file; salvage the damaged ones. Raises JournalVersion, or JournalError when the disk fails."""
    sweep(directory)
    with translated(directory):
        names = sorted(name for path in directory.iterdir() if (name := FileName.parse(path.name)) is not None)
    found = Found(last_sequence=max((name.sequence for name in names), default=0))
    uncounted: list[JournalFile] = []
    below: dict[str, int] = {}  # by journal, where the next file begins
    for name in reversed(names):
        file = JournalFile(directory / str(name), name)
        try:
            file.load(below.get(name.journal_id))
        except JournalDamaged as error:
            repaired = _salvaged(file, error, below.get(name.journal_id), found)
            if repaired is None:
                continue
            if not file.is_counted:
                uncounted.append(repaired)
            file = repaired
        if file.last_position:
            found.files.insert(0, file)
            below[name.journal_id] = file.first_position
        else:
            _delete_empty(file)
    missing = sum(_missing(file, found.files) for file in uncounted)
    if missing:
        add_counts(found.lost, {UNKNOWN: missing})
        log.error("journal_batches_missing", batches=missing)
    return found


def _delete_empty(file: JournalFile) -> None:
    """Delete a file without usable batches. Keep a second name if the next file repeats all its batches: a failed sync
    repeats only one."""
    if file.has_rows():
        with translated(file.path):
            kept = keep_aside(file.path)
        log.warning("journal_file_repeated", path=str(file.path), kept_aside=[str(path) for path in kept])
    with contextlib.suppress(JournalError):  # the next start tries again
        file.unlink()


def _salvaged(file: JournalFile, error: JournalDamaged, below: int | None, found: Found) -> JournalFile | None:
    """The file without its damaged batches; None if the disk cannot write it: then the file stays as it is."""
    try:
        rewritten = salvage(file, below)
    except JournalError as refusal:
        log.error("journal_file_left_damaged", path=str(file.path), error=str(error), not_salvaged=str(refusal))
        return None
    if file.is_counted:
        add_counts(found.lost, rewritten.lost)
    found.gaps += gaps_left_by(file, rewritten, rewritten.lost if file.is_counted else None)
    log.error(
        "journal_file_damaged",
        path=str(file.path),
        error=str(error),
        records_missing=rewritten.lost if file.is_counted else "unknown",
        records_kept=rewritten.file.counts,
        kept_aside=[str(path) for path in rewritten.kept_aside],
    )
    return rewritten.file


def gaps_left_by(file: JournalFile, rewritten: Rewritten, lost: Mapping[str, int] | None) -> list[FeedGap]:
    """The gaps of a file that was salvaged; `lost`: what of it is missing, by channel, None where nobody knows."""
    channels = None if lost is None else {channel for channel, count in lost.items() if count}
    sealed, counted = rewritten.sealed, file.is_counted
    oldest = file.oldest_sealed_at or (sealed[0][1] if sealed else now_us())
    span = missing_span(
        sealed, file.first_position if counted else None, file.last_position if counted else None, oldest, now_us()
    )
    return damage_gaps(rewritten.streams, channels, span, str(file.name))


def _missing(file: JournalFile, files: list[JournalFile]) -> int:
    """Batches that must have been in a salvaged file: positions have no gaps, from one file to the next either."""
    others = [other for other in files if other is not file and other.name.journal_id == file.name.journal_id]
    before = [other.last_position for other in others if other.name.sequence < file.name.sequence]
    after = [other.first_position for other in others if other.name.sequence > file.name.sequence]
    first = max(before) + 1 if before else file.first_position
    end = min(after) if after else file.last_position + 1
    return max(0, end - first - file.batches) if first else 0
