"""MEXC."""

from __future__ import annotations

from typing import Any

from ingestd.venues.facts import Ccxt, Changes, Corrections, Facts, Trade


def _corrected(trade: Trade, _info: Any) -> Changes:
    """Where a trade has no id the library writes its fields, so that two equal ones of a millisecond are one."""
    made_up = f"{trade.get('timestamp')}-{trade.get('side')}-"
    return {"id": None} if str(trade.get("id")).startswith(made_up) else {}


FACTS = (
    Facts(
        exchange="mexc",
        quotes_in_coins=True,
        ccxt=Ccxt(
            # ccxt has the stream of best prices for spot alone; the tickers of contracts have the day's limits
            # instead
            ticks_from_books_of=frozenset({"swap"}),
        ),
        corrections=Corrections(
            trade=_corrected,
        ),
    ),
)
