"""Poloniex."""

from __future__ import annotations

from typing import Any

from ingestd.venues.corrections import time_at
from ingestd.venues.facts import Ccxt, CcxtBooks, Changes, Corrections, Facts, Trade


def _corrected(_trade: Trade, info: Any) -> Changes:
    """`createTime` is when the trade was made, `ts` when the record was pushed: the library takes that over REST.

    https://api-docs.poloniex.com/spot/websocket/market-data#trades, https://api-docs.poloniex.com/spot/api/public/market-data#trades
    """
    return time_at(info, "createTime")


FACTS = (
    Facts(
        exchange="poloniex",
        quotes_in_coins=True,
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
        books=CcxtBooks(
            unsubscribed_here=True,
        ),
        corrections=Corrections(
            trade=_corrected,
        ),
    ),
)
