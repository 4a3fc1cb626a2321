"""Retries: the delay before the next attempt, and which failures are logged."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ingestd.log_limit import LogLimit


class Backoff:
    """Counts the attempts of an operation that is retried until it succeeds, and gives the delay before each.

    The delay is random ("full jitter"), so that a hundred feeds do not return at once: between zero and a limit that
    begins at `base_s`, doubles with each attempt, and ends at `cap_s`.

    Call `next_s` after each failure, then `is_logged`. Call `settled` only after the operation has worked for a while:
    an exchange that accepts a connection and closes it at once would be dialled without pause.
    """

    def __init__(self, *, base_s: float = 0.5, cap_s: float = 30.0, draw: Callable[[], float] = random.random) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._draw = draw
        self._log_limit = LogLimit()
        self.attempts = 0

    def next_s(self, at_least_s: float = 0.0) -> float:
        """Count a failure and return the delay before the next attempt. `at_least_s` is the wait the exchange asked
        for."""
        limit_s = min(self._cap_s, self._base_s * 2.0 ** min(self.attempts, 32))
        self.attempts += 1
        return at_least_s + self._draw() * limit_s

    def is_logged(self, error: object) -> bool:
        """Whether to log this failure: the first one, a new text, or once a minute (see `log_limit`)."""
        return self._log_limit.allows(str(error))

    def settled(self) -> None:
        """Reset the count, because the operation has worked long enough."""
        self.attempts = 0
        self._log_limit.clear()


SETTLED_S = 30.0
"""Delays start over after this long without a failure."""


class Backoffs:
    """A backoff for each of several operations, so that one that fails often does not delay the others."""

    def __init__(self, new: Callable[[], Backoff]) -> None:
        self._new = new
        self._failed: dict[str, tuple[Backoff, float]] = {}  # with the time of the last failure

    def next_s(self, name: str, now_s: float) -> float:
        """Count a failure of this operation and return the delay before its next attempt."""
        backoff, failed_at_s = self._failed.get(name, (self._new(), now_s))
        if now_s - failed_at_s >= SETTLED_S:
            backoff.settled()
        self._failed[name] = backoff, now_s
        return backoff.next_s()


LONGEST_WAIT_S = 3600.0
"""The longest wait that a venue can impose: one reply must not end the capture for good."""


def cut(asked_s: float) -> float:
    """Limit the wait that a venue asks for to `LONGEST_WAIT_S`."""
    return min(asked_s, LONGEST_WAIT_S)


def retry_after_s(said: object, now: datetime) -> float:
    """Parse a `Retry-After` header, a number or a date, into seconds; 0 without one. May be infinite.

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
