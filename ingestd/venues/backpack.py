"""Backpack."""

from __future__ import annotations

from typing import Any

from ingestd.venues.corrections import time_at
from ingestd.venues.counting import ANY_KIND, Counting
from ingestd.venues.facts import CcxtBooks, Changes, Corrections, Facts, Trade, Trades
from ingestd.venues.numbering import Numbering


def _corrected(_trade: Trade, info: Any) -> Changes:
    """On the socket `T` is the time of the match; ccxt uses `E`, the time of the message.

    Both in microseconds: https://docs.backpack.exchange/#tag/Streams/Public/Trade
    """
    return time_at(info, "T")


FACTS = (
    Facts(
        exchange="backpack",
        # in base; 1273.85 BTC in July 2025, which ccxt reads as 1273.85 USDC;
        # https://docs.backpack.exchange/#tag/Markets
        open_interest=Counting("base", other="base", misplaced=ANY_KIND),
        trades=Trades(
            # socket, `E` and `T`: microseconds; REST, `timestamp`: milliseconds
            two_times=True,
        ),
        corrections=Corrections(
            trade=_corrected,
            # microseconds
            book_times=(("data", "T"),),
        ),
        books=CcxtBooks(
            # https://docs.backpack.exchange/#tag/Streams/Public/Depth
            numbering=Numbering(("U",), ("u",)),
        ),
    ),
)
