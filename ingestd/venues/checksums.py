"""Helpers for the checksums of several exchanges. Pure.

ccxt cannot compute them: a checksum covers the digits as sent, and ccxt has reformatted them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.venues.exact import decimal_text

Book = Mapping[str, Any]
"""An order book in ccxt's form."""

Levels = Sequence[Sequence[Any]]


def in_turn(bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]]) -> str:
    """Join price and amount of a bid, an ask, the next bid, …; a shorter side simply ends earlier."""
    pairs = itertools.zip_longest(bids, asks)
    return ":".join(text for pair in pairs for level in pair if level is not None for text in level)


def signed(checksum: int) -> int:
    """A CRC32 as a signed 32-bit number."""
    return checksum - 2**32 if checksum >= 2**31 else checksum


def as_sent(number: Any) -> str:
    """The digits of a number as the exchange sent them."""
    return decimal_text(number) or ""


def as_int(value: Any) -> int | None:
    """The value as an integer; None if it is not one."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def at(frame: Any, *path: str | int) -> Any:
    """The value at this path in a decoded frame; None if there is none."""
    for place in path:
        try:
            frame = frame[place]
        except (KeyError, IndexError, TypeError):
            return None
    return frame
