"""How exchanges compute the checksum of a book that their messages state. Pure.

Computed here and not by the exchange library, which has written the digits anew: a checksum is of the digits as they
were sent.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from ingestd.venues.exact import decimal_text

_KRAKEN_LEVELS = 10
_BITFINEX_LEVELS = _BITGET_LEVELS = 25
_INDEPENDENTRESERVE_LEVELS, _INDEPENDENTRESERVE_DECIMALS = 10, 8

Book = Mapping[str, Any]
Levels = Sequence[Sequence[Any]]


def kraken_checksum(bids: Levels, asks: Levels) -> int:
    """CRC32 of the digits of the ten best asks, then bids, without points and leading zeros.

    https://docs.kraken.com/exchange/guides/websockets/book-checksum-v2
    """
    levels = [*asks[:_KRAKEN_LEVELS], *bids[:_KRAKEN_LEVELS]]
    return zlib.crc32("".join(_digits(level[0]) + _digits(level[1]) for level in levels).encode())


def bitfinex_checksums(bids: Levels, asks: Levels) -> Iterator[int]:
    """Signed CRC32 of price and amount (of a raw book: id and amount) of a bid, an ask, the next bid, …; an ask's
    amount is negative. Once of the digits as sent, and once of the numbers as JavaScript writes them (5.6e-7), which
    is how the venue comes by its digits.

    https://docs.bitfinex.com/docs/ws-websocket-checksum
    """
    best = bids[:_BITFINEX_LEVELS], asks[:_BITFINEX_LEVELS]
    for text in (_as_sent, _as_javascript):
        sides = [
            [(level[2] if isinstance(level[2], str) else text(level[0]), sign + text(level[1])) for level in levels]
            for levels, sign in zip(best, ("", "-"), strict=True)
        ]
        yield _signed(zlib.crc32(_in_turn(*sides).encode()))


def bitget_checksum(bids: Levels, asks: Levels) -> int:
    """Signed CRC32 of price and amount of a bid, an ask, the next bid, …, in the digits of the rows.

    https://www.bitget.com/api-doc/common/websocket-intro
    """
    sides = [[(str(row[0]), str(row[1])) for *_, row in levels[:_BITGET_LEVELS]] for levels in (bids, asks)]
    return _signed(zlib.crc32(_in_turn(*sides).encode()))


def independentreserve_checksum(bids: Levels, asks: Levels) -> int:
    """CRC32 of the ten best bids, then asks, with eight decimals, without points and leading zeros.

    https://github.com/independentreserve/websockets/blob/master/orderbook-snapshot.md#crc32-checksum
    """
    levels = [*bids[:_INDEPENDENTRESERVE_LEVELS], *asks[:_INDEPENDENTRESERVE_LEVELS]]
    return zlib.crc32("".join(_padded(level[0]) + _padded(level[1]) for level in levels).encode())


def _in_turn(bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]]) -> str:
    pairs = itertools.zip_longest(bids, asks)
    return ":".join(text for pair in pairs for level in pair if level is not None for text in level)


def _signed(checksum: int) -> int:
    return checksum - 2**32 if checksum >= 2**31 else checksum


def _digits(number: Any) -> str:
    return (decimal_text(number) or "").replace(".", "").lstrip("0")


def _padded(number: Any) -> str:
    try:
        return f"{Decimal(_as_sent(number)):.{_INDEPENDENTRESERVE_DECIMALS}f}".replace(".", "").lstrip("0")
    except InvalidOperation:
        return ""


def _as_sent(number: Any) -> str:
    return decimal_text(number) or ""


def _as_javascript(number: Any) -> str:
    """As `String(number)` does: https://tc39.es/ecma262/#sec-numeric-types-number-tostring"""
    sign, decimals, exponent = Decimal(repr(float(number))).normalize().as_tuple()
    assert isinstance(exponent, int)
    digits = "".join(map(str, decimals))
    point = len(digits) + exponent
    minus = "-" if sign else ""
    if len(digits) <= point <= 21:
        return minus + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{minus}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{minus}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if digits[1:] else ""
    return f"{minus}{digits[0]}{fraction}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def _kraken_agrees(book: Book, frame: Any) -> bool | None:
    """None when the frame carries no checksum."""
    stated = _at(frame, "data", 0, "checksum") if _at(frame, "channel") == "book" else None
    return None if stated is None else stated == kraken_checksum(book["bids"], book["asks"])


def _bitfinex_agrees(book: Book, frame: Any) -> bool | None:
    if not is_bitfinex_checksum(frame):
        return None
    return frame[2] in bitfinex_checksums(book["bids"], book["asks"])


def is_bitfinex_checksum(frame: Any) -> bool:
    """Whether a frame is `[channel, "cs", checksum]`: it brings nothing else."""
    return isinstance(frame, list) and len(frame) > 2 and frame[1] == "cs"


def _bitget_agrees(book: Book, frame: Any) -> bool | None:
    if (_at(frame, "arg", "channel") or _at(frame, "arg", "topic")) != "books":
        return None
    stated = _at(frame, "data", 0, "checksum")
    return None if stated is None else _as_int(stated) == bitget_checksum(book["bids"], book["asks"])


def _independentreserve_agrees(book: Book, frame: Any) -> bool | None:
    stated = _at(frame, "Data", "Crc32")
    return None if stated is None else _as_int(stated) == independentreserve_checksum(book["bids"], book["asks"])


def _as_int(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _at(frame: Any, *path: str | int) -> Any:
    for place in path:
        try:
            frame = frame[place]
        except (KeyError, IndexError, TypeError):
            return None
    return frame


CHECKS: Mapping[str, Callable[[Book, Any], bool | None]] = {
    "bitfinex": _bitfinex_agrees,
    "bitget": _bitget_agrees,
    "independentreserve": _independentreserve_agrees,
    "kraken": _kraken_agrees,
}
