"""The exchange's own time to the microsecond: ccxt keeps milliseconds, the venue's message often says more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# 2021-04-17T16:43:37.075687Z, with at least one digit more than milliseconds
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.(\d{3})(\d{1,6})(?:Z|\+00:?00)").fullmatch
# 1617986617075687, 1617986617075687123, 1617986617075.687
_EPOCH = re.compile(r"(\d{13})\.?(\d{1,6})").fullmatch
_TIME_KEYS = frozenset({"t", "T", "ts", "E"})


def time_us(milliseconds: Any, info: Any, received_at: int, text: Any = None) -> int:
    """The exchange's time in microseconds; `received_at` when it says none.

    `milliseconds` is what ccxt made of it, `info` the venue's message, `text` what ccxt keeps as `datetime`: a time in
    them that agrees to the millisecond and goes on is taken.
    """
    if not milliseconds:
        return received_at
    whole = int(milliseconds)
    rest = _beyond(whole, "", text)
    if rest is not None:
        return whole * 1000 + rest
    if isinstance(info, Mapping):
        for key, value in info.items():
            rest = _beyond(whole, key, value)
            if rest is not None:
                return whole * 1000 + rest
    return whole * 1000


def _beyond(milliseconds: int, key: str, value: Any) -> int | None:
    """The microseconds past the millisecond, when this field is the same time said more exactly."""
    if isinstance(value, str) and len(value) > 23 and value[10] == "T":
        match = _ISO(value)
        if match is not None and int(match.group(1)) == milliseconds % 1000:
            return int(match.group(2)[:3].ljust(3, "0"))
    elif (key in _TIME_KEYS or "time" in key) and isinstance(value, (str, int)) and not isinstance(value, bool):
        match = _EPOCH(str(value))
        if match is not None and int(match.group(1)) == milliseconds:
            return int(match.group(2)[:3].ljust(3, "0"))
    return None
