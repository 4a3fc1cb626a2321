"""Coinone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ingestd.venues.book_frames import BookFrame
from ingestd.venues.facts import CcxtBooks, Changes, Corrections, Facts, Trade
from ingestd.venues.names import CodeNames


def _corrected(_trade: Trade, info: Any) -> Changes:
    """If `is_seller_maker`, the buyer is the taker; ccxt swaps them.

    https://docs.coinone.co.kr/reference/recent-completed-orders
    """
    seller_is_maker = info.get("is_seller_maker") if isinstance(info, Mapping) else None
    return {"side": "buy" if seller_is_maker else "sell"} if isinstance(seller_is_maker, bool) else {}


def _whole_book(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """Every message is a snapshot."""
    is_book = (
        isinstance(frame, dict) and "ORDERBOOK" in str(frame.get("channel")) and isinstance(frame.get("data"), dict)
    )
    return BookFrame("") if is_book else None


FACTS = (
    Facts(
        exchange="coinone",
        first_market="BTC/KRW",
        names=partial(CodeNames, ("{0}", "{1}")),
        corrections=Corrections(
            trade=_corrected,
        ),
        books=CcxtBooks(
            whole_book=_whole_book,
        ),
    ),
)
