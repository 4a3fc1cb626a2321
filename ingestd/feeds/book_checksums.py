"""What a venue says a book's checksum is, against the one of ours. Pure.

Only where the exchange library leaves the check out: it needs the digits as they were sent, which the library loses.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ingestd.feeds.exact import decimal_text

_KRAKEN_LEVELS = 10

Book = Mapping[str, Any]


class Checksums:
    """Whether each book agrees with its frame. A market whose checksum has never agreed yet is not judged by it: of
    such a one we do not know how to compute it."""

    def __init__(self, exchange: str) -> None:
        self._agrees = _CHECKS.get(exchange)
        self._known: set[str] = set()

    def contradict(self, symbol: str, book: Book, frame: Any) -> bool:
        """Whether this frame says that the book, as it is after it, is wrong."""
        if self._agrees is None:
            return False
        agrees = self._agrees(book, frame)
        if agrees:
            self._known.add(symbol)
        return agrees is False and symbol in self._known


def kraken_checksum(bids: Sequence[Sequence[Any]], asks: Sequence[Sequence[Any]]) -> int:
    """CRC32 of the digits of the ten best asks, then bids, without points and leading zeros.

    https://docs.kraken.com/exchange/guides/websockets/book-checksum-v2
    """
    levels = [*asks[:_KRAKEN_LEVELS], *bids[:_KRAKEN_LEVELS]]
    return zlib.crc32("".join(_digits(level[0]) + _digits(level[1]) for level in levels).encode())


def _digits(number: Any) -> str:
    return (decimal_text(number) or "").replace(".", "").lstrip("0")


def _kraken_agrees(book: Book, frame: Any) -> bool | None:
    """None when the frame carries no checksum."""
    try:
        stated = frame["data"][0]["checksum"] if frame["channel"] == "book" else None
    except (KeyError, IndexError, TypeError):
        return None
    return None if stated is None else stated == kraken_checksum(book["bids"], book["asks"])


_CHECKS: Mapping[str, Callable[[Book, Any], bool | None]] = {"kraken": _kraken_agrees}
