"""Backpack."""

from __future__ import annotations

from ingestd.venues.ccxt_books import CcxtBooks, Numbering
from ingestd.venues.corrections import Corrections, time_of
from ingestd.venues.facts import ANY_KIND, Facts, OpenInterestUnits
from ingestd.venues.trades import Trades

FACTS = Facts(
    exchange="backpack",
    # in base; 1273.85 BTC in July 2025, which ccxt reads as 1273.85 USDC;
    # https://docs.backpack.exchange/#tag/Markets
    open_interest=OpenInterestUnits("base", other="base", count_read_as_value=ANY_KIND),
    # socket, `E` and `T`: microseconds; REST, `timestamp`: milliseconds
    trades=Trades(two_times=True),
    corrections=Corrections(
        # On the socket `T` is the time of the match; ccxt uses `E`, the time of the message. Both in microseconds:
        # https://docs.backpack.exchange/#tag/Streams/Public/Trade
        trade=time_of("T"),
        book_times=(("data", "T"),),  # microseconds
    ),
    # https://docs.backpack.exchange/#tag/Streams/Public/Depth
    books=CcxtBooks(numbering=Numbering(("U",), ("u",))),
)
