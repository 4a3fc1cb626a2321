"""Bullish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestd.venues.corrections import other_side
from ingestd.venues.facts import Changes, Corrections, Facts, Trade


def _corrected(_trade: Trade, info: Any) -> Changes:
    """`side` is that of one order; `isTaker` says whether that order was the taker.

    https://api.exchange.bullish.com/docs/api/rest/trading-api/v2/ (`isTaker`)
    """
    is_makers = isinstance(info, Mapping) and info.get("isTaker") is False
    return other_side(info.get("side")) if is_makers else {}


FACTS = (
    Facts(
        exchange="bullish",
        corrections=Corrections(
            trade=_corrected,
        ),
    ),
)
