"""How long something may take: as promised where the machine is ours; beside other tests only a hang is told."""

from __future__ import annotations

import os

AT_LENGTH = "INGESTD_TEST_AT_LENGTH" in os.environ
"""The tests run one at a time, as long as they need: `make fault`."""

_BESIDE_OTHERS = 3.0


def within(seconds: float, limit_s: float) -> bool:
    """Whether the promise is kept. In a run that shares its cores with other tests, three times as much is a hang."""
    return seconds <= limit_s * (1.0 if AT_LENGTH else _BESIDE_OTHERS)
