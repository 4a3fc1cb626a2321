"""A moment as text, as every message carries it: `2026-09-21T15:33:20.000001Z`.

The text down to the millisecond is computed once and kept: records come many to a millisecond when it matters.
"""

from __future__ import annotations

import time

_KEPT = 10_000
_seconds: dict[int, str] = {}
_milliseconds: dict[int, str] = {}
_ENDINGS = [f"{microseconds:03d}Z" for microseconds in range(1000)]


def iso_text(time_us: int) -> str:
    """ISO 8601 in UTC with six digits of a second. Raises ValueError for a time that no calendar of this system has."""
    millisecond = time_us // 1000
    text = _milliseconds.get(millisecond)
    if text is None:
        text = _until_the_millisecond(millisecond)
    return text + _ENDINGS[time_us - millisecond * 1000]


def _until_the_millisecond(millisecond: int) -> str:
    second, fraction = divmod(millisecond, 1000)
    until_the_second = _seconds.get(second)
    if until_the_second is None:
        until_the_second = _until_the_second(second)
    if len(_milliseconds) >= _KEPT:
        _milliseconds.clear()
    text = _milliseconds[millisecond] = f"{until_the_second}.{fraction:03d}"
    return text


def _until_the_second(second: int) -> str:
    try:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    except (OverflowError, OSError) as error:
        raise ValueError(f"no such time: second {second} since 1970") from error
    if len(_seconds) >= _KEPT:
        _seconds.clear()
    _seconds[second] = text
    return text
