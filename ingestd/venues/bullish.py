"""Bullish."""

from __future__ import annotations

from typing import Any

from ingestd.venues.corrections import Changes, Corrections, Trade, other_side
from ingestd.venues.decoding import at
from ingestd.venues.facts import Facts


def _corrected(_trade: Trade, info: Any) -> Changes:
    """`side` is that of one order; `isTaker` says whether that order was the taker.

    https://api.exchange.bullish.com/docs/api/rest/trading-api/v2/ (`isTaker`)
    """
    return other_side(at(info, "side")) if at(info, "isTaker") is False else {}


FACTS = Facts(exchange="bullish", corrections=Corrections(trade=_corrected))
