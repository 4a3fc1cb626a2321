"""A unit test starts no process. Python itself says when one is started: https://peps.python.org/pep-0578/"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

STARTS = {"subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec"}

_forbidden = False


def _refuse(event: str, _arguments: tuple[object, ...]) -> None:
    if _forbidden and event in STARTS:
        raise RuntimeError(f"a unit test starts a process ({event}): it belongs in tests/integration")


sys.addaudithook(_refuse)


@pytest.fixture(autouse=True)
def _no_process() -> Iterator[None]:
    global _forbidden
    _forbidden = True
    yield
    _forbidden = False
