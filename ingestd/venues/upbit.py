"""Upbit."""

from __future__ import annotations

from typing import Any

from ingestd.venues.corrections import time_at
from ingestd.venues.facts import Ccxt, Changes, Corrections, Facts, Trade


def _corrected(_trade: Trade, info: Any) -> Changes:
    """Its socket: `trade_timestamp` is the trade's, `timestamp` the message's; over REST `timestamp` is the trade's.

    https://docs.upbit.com/kr/reference/websocket-trade
    """
    return time_at(info, "trade_timestamp")


FACTS = (
    Facts(
        exchange="upbit",
        first_market="BTC/KRW",
        ccxt=Ccxt(
            ticks_from_books=True,
            timeframes_not_streamed=frozenset(
                {"1m", "3m", "5m", "10m", "15m", "30m", "1h", "4h", "1d", "1w", "1M", "1y"}
            ),
        ),
        corrections=Corrections(
            trade=_corrected,
        ),
    ),
)
