"""WEEX."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues import families
from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.decoding import at
from ingestd.venues.facts import Ccxt, Facts


def _numbered_frames(frame: Any, url: str) -> Iterable[NumberedFrame]:
    """Read a snapshot or an update of a book.

    https://www.weex.com/api-doc/spot/Websocket/public/Depth-Channel
    """
    kind = at(frame, "e")
    if kind in ("depth", "depthSnapshot"):
        market_type = "swap" if "contract" in url else "spot"
        yield NumberedFrame(frame, str(frame.get("s")), frame, kind == "depthSnapshot", market_type)


FACTS = Facts(
    exchange="weex",
    families_by_request=(("contract", families.CONTRACTS), ("public", families.SPOT)),
    # In ccxt only spot markets have a stream of best prices, and the tickers of contracts have neither bid nor ask.
    ccxt=Ccxt(ticks_from_books_of=frozenset({"swap"})),
    books=CcxtBooks(
        # `U` may be the number of the update before, or the number after that: `Numbering` accepts both.
        numbering=Numbering(("U",), ("u",)),
        numbered_frames=_numbered_frames,
        kept_when_broken=True,
        streams_path=("params",),
    ),
)
