"""Time: integer microseconds since the epoch, UTC; durations by the monotonic clock only."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MICROSECONDS_PER_DAY = 86_400_000_000


def now_us() -> int:
    """The wall clock, in microseconds since the epoch."""
    return time.time_ns() // 1000


def monotonic_s() -> float:
    """Seconds on a clock that never jumps, for delays and ages."""
    return time.monotonic()


def to_datetime(time_us: int) -> datetime:
    """The same instant as an aware datetime, exact to the microsecond."""
    return _EPOCH + timedelta(microseconds=time_us)


def from_datetime(instant: datetime) -> int:
    """The same instant in microseconds since the epoch, exact."""
    delta = instant - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def isoformat(time_us: int) -> str:
    """`2026-01-06T22:00:00.000000Z`: how instants are written for people and in JSON."""
    return to_datetime(time_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
