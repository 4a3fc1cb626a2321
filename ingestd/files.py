"""The files of `instance.state_dir`: readable by this user only, and never another user's file under one of our names.

Others may be able to write to the directory, as to /tmp. They may put a symbolic link, a hard link or a FIFO there, so
that the daemon writes to, reads or waits for something else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ingestd.failpoints import passing

_FILE = 0o600
_DIRECTORY = 0o700
# Without O_NONBLOCK, opening a FIFO that nobody else has opened would wait for ever.
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@contextlib.contextmanager
def private() -> Iterator[None]:
    """Files and directories made inside the block are readable by this user only, whatever the umask was before."""
    before = os.umask(0o777 & ~_DIRECTORY)
    try:
        yield
    finally:
        os.umask(before)


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, if there is none. Raises OSError."""
    if path.is_dir():
        return
    make_directory(path.absolute().parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, _DIRECTORY)
        os.chmod(path, _DIRECTORY)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{path.name} is no directory", str(path))


def open_own(path: Path, flags: int = os.O_RDWR | os.O_CREAT, *, sole: bool = False) -> int:
    """Open our file, made if there is none, and take others' rights to it away. `sole`: it may have no hard link.

    Raises OSError, whose text says what is wrong, if the name is not a file of ours.
    """
    try:
        descriptor = os.open(path, flags | _FLAGS, _FILE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _foreign(path, "a symbolic link") from error
        if error.errno in (errno.EISDIR, errno.ENXIO):
            raise _foreign(path, "no plain file") from error
        raise
    try:
        _require_own(path, os.fstat(descriptor), sole)
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != _FILE:
            os.fchmod(descriptor, _FILE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read(path: Path) -> bytes:
    """All of our file. Raises OSError as `open_own` does."""
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
        return file.read()


def replace(path: Path, payload: bytes) -> None:
    """Put a new file in the place of the old one, whole or not at all. May take as long as the disk does.

    The new content and its name are durable when this returns: they survive a loss of power. Until then a crash leaves
    the old file or the new one, and never a part of either. Two threads must not replace the same file at once.
    """
    beside = path.with_name(f"{path.name}.part")
    beside.unlink(missing_ok=True)  # what a crash left, or a link that somebody put there
    with os.fdopen(open_own(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    passing(f"{path.name}.part")
    os.replace(beside, path)
    passing(f"{path.name}.replaced")
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in it durable: those of files made, renamed or deleted."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def close_to_others(directory: Path) -> None:
    """Take others' rights away from a directory and all that is in it, as an earlier version may have left them."""
    for folder, _, names in os.walk(directory):
        os.chmod(folder, _DIRECTORY)
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path) and stat.S_IMODE(os.stat(path).st_mode) & 0o077:
                os.chmod(path, _FILE)


def _require_own(path: Path, found: os.stat_result, sole: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _foreign(path, "no plain file")
    if os.geteuid() not in (found.st_uid, 0):
        raise _foreign(path, "the file of another user")
    if sole and found.st_nlink > 1:
        raise _foreign(path, "a hard link to another file")


def _foreign(path: Path, what: str) -> OSError:
    return OSError(errno.EPERM, f"{path.name} is {what}: find out who put it there, and remove it", str(path))
