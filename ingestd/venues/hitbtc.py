"""HitBTC, and Bequant, which runs on HitBTC's platform."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues.book_frames import NumberedFrame, part
from ingestd.venues.counting import ANY_KIND, Counting
from ingestd.venues.facts import CcxtBooks, Facts
from ingestd.venues.numbering import Numbering


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """https://api.hitbtc.com/#subscribe-to-full-order-book"""
    if not isinstance(frame, dict) or not str(frame.get("ch")).startswith("orderbook/full"):
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


FACTS = (
    Facts(
        exchange="hitbtc",
        # 30.98 of BTC at 42,307: no value in USDT, as ccxt takes it; https://api.hitbtc.com/#futures-info
        open_interest=Counting(misplaced=ANY_KIND),
        books=CcxtBooks(
            numbering=Numbering(("s",), ("s",)),
            numbered_frames=_numbered_frames,
            unsubscription=_unsubscription,
        ),
    ),
    Facts(
        exchange="bequant",
        # 30.98 of BTC at 42,307: no value in USDT, as ccxt takes it; https://api.hitbtc.com/#futures-info
        open_interest=Counting(misplaced=ANY_KIND),
        books=CcxtBooks(
            unsubscription=_unsubscription,
        ),
    ),
)
