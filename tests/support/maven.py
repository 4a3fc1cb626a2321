"""Jars that Maven fetches once, into a cache that all runs share."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

_FETCH_TIMEOUT_S = 300


def can_fetch() -> bool:
    """Whether what runs from jars can be tried here, unless Maven finds no repository."""
    return shutil.which("java") is not None and shutil.which("mvn") is not None


def jars_of(pom: Path, version: str, what: str) -> Path:
    """The folder of a project's jars, fetched on first use; skips the test, with the reason, where that fails.

    `version` names the folder, such as `kafka-3.9.1`; `what` is the name for people.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ingestd-tests" / version
    if (cache / "complete").exists():
        return cache
    if not can_fetch():
        pytest.skip(f"no {what}: java or mvn is not on this machine")
    part = cache.with_name(f"{cache.name}.{os.getpid()}")
    command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={part}"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_FETCH_TIMEOUT_S)
    except (subprocess.SubprocessError, OSError) as error:
        shutil.rmtree(part, ignore_errors=True)
        pytest.skip(f"no {what}: its jars could not be fetched ({type(error).__name__})")
    (part / "complete").touch()
    with contextlib.suppress(OSError):  # another run was faster
        part.rename(cache)
    return cache
