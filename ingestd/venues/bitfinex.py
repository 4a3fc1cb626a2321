"""Bitfinex."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from ingestd.venues.ccxt_books import Book, BookFrame, CcxtBooks, Levels, as_sent, in_turn, signed
from ingestd.venues.facts import IN_CONTRACTS, QUANTITIES_AS_IN_CCXT, Facts

_CHECKED_LEVELS = 25


def bitfinex_checksums(bids: Levels, asks: Levels) -> Iterator[int]:
    """Yield the checksum over the digits as sent, then over the numbers as JavaScript writes them (5.6e-7), which is
    how the venue makes its digits.

    Each is the signed CRC32 of price and amount (in a raw book: id and amount) of a bid, an ask, the next bid, …; an
    ask's amount is negative. https://docs.bitfinex.com/docs/ws-websocket-checksum
    """
    best = bids[:_CHECKED_LEVELS], asks[:_CHECKED_LEVELS]
    for text in (as_sent, _as_javascript):
        sides = [
            [(level[2] if isinstance(level[2], str) else text(level[0]), sign + text(level[1])) for level in levels]
            for levels, sign in zip(best, ("", "-"), strict=True)
        ]
        yield signed(zlib.crc32(in_turn(*sides).encode()))


def _as_javascript(number: Any) -> str:
    """Format a number as JavaScript's `String(number)` does: https://tc39.es/ecma262/#sec-numeric-types-number-tostring"""
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


def _agrees(book: Book, frame: Any) -> bool | None:
    return frame[2] in bitfinex_checksums(book["bids"], book["asks"]) if _is_checksum(frame) else None


def _is_checksum(frame: Any) -> bool:
    return isinstance(frame, list) and len(frame) > 2 and frame[1] == "cs"


def _checksum_frame(frame: Any, subscriptions: Mapping[str, Any]) -> BookFrame | None:
    """A frame with nothing but a checksum is `[channel, "cs", checksum]`."""
    if not _is_checksum(frame):
        return None
    note = subscriptions.get(str(frame[0]))
    return BookFrame(str(note.get("symbol")) if isinstance(note, dict) else "")


def _whole_book(frame: Any, subscriptions: Mapping[str, Any]) -> BookFrame | None:
    """A snapshot is `[channel, [[price, count, amount], …]]`; a change is `[channel, [price, count, amount]]`."""
    if not isinstance(frame, list) or len(frame) < 2 or not isinstance(frame[1], list):
        return None
    rows, note = frame[1], subscriptions.get(str(frame[0]))
    if not isinstance(note, dict) or note.get("channel") != "book" or not all(isinstance(row, list) for row in rows):
        return None
    return BookFrame(str(note.get("symbol")))


FACTS = Facts(
    exchange="bitfinex",
    former_names=("bitfinex2",),
    quantities=QUANTITIES_AS_IN_CCXT,
    # "total number of outstanding derivative contracts";
    # https://docs.bitfinex.com/reference/rest-public-derivatives-status
    open_interest=IN_CONTRACTS,
    books=CcxtBooks(
        whole_book=_whole_book,
        agrees=_agrees,
        checksum_frame=_checksum_frame,
        # "subscribe: dup"; https://docs.bitfinex.com/docs/ws-general#unsubscribe-to-channels
        ended_by_channel_id=True,
    ),
)
