"""Apex."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.corrections import Corrections
from ingestd.venues.decoding import at, part
from ingestd.venues.facts import Ccxt, Facts
from ingestd.venues.trades import Marks, Trades


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """Read books: https://api-docs.pro.apex.exchange/#websocket-v3-for-omni-websocket-endpoint"""
    data = part(frame, "data")
    if data and str(at(frame, "topic")).startswith("orderBook"):
        yield NumberedFrame(frame, str(data.get("s")), data, frame.get("type") == "snapshot")


def _unsubscription(_exchange: Any, market: Any, name: str) -> dict[str, Any] | None:
    """Make the request: https://api-docs.pro.apex.exchange/#websocket-v3-for-omni-websocket-endpoint"""
    if name != f"orderbook:{market['symbol']}":
        return None
    return {"op": "unsubscribe", "args": [f"orderBook25.H.{market['id2']}"]}  # the depth that ccxt subscribes to


FACTS = Facts(
    exchange="apex",
    example_market="BTC/USD:USD",
    contracts_only=True,
    # messages have Bybit's form
    trades=Trades(marks=Marks(flags={"BT": "block"})),
    ccxt=Ccxt(ticks_from_books=True),
    books=CcxtBooks(
        numbering=Numbering(("u",), ("u",)),
        numbered_frames=_numbered_frames,
        unsubscription=_unsubscription,
        asks_only_for_new=True,
    ),
    corrections=Corrections(book_times=(("ts",),)),  # microseconds
)
