"""BloFin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.decoding import part
from ingestd.venues.facts import Facts, Quantities


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """Read a snapshot or an update of a book. https://docs.blofin.com/index.html#ws-order-book-channel"""
    asked = part(frame, "arg")
    if asked.get("channel") == "books" and "action" in frame:
        yield NumberedFrame(frame, str(asked.get("instId")), part(frame, "data"), frame["action"] == "snapshot")


def _unsubscription(_exchange: Any, market: Any, name: str) -> dict[str, Any] | None:
    """Make the request that ends a subscription to a book. https://docs.blofin.com/index.html#ws-order-book-channel"""
    if name != f"books:{market['symbol']}":
        return None
    return {"op": "unsubscribe", "args": [{"channel": "books", "instId": market["id"]}]}


FACTS = Facts(
    exchange="blofin",
    # a book's sizes are a "number of contracts", each of contractValue:
    # https://docs.blofin.com/index.html#ws-order-book-channel
    quantities=Quantities(in_contracts=True),
    contracts_only=True,
    books=CcxtBooks(
        numbering=Numbering((), ("seqId",), before=("prevSeqId",)),
        numbered_frames=_numbered_frames,
        unsubscription=_unsubscription,
        streams_path=("args",),
    ),
)
