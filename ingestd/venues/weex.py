"""WEEX."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues import families
from ingestd.venues.book_frames import NumberedFrame
from ingestd.venues.facts import Ccxt, CcxtBooks, Facts
from ingestd.venues.numbering import Numbering


def _numbered_frames(frame: Any, url: str) -> Iterable[NumberedFrame]:
    """https://www.weex.com/api-doc/spot/Websocket/public/Depth-Channel"""
    kind = frame.get("e") if isinstance(frame, dict) else None
    if kind in ("depth", "depthSnapshot"):
        market_type = "swap" if "contract" in url else "spot"
        yield NumberedFrame(frame, str(frame.get("s")), frame, kind == "depthSnapshot", market_type)


FACTS = (
    Facts(
        exchange="weex",
        lists=(("contract", families.CONTRACTS), ("public", families.SPOT)),
        ccxt=Ccxt(
            # ccxt has a stream of best prices for spot only; the tickers of contracts have neither bid nor ask
            ticks_from_books_of=frozenset({"swap"}),
        ),
        books=CcxtBooks(
            # `U` is the previous number, or the one after it: both are accepted
            numbering=Numbering(("U",), ("u",)),
            numbered_frames=_numbered_frames,
            left_standing=True,
            listed_in=("params",),
        ),
    ),
)
