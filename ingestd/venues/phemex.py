"""Phemex."""

from __future__ import annotations

from typing import Any

from ingestd.venues.corrections import Changes, Corrections, Trade
from ingestd.venues.exact import decimal_text
from ingestd.venues.facts import Ccxt, Facts, OpenInterestUnits


def _corrected(trade: Trade, info: Any) -> Changes:
    """Take the amount of a contract trade with a scaled price as Phemex sends it: a number of contracts.

    ccxt applies `valueScale` to it, which is meant for spot amounts. An amount that is a text is not scaled.

    https://phemex-docs.github.io/#subscribe-trade
    """
    if not isinstance(info, list) or ":" not in str(trade.get("symbol")) or isinstance(info[-1], str):
        return {}
    return {"amount": decimal_text(info[-1])}


FACTS = Facts(
    exchange="phemex",
    # Contracts with scaled prices have `openInterest`, an integer. We take it for a number of contracts, because
    # positions are counted so. The others have `openInterestRv`, whose unit no document states.
    # https://phemex-docs.github.io/#query-24-hours-ticker
    open_interest=OpenInterestUnits(inverse="contracts", unread_field="openInterest"),
    ccxt=Ccxt(
        ticks_from_books=True,
        needs_ticker_for_open_interest=lambda market: market.get("inverse") is True or market.get("settle") == "USD",
    ),
    corrections=Corrections(
        trade=_corrected,
        book_times=(("timestamp",),),  # nanoseconds
    ),
)
