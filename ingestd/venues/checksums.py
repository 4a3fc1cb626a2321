"""What the checksums of several exchanges share. Pure.

They are computed here and not by ccxt, which has written the digits anew: a checksum is of the digits that were sent.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.venues.exact import decimal_text

Book = Mapping[str, Any]
"""A book as ccxt keeps it."""

Levels = Sequence[Sequence[Any]]


def in_turn(bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]]) -> str:
    """Price and amount of a bid, an ask, the next bid, …; where one side is shorter it is left out."""
    pairs = itertools.zip_longest(bids, asks)
    return ":".join(text for pair in pairs for level in pair if level is not None for text in level)


def signed(checksum: int) -> int:
    """CRC32 as a signed number of 32 bits."""
    return checksum - 2**32 if checksum >= 2**31 else checksum


def as_sent(number: Any) -> str:
    """The digits in which a number was sent."""
    return decimal_text(number) or ""


def as_int(value: Any) -> int | None:
    """A number, or a text of one; None: neither."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def at(frame: Any, *path: str | int) -> Any:
    """What is there in a decoded frame; None: nothing is."""
    for place in path:
        try:
            frame = frame[place]
        except (KeyError, IndexError, TypeError):
            return None
    return frame
