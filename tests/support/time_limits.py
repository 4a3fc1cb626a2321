"""How long something may take, and how often it is tried: as promised where the machine is ours; beside other tests
only a hang is told."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

_Case = TypeVar("_Case")

AT_LENGTH = "INGESTD_TEST_AT_LENGTH" in os.environ
"""The tests run one at a time, as long as they need: `make fault`."""

_BESIDE_OTHERS = 3


def limit_s(promised_s: float) -> float:
    """Until when something promised for this time is waited for."""
    return promised_s * (1 if AT_LENGTH else _BESIDE_OTHERS)


def within(seconds: float, promised_s: float) -> bool:
    """Whether the promise is kept. In a run that shares its cores with other tests, three times as much is a hang."""
    return seconds <= limit_s(promised_s)


def examples(at_length: int) -> int:
    """How many examples of a property to try: in the usual run a third of those."""
    return at_length if AT_LENGTH else -(-at_length // _BESIDE_OTHERS)


def cases(usual: Iterable[_Case], at_length: Iterable[_Case]) -> list[_Case]:
    """Which cases of a test to run: in the usual run one of each kind, and those that are like them at length only."""
    return [*usual, *at_length] if AT_LENGTH else [*usual]
