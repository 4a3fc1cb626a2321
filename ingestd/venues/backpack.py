"""Backpack."""

from __future__ import annotations

from typing import Any

from ingestd.venues.corrections import time_at
from ingestd.venues.facts import Changes, Corrections, Facts, Trade, Trades


def _corrected(_trade: Trade, info: Any) -> Changes:
    """Its socket: `T` is when the engine matched the trade, `E`, which the library takes, when it was told of.

    Both in microseconds: https://docs.backpack.exchange/#tag/Streams/Public/Trade
    """
    return time_at(info, "T")


FACTS = (
    Facts(
        exchange="backpack",
        trades=Trades(
            # socket, `E` and `T`: microseconds; REST, `timestamp`: milliseconds
            two_times=True,
        ),
        corrections=Corrections(
            trade=_corrected,
            # microseconds
            book_times=(("data", "T"),),
        ),
    ),
)
