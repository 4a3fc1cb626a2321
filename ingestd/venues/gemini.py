"""Gemini."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingestd.venues.facts import Ccxt, Corrections, Facts, Trades
from ingestd.venues.trade_kinds import Marks


def _with_block_trades(frame: Any) -> Sequence[Any]:
    """Gemini: a block trade is an event of its own type, which the library passes over; `block_trade` keeps the mark.

    https://docs.gemini.com/websocket/market-data/v1/market-data-v1
    """
    events = frame.get("events") if isinstance(frame, dict) else None
    if not isinstance(events, list) or not any(_is_block_trade(event) for event in events):
        return (frame,)
    told = [{**event, "type": "trade", "block_trade": True} if _is_block_trade(event) else event for event in events]
    return ({**frame, "events": told},)


def _is_block_trade(event: Any) -> bool:
    return isinstance(event, dict) and event.get("type") == "block_trade"


FACTS = (
    Facts(
        exchange="gemini",
        trades=Trades(
            # https://docs.gemini.com/rest/market-data#list-trades (there `buy` and `sell` are ordinary); the flag
            # is our own word for the socket's type `block_trade`: see `_with_block_trades`
            marks=Marks(
                {"type": {"trade": None, "buy": None, "sell": None, "block": "block"}}, {"block_trade": "block"}
            ),
        ),
        ccxt=Ccxt(
            # the symbols are part of the URL
            symbols_per_call=20,
        ),
        corrections=Corrections(
            frame=_with_block_trades,
        ),
    ),
)
