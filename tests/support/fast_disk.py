"""Where the tests keep their files: in memory. A journal would wait for the disk at every append."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")
_MEMORY_NEEDED_BYTES = 6 << 30


def fastest_folder() -> Path | None:
    """Memory where there is plenty; None: there is not."""
    with contextlib.suppress(OSError):
        if os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC == 0 and shutil.disk_usage(_MEMORY).free >= _MEMORY_NEEDED_BYTES:
            return _MEMORY
    return None


def keep_files_in_memory() -> None:
    """Of this process and those it starts, from now on. Whoever names a place (TMPDIR) gets that."""
    if "TMPDIR" not in os.environ and (memory := fastest_folder()) is not None:
        os.environ["TMPDIR"] = tempfile.tempdir = str(memory)
