"""The files of `instance.state_dir`: for this user alone, and never somebody else's file under the name of ours.

The directory may be one that others can write to, such as /tmp: a name in it may be a symbolic link, a second name of
another file, or a FIFO, put there so that we write to, wait for, or read something else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_FILE = 0o600
_DIRECTORY = 0o700
# Of a FIFO nobody has opened, an open without the last would wait for ever.
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@contextlib.contextmanager
def private() -> Iterator[None]:
    """What is made inside the block is for this user alone, whatever umask the process was started with."""
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
    """A descriptor of our file, made if there is none, and closed to others. `sole`: it may have no second name.

    Raises OSError, with what is wrong as its text, where the name is not a file of ours.
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


def write_beside(path: Path, payload: bytes, *, synced: bool = True) -> Path:
    """Write what `os.replace` is to put there; synced, since a host that crashes must not leave an empty one."""
    beside = path.with_name(f"{path.name}.part")
    beside.unlink(missing_ok=True)  # what a crash left, or a link that somebody put there
    with os.fdopen(open_own(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(payload)
        file.flush()
        if synced:
            os.fsync(file.fileno())
    return beside


def replace(path: Path, payload: bytes, *, synced: bool = True) -> None:
    """Put a new file in the place of the old one, whole or not at all."""
    os.replace(write_beside(path, payload, synced=synced), path)


def close_to_others(directory: Path) -> None:
    """A directory of ours and all that is in it, made by an earlier version under another umask."""
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
        raise _foreign(path, "a second name of another file")


def _foreign(path: Path, what: str) -> OSError:
    return OSError(errno.EPERM, f"{path.name} is {what}: look who put it there, and remove it", str(path))
