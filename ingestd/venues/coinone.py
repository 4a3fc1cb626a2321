"""Coinone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ingestd.venues.ccxt_books import BookFrame, CcxtBooks
from ingestd.venues.corrections import Changes, Corrections, Trade
from ingestd.venues.decoding import at
from ingestd.venues.facts import Facts
from ingestd.venues.names import CodeNames


def _corrected(_trade: Trade, info: Any) -> Changes:
    """If `is_seller_maker`, the buyer is the taker; ccxt swaps them.

    https://docs.coinone.co.kr/reference/recent-completed-orders
    """
    seller_is_maker = at(info, "is_seller_maker")
    return {"side": "buy" if seller_is_maker else "sell"} if isinstance(seller_is_maker, bool) else {}


def _whole_book(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """Every message is a snapshot."""
    is_book = "ORDERBOOK" in str(at(frame, "channel")) and isinstance(at(frame, "data"), dict)
    return BookFrame("") if is_book else None


FACTS = Facts(
    exchange="coinone",
    example_market="BTC/KRW",
    corrections=Corrections(names=partial(CodeNames, ("{0}", "{1}")), trade=_corrected),
    books=CcxtBooks(whole_book=_whole_book),
)
