"""Trying again: how long to wait before the next attempt, and which failures are logged."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ingestd.log_limit import LogLimit


def delay_s(attempt: int, *, base_s: float, cap_s: float, draw: float) -> float:
    """Full jitter: a share `draw` (0 to 1) of the exponential limit of this attempt (0, 1, 2 …), at most `cap_s`."""
    return draw * min(cap_s, base_s * 2.0 ** min(attempt, 32))


class Backoff:
    """The attempts of one thing that is tried until it works.

    Call `next_s` after each failure, then ask `is_logged`. Call `settled` only after the thing has worked for a while,
    not when it was merely accepted: an exchange that accepts and closes at once would be dialled without pause.
    """

    def __init__(self, *, base_s: float = 0.5, cap_s: float = 30.0, draw: Callable[[], float] = random.random) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._draw = draw
        self._log_limit = LogLimit()
        self.attempts = 0

    def next_s(self, at_least_s: float = 0.0) -> float:
        """Count a failure; the delay before the next attempt. `at_least_s` is what the exchange itself asked for."""
        delay = delay_s(self.attempts, base_s=self._base_s, cap_s=self._cap_s, draw=self._draw())
        self.attempts += 1
        return at_least_s + delay

    def is_logged(self, error: object) -> bool:
        """Whether to log this failure: the first one, a new text, and one line a minute (see `log_limit`)."""
        return self._log_limit.allows(str(error))

    def settled(self) -> None:
        """It has worked long enough: the next failure is the first again."""
        self.attempts = 0
        self._log_limit.clear()


LONGEST_WAIT_S = 3600.0
"""The longest wait that a venue gets: one reply must not end the capture for good."""


def cut(asked_s: float) -> float:
    """The wait in seconds that a venue gets which asks for `asked_s`."""
    return min(asked_s, LONGEST_WAIT_S)


def retry_after_s(said: object, now: datetime) -> float:
    """The seconds that a `Retry-After` header asks for, as a number or a date; 0 without one. May be infinite.

    `now` has a time zone.
    """
    text = said if isinstance(said, str) else ""
    try:
        seconds = float(text)
    except ValueError:
        seconds = _until_s(text, now)
    return 0.0 if math.isnan(seconds) else max(0.0, seconds)


def _until_s(date: str, now: datetime) -> float:
    try:
        until = parsedate_to_datetime(date)
        return ((until if until.tzinfo is not None else until.replace(tzinfo=UTC)) - now).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
