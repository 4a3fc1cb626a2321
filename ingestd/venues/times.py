"""Converts RFC 3339 times to microseconds since the epoch. Fast: recent seconds are looked up."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_second = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}").fullmatch
_rest = re.compile(r"(?:\.([0-9]{1,9}))?(?:Z|\+00:?00)").fullmatch

_KEPT_SECONDS = 1024  # a snapshot of trades has many different seconds, the later stream one after the other
known_seconds: dict[str, int] = {}


def epoch_us(text: str) -> int:
    """Convert `2021-04-17T16:43:37.075687Z`, with up to nine decimals, to microseconds; further digits are truncated.

    Raises ValueError on anything else, including times that are not UTC.
    """
    second_us = known_seconds.get(text[:19])
    if second_us is None:
        second_us = _remembered(text[:19])
    digits = text[20:26]
    if text[26:] == "Z" and text[19] == "." and digits.isdecimal():
        return second_us + int(digits)
    rest = _rest(text, 19)
    if rest is None:
        raise ValueError(f"no time: {text[:40]!r}")
    return second_us + int((rest[1] or "")[:6].ljust(6, "0"))


def _remembered(second: str) -> int:
    if _second(second) is None:
        raise ValueError(f"no time: {second!r}")
    second_us = int(datetime.fromisoformat(second).replace(tzinfo=UTC).timestamp()) * 1_000_000
    if len(known_seconds) >= _KEPT_SECONDS:
        known_seconds.clear()
    known_seconds[second] = second_us
    return second_us
