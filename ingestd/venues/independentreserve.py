"""Independent Reserve."""

from __future__ import annotations

import zlib
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from ingestd.venues.ccxt_books import Book, CcxtBooks, Levels, as_sent
from ingestd.venues.corrections import Corrections
from ingestd.venues.decoding import at
from ingestd.venues.facts import Facts
from ingestd.venues.names import CodeNames
from ingestd.venues.numbers import as_int

_CHECKED_LEVELS, _DECIMALS = 10, 8


def independentreserve_checksum(bids: Levels, asks: Levels) -> int:
    """CRC32 of the ten best bids and then the ten best asks, with eight decimals, no points and no leading zeros.

    https://github.com/independentreserve/websockets/blob/master/orderbook-snapshot.md#crc32-checksum
    """
    levels = [*bids[:_CHECKED_LEVELS], *asks[:_CHECKED_LEVELS]]
    return zlib.crc32("".join(_padded(level[0]) + _padded(level[1]) for level in levels).encode())


def _padded(number: Any) -> str:
    try:
        return f"{Decimal(as_sent(number)):.{_DECIMALS}f}".replace(".", "").lstrip("0")
    except InvalidOperation:
        return ""


def _agrees(book: Book, frame: Any) -> bool | None:
    stated = at(frame, "Data", "Crc32")
    return None if stated is None else as_int(stated) == independentreserve_checksum(book["bids"], book["asks"])


FACTS = Facts(
    exchange="independentreserve",
    example_market="BTC/AUD",
    books=CcxtBooks(agrees=_agrees),
    # A subscription takes the exchange's own currency codes ("a primary currency code"):
    # https://github.com/independentreserve/websockets/blob/master/orderbook-ticker.md
    corrections=Corrections(names=partial(CodeNames, ("{0}-{1}",))),
)
