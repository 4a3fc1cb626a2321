"""Starts the journal: locks the state directory and loads the files of an earlier process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import structlog

from ingestd.clock import iso_text, now_us
from ingestd.errors import JournalDamaged, JournalError, JournalLocked
from ingestd.files import close_to_others, make_directory, open_own, sync_directory
from ingestd.journal.batch import add_counts
from ingestd.journal.damage import report_damage
from ingestd.journal.disk import translated
from ingestd.journal.file import END, FileName, JournalFile
from ingestd.journal.salvage import keep_aside, salvage, sweep
from ingestd.records import FeedGap

log = structlog.get_logger()

UNKNOWN = "unknown"
_HOLDER_CHARACTERS = 300


@dataclass
class Found:
    """The files of an earlier process, oldest first. `lost`: the records that damage took from them, by channel, and
    under `UNKNOWN` the number of lost batches whose records cannot be counted."""

    files: list[JournalFile] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    gaps: list[FeedGap] = field(default_factory=list)  # the gaps of lost batches
    last_sequence: int = 0


def take_directory(directory: Path) -> IO[str]:
    """Make the journal's directory and lock its parent, the state directory, until the returned file is closed.

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
    with contextlib.suppress(OSError):  # the name is for people; a full disk must not prevent the start
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}, since {iso_text(now_us())}\n")
        lock.flush()
    return lock


def files_left(directory: Path) -> Found:
    """Load every file and salvage the damaged ones. Raises JournalVersion, or JournalError if the disk fails."""
    sweep(directory)
    with translated(directory):
        names = sorted(name for path in directory.iterdir() if (name := FileName.parse(path.name)) is not None)
    found = Found(last_sequence=max((name.sequence for name in names), default=0))
    uncounted: list[JournalFile] = []
    below: dict[str, int] = {}  # by journal, where the next file begins
    for name in reversed(names):
        file = JournalFile(directory, name)
        end = below.get(name.journal_id, END)
        try:
            file.load(end)
        except JournalDamaged as error:
            repaired = _salvaged(file, error, end, found)
            if repaired is None:
                continue
            if not file.is_counted:
                uncounted.append(repaired)
            file = repaired
        if file.totals.last_position:
            found.files.insert(0, file)
            below[name.journal_id] = file.totals.first_position
        else:
            _delete_empty(file)
    missing = sum(_missing(file, found.files) for file in uncounted)
    if missing:
        add_counts(found.lost, {UNKNOWN: missing})
        log.error("journal_batches_missing", batches=missing)
    return found


def _delete_empty(file: JournalFile) -> None:
    """Delete a file without usable batches. If it has rows, which the next file repeats, keep it in `bad/`: a failed
    sync explains only one repeated row."""
    if file.has_rows():
        with translated(file.path):
            kept = keep_aside(file.path)
        log.warning("journal_file_repeated", path=str(file.path), kept_aside=[str(path) for path in kept])
    with contextlib.suppress(JournalError):  # the next start tries again
        file.unlink()


def _salvaged(file: JournalFile, error: JournalDamaged, below: int, found: Found) -> JournalFile | None:
    """Return the file without its damaged batches; None if the disk refuses it, and the old file stays as it is."""
    try:
        rewritten = salvage(file, below)
    except JournalError as refusal:
        log.error("journal_file_left_damaged", path=str(file.path), error=str(error), not_salvaged=str(refusal))
        return None
    lost = rewritten.lost if file.is_counted else None
    add_counts(found.lost, lost or {})
    found.gaps += report_damage(file, error, rewritten, lost)
    return rewritten.file


def _missing(file: JournalFile, files: list[JournalFile]) -> int:
    """Count the batches that a salvaged file must have had besides those left: positions have no gaps, not even from
    one file to the next."""
    others = [other for other in files if other is not file and other.name.journal_id == file.name.journal_id]
    before = [other.totals.last_position for other in others if other.name.sequence < file.name.sequence]
    after = [other.totals.first_position for other in others if other.name.sequence > file.name.sequence]
    first = max(before) + 1 if before else file.totals.first_position
    end = min(after) if after else file.totals.last_position + 1
    return max(0, end - first - file.totals.batches) if first else 0
