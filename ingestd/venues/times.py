"""Converts exchange times to microseconds since the epoch.

Native decoders convert the texts and numbers of their frames. ccxt keeps milliseconds only, but the venue's message,
which it hands on, is often more precise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ingestd.venues.exact import ExactFloat

_RFC_SECOND = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}").fullmatch
_RFC_REST = re.compile(r"(?:\.([0-9]{1,9}))?(?:Z|\+00:?00)").fullmatch
# 2021-04-17T16:43:37.075687Z, with at least one digit more than milliseconds, in any time zone
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:(\d\d)\.(\d{3})(\d{1,6})(?:Z|[+-]\d\d:?\d\d)?").fullmatch
# A UTC time with any number of decimals
_ANY_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:?00)?").fullmatch
# 1617986617075687, 1617986617075687123, 1617986617075.687
_EPOCH = re.compile(r"(\d{13})\.?(\d{1,6})").fullmatch
# 1617986617.075687
_SECONDS = re.compile(r"(\d{10})\.(\d{3})(\d{1,9})").fullmatch
_TIME_KEYS = frozenset({"t", "T", "ts", "E", "mts", "createdAt", "create_time_ms", "M"})  # M: KuCoin
# 1617986617, then decimals, or milli-, micro- or nanoseconds
_ANY_EPOCH = re.compile(r"(\d{10})(?:\.(\d{1,9})|(\d{3}|\d{6}|\d{9}))").fullmatch
FIRST_MICROSECONDS = 10**14
"""A time since the epoch from this number on is in microseconds: as milliseconds it would be after the year 5138."""

BOOK_TIME = "venue_time_us"
"""The key in ccxt's book for its time in microseconds, where ccxt's own time is less precise."""


_KEPT_SECONDS = 1024  # a snapshot of trades spans many seconds; after it each second comes once
known_seconds: dict[str, int] = {}  # in microseconds, by their text


def rfc3339_us(text: str) -> int:
    """Convert `2021-04-17T16:43:37.075687Z`, with up to nine decimals; digits after the sixth are dropped.

    Raises ValueError on anything else, including times that are not UTC.
    """
    second_us = known_seconds.get(text[:19])
    if second_us is None:
        second_us = _remembered(text[:19])
    digits = text[20:26]
    if text[26:] == "Z" and text[19] == "." and digits.isdecimal():
        return second_us + int(digits)
    rest = _RFC_REST(text, 19)
    if rest is None:
        raise ValueError(f"no time: {text[:40]!r}")
    return second_us + int((rest[1] or "")[:6].ljust(6, "0"))


def rfc3339_or(text: str | None, received_at: int) -> int:
    """The time of a text (`rfc3339_us`); `received_at` if there is none, or if it is the epoch itself."""
    return (rfc3339_us(text) if text else 0) or received_at


def _remembered(second: str) -> int:
    if _RFC_SECOND(second) is None:
        raise ValueError(f"no time: {second!r}")
    second_us = _whole_second_us(second)
    if len(known_seconds) >= _KEPT_SECONDS:
        known_seconds.clear()
    known_seconds[second] = second_us
    return second_us


def _whole_second_us(second: str) -> int:
    return int(datetime.fromisoformat(second).replace(tzinfo=UTC).timestamp()) * 1_000_000


def asks_for_microseconds(options: Mapping[str, Any]) -> bool:
    """Whether a feed's options request times in microseconds, from sockets and REST. The venue may still answer in
    milliseconds: the size of each number tells which it is.

    https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams (`timeUnit`)
    """
    return str(options.get("timeUnit")).upper() == "MICROSECOND"


def epoch_us(number: int) -> int:
    """Convert a time since the epoch from milliseconds or microseconds to microseconds."""
    return number if number >= FIRST_MICROSECONDS else number * 1000


def moment_us(value: object) -> int | None:
    """Convert a time since the epoch, or an ISO 8601 text in UTC, to microseconds; None if it is neither.

    A time since the epoch may be in seconds with decimals, milli-, micro- or nanoseconds: the number of digits tells.
    """
    if not isinstance(value, (str, int, ExactFloat)):
        return None
    epoch = _ANY_EPOCH(str(value))
    if epoch is not None:
        return int((epoch[1] + (epoch[2] or epoch[3]))[:16].ljust(16, "0"))
    iso = _ANY_ISO(value) if isinstance(value, str) else None
    try:
        return None if iso is None else _whole_second_us(iso[1]) + int((iso[2] or "")[:6].ljust(6, "0"))
    except ValueError:
        return None


def time_us(milliseconds: Any, info: Any, received_at: int, text: Any = None) -> int:
    """The exchange's time in microseconds; `received_at` if the message has none.

    `milliseconds`: ccxt's time. `info`: the venue's message (a mapping, or a list as some venues send trades). `text`:
    ccxt's `datetime`. If `text` or `info` holds the same time with more digits, that one is used; ccxt's may be
    truncated or rounded.
    """
    if not milliseconds:
        return received_at
    whole = int(milliseconds)
    if whole >= FIRST_MICROSECONDS:
        return whole
    found = _iso_beyond(whole, text)
    if found is not None:
        return found
    for value in _times(info):
        found = _iso_beyond(whole, value) if isinstance(value, str) else None
        if found is None:
            found = _epoch_beyond(whole, value)
        if found is not None:
            return found
    return whole * 1000


def _times(info: Any) -> Iterable[Any]:
    """The fields of a message that may be its time with more digits than milliseconds.

    A trade id may begin like a time, so ids are left out.
    """
    if isinstance(info, Mapping):
        return [
            value
            for key, value in info.items()
            if _is_long(value) and (key in _TIME_KEYS or "time" in key.lower() or _is_iso(value))
        ]
    if isinstance(info, list):
        return [value for value in info if _is_iso(value) or _is_exact_epoch(value)]
    return ()


def _is_long(value: Any) -> bool:
    """Whether a value has more digits than a time in milliseconds: few fields have."""
    kind = type(value)
    return (kind is str and len(value) > 13) or (kind is int and value >= FIRST_MICROSECONDS) or kind is ExactFloat


def _is_iso(value: Any) -> bool:
    return isinstance(value, str) and len(value) > 23 and value[10] in "T "


def _is_exact_epoch(value: Any) -> bool:
    """Whether a field without a name is a time in seconds with decimals, or in nanoseconds.

    Milliseconds are no more precise than ccxt's time, and microseconds could be an id.
    """
    if type(value) is ExactFloat:
        return _SECONDS(value.text) is not None
    return isinstance(value, int) and len(str(value)) == 19


def _iso_beyond(whole: int, value: Any) -> int | None:
    """The time in microseconds if this ISO text is the time `whole` (milliseconds) with more digits, else None."""
    if not _is_iso(value):
        return None
    match = _ISO(value)
    if match is None:
        return None
    of_minute_ms = int(match[1]) * 1000 + int(match[2])
    ahead_ms = (of_minute_ms - whole + 30_000) % 60_000 - 30_000  # rounding may reach into the next minute
    return _joined(whole + ahead_ms, match[3], whole)


def _epoch_beyond(whole: int, value: Any) -> int | None:
    """The time in microseconds if this number is the time `whole` (milliseconds) with more digits, else None."""
    if isinstance(value, bool) or not isinstance(value, (str, int, ExactFloat)):
        return None
    text = str(value)
    match = _EPOCH(text)
    if match is not None:
        return _joined(int(match[1]), match[2], whole)
    match = _SECONDS(text)
    return None if match is None else _joined(int(match[1] + match[2]), match[3], whole)


def _joined(milliseconds: int, rest: str, whole: int) -> int | None:
    microseconds = int(rest[:3].ljust(3, "0"))
    rounded_up = whole == milliseconds + 1 and microseconds >= 500  # ccxt truncates, but rounds a few venues' times
    return milliseconds * 1000 + microseconds if whole == milliseconds or rounded_up else None
