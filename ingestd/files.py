"""Access to the files of `instance.state_dir`: readable by this user only, and never a file that another user put
there.

Other users may be able to write to the directory, as to /tmp. A symbolic link, a hard link or a FIFO under one of our
names would make the daemon write to or read another file, or hang.
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
    """Make files and directories created inside the block readable by this user only, whatever the umask is."""
    before = os.umask(0o777 & ~_DIRECTORY)
    try:
        yield
    finally:
        os.umask(before)


def make_directory(path: Path) -> None:
    """Make a directory and its parents if they do not exist. Raises OSError."""
    if path.is_dir():
        return
    make_directory(path.absolute().parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, _DIRECTORY)
        os.chmod(path, _DIRECTORY)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{path.name} is no directory", str(path))


def open_own(path: Path, flags: int = os.O_RDWR | os.O_CREAT, *, sole: bool = False) -> int:
    """Open or create our file and remove other users' permissions. `sole`: refuse a file with a second hard link.

    Raises OSError, whose text says why, if `path` is not a regular file of this user.
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
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _foreign(path, "no plain file")
        if os.geteuid() not in (found.st_uid, 0):
            raise _foreign(path, "the file of another user")
        if sole and found.st_nlink > 1:
            raise _foreign(path, "a hard link to another file")
        if stat.S_IMODE(found.st_mode) != _FILE:
            os.fchmod(descriptor, _FILE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read(path: Path) -> bytes:
    """Read the whole of our file. Raises OSError as `open_own` does."""
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
        return file.read()


def replace(path: Path, payload: bytes) -> None:
    """Replace the file atomically. Blocks until the disk has synced.

    On return the new content and its name survive a loss of power. A crash before that leaves the old file or the new
    one, never a part of either. Two threads must not replace the same file at once.
    """
    beside = path.with_name(f"{path.name}.part")
    beside.unlink(missing_ok=True)  # left by a crash, or a link placed by another user
    with os.fdopen(open_own(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    passing(f"{path.name}.part")
    os.replace(beside, path)
    passing(f"{path.name}.replaced")
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Sync a directory, so that the creation, renaming and deletion of its files are durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def close_to_others(directory: Path) -> None:
    """Remove other users' permissions from a directory and its content; an earlier version may have granted them."""
    for folder, _, names in os.walk(directory):
        os.chmod(folder, _DIRECTORY)
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path) and stat.S_IMODE(os.stat(path).st_mode) & 0o077:
                os.chmod(path, _FILE)


def _foreign(path: Path, what: str) -> OSError:
    return OSError(errno.EPERM, f"{path.name} is {what}: find out who put it there, and remove it", str(path))
