"""How long a venue asks us to wait: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

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
