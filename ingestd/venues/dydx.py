"""dYdX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestd.venues.book_frames import BookFrame
from ingestd.venues.facts import CcxtBooks, Facts, Trades
from ingestd.venues.trade_kinds import Marks


def _whole_book(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """https://docs.dydx.exchange/api_integration-indexer/indexer_websocket: `subscribed` holds the snapshot."""
    if not isinstance(frame, dict) or (frame.get("channel"), frame.get("type")) != ("v4_orderbook", "subscribed"):
        return None
    return BookFrame(str(frame.get("id")))


FACTS = (
    Facts(
        exchange="dydx",
        first_market="BTC/USDC:USDC",
        contracts_only=True,
        trades=Trades(
            # https://docs.dydx.xyz/types/trade_type
            marks=Marks({"type": {"LIMIT": None, "MARKET": None, "LIQUIDATED": "liquidation", "DELEVERAGED": "adl"}}),
        ),
        books=CcxtBooks(
            whole_book=_whole_book,
        ),
    ),
)
