"""Times as integer microseconds since the epoch, UTC; durations by the monotonic clock only."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from time import gmtime, strftime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MICROSECONDS_PER_DAY = 86_400_000_000

_KEPT = 10_000  # texts in each cache
_milliseconds: dict[int, str] = {}  # a cache, because at high rates many records share a millisecond
_ENDINGS = [f"{microseconds:03d}Z" for microseconds in range(1000)]


def now_us() -> int:
    """Wall-clock time in microseconds since the epoch."""
    return time.time_ns() // 1000


def monotonic_s() -> float:
    """Seconds of the monotonic clock, for delays and ages."""
    return time.monotonic()


async def wait_at_most(seconds: float, event: asyncio.Event) -> bool:
    """Wait for the event with a timeout. Return whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


def to_datetime(time_us: int) -> datetime:
    """Convert microseconds since the epoch to an aware datetime, without rounding."""
    return _EPOCH + timedelta(microseconds=time_us)


def from_datetime(instant: datetime) -> int:
    """Convert an aware datetime to microseconds since the epoch, without rounding."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def iso_text(time_us: int) -> str:
    """ISO 8601 in UTC with six decimals. Raises ValueError for a time outside the range of `datetime`."""
    millisecond = time_us // 1000
    text = _milliseconds.get(millisecond)
    if text is None:
        second, fraction = divmod(millisecond, 1000)
        if len(_milliseconds) >= _KEPT:
            _milliseconds.clear()
        text = _milliseconds[millisecond] = f"{_until_the_second(second)}.{fraction:03d}"
    return text + _ENDINGS[time_us - millisecond * 1000]


@lru_cache(_KEPT)
def _until_the_second(second: int) -> str:
    try:
        return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
    except (OverflowError, OSError) as error:
        raise ValueError(f"no such time: second {second} since 1970") from error
