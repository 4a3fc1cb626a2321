"""Bitget."""

from __future__ import annotations

import zlib
from typing import Any

from ingestd.venues.checksums import Book, Levels, as_int, at, in_turn, signed
from ingestd.venues.facts import Ccxt, CcxtBooks, Facts, Trades
from ingestd.venues.trade_kinds import Marks

_CHECKED_LEVELS = 25


def bitget_checksum(bids: Levels, asks: Levels) -> int:
    """Signed CRC32 of price and amount of a bid, an ask, the next bid, …, in the digits of the rows.

    https://www.bitget.com/api-doc/spot/websocket/public/Depth-Channel
    """
    sides = [[(str(row[0]), str(row[1])) for row in rows[:_CHECKED_LEVELS]] for rows in (bids, asks)]
    return signed(zlib.crc32(in_turn(*sides).encode()))


def _agrees(book: Book, frame: Any) -> bool | None:
    """None where the frame carries no checksum. ccxt keeps the row as it was sent at the end of each level."""
    if (at(frame, "arg", "channel") or at(frame, "arg", "topic")) != "books":
        return None
    stated = at(frame, "data", 0, "checksum")
    bids, asks = ([level[-1] for level in book[side][:_CHECKED_LEVELS]] for side in ("bids", "asks"))
    return None if stated is None else as_int(stated) == bitget_checksum(bids, asks)


FACTS = (
    Facts(
        exchange="bitget",
        trades=Trades(
            # https://www.bitget.com/api-doc/uta/websocket/public/New-Trades-Channel (yes or no)
            marks=Marks(flags={"isRPI": "rpi"}),
        ),
        ccxt=Ccxt(
            symbols_per_call=30,
            timeframes_not_streamed=frozenset({"2h", "3d", "1M"}),
        ),
        books=CcxtBooks(agrees=_agrees),
    ),
)
