"""Poloniex."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues import families
from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.corrections import Corrections, time_of
from ingestd.venues.decoding import at
from ingestd.venues.facts import Ccxt, Facts


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """Read the books in a frame: https://api-docs.poloniex.com/spot/websocket/market-data#book-level-2"""
    if at(frame, "channel") != "book_lv2" or not isinstance(at(frame, "data"), list):
        return
    for data in frame["data"]:
        if isinstance(data, dict):
            one = {**frame, "data": [data]}
            yield NumberedFrame(one, str(data.get("symbol")), data, frame.get("action") == "snapshot")


def _unsubscription(_exchange: Any, market: Any, name: str) -> dict[str, Any] | None:
    """Make the request: https://api-docs.poloniex.com/spot/websocket/#unsubscription"""
    if name != f"book_lv2::{market['symbol']}":
        return None
    return {"event": "unsubscribe", "channel": ["book_lv2"], "symbols": [market["id"]]}


FACTS = Facts(
    exchange="poloniex",
    families_by_request=(("swapPublic", families.SWAPS), ("public markets", families.SPOT)),
    quotes_in_coins=True,
    ccxt=Ccxt(ticks_from_books=True),
    books=CcxtBooks(
        numbering=Numbering((), ("id",), before=("lastId",)),
        numbered_frames=_numbered_frames,
        unsubscription=_unsubscription,
    ),
    # `createTime` is the time of the trade. Over REST ccxt uses `ts`, the time when the record was sent.
    # https://api-docs.poloniex.com/spot/websocket/market-data#trades,
    # https://api-docs.poloniex.com/spot/api/public/market-data#trades
    corrections=Corrections(trade=time_of("createTime")),
)
