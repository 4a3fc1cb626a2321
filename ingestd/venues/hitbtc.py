"""HitBTC, and Bequant, which runs on HitBTC's platform."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.decoding import at, part
from ingestd.venues.facts import ANY_KIND, Facts, OpenInterestUnits


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """https://api.hitbtc.com/#subscribe-to-full-order-book"""
    if not str(at(frame, "ch")).startswith("orderbook/full"):
        return
    for kind in ("snapshot", "update"):
        for market_id, book in part(frame, kind).items():
            if isinstance(book, dict):
                one = {"ch": frame["ch"], kind: {market_id: book}}
                yield NumberedFrame(one, market_id, book, kind == "snapshot")


def _unsubscription(exchange: Any, market: Any, name: str) -> dict[str, Any] | None:
    """https://api.hitbtc.com/#socket-market-data"""
    if name != f"orderbooks::{market['symbol']}":
        return None
    channel = exchange.handle_option("watchOrderBook", "method", "orderbook/full")
    params = {"symbols": [market["id"]]}
    return {"method": "unsubscribe", "ch": channel, "params": params, "id": exchange.incrementing_nonce()}


# 30.98 of BTC at 42,307: no value in USDT, as ccxt takes it; https://api.hitbtc.com/#futures-info
_OPEN_INTEREST = OpenInterestUnits(count_read_as_value=ANY_KIND)

FACTS = (
    Facts(
        exchange="hitbtc",
        open_interest=_OPEN_INTEREST,
        books=CcxtBooks(
            numbering=Numbering(("s",), ("s",)), numbered_frames=_numbered_frames, unsubscription=_unsubscription
        ),
    ),
    Facts(exchange="bequant", open_interest=_OPEN_INTEREST, books=CcxtBooks(unsubscription=_unsubscription)),
)
