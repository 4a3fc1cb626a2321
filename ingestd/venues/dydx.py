"""dYdX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestd.venues.ccxt_books import BookFrame, CcxtBooks
from ingestd.venues.decoding import at
from ingestd.venues.facts import Facts
from ingestd.venues.trades import Marks, Trades


def _whole_book(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """The snapshot is in `subscribed`: https://docs.dydx.exchange/api_integration-indexer/indexer_websocket"""
    is_whole = (at(frame, "channel"), at(frame, "type")) == ("v4_orderbook", "subscribed")
    return BookFrame(str(at(frame, "id"))) if is_whole else None


FACTS = Facts(
    exchange="dydx",
    example_market="BTC/USDC:USDC",
    contracts_only=True,
    trades=Trades(
        # https://docs.dydx.xyz/types/trade_type
        marks=Marks({"type": {"LIMIT": None, "MARKET": None, "LIQUIDATED": "liquidation", "DELEVERAGED": "adl"}})
    ),
    books=CcxtBooks(whole_book=_whole_book),
)
