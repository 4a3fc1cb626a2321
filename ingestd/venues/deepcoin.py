"""Deepcoin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ingestd.venues import families
from ingestd.venues.book_frames import BookFrame, mapping
from ingestd.venues.facts import CcxtBooks, Corrections, Facts, Trades
from ingestd.venues.names import CodeNames


def _one_by_one(frame: Any) -> Sequence[Any]:
    """Split a frame with a list of trades (`r`), of which ccxt would read only the first.

    https://www.deepcoin.com/docs/publicWS/lastTransactions
    """
    rows = frame.get("r") if isinstance(frame, dict) and frame.get("a") == "PMT" else None
    return [{**frame, "r": [row]} for row in rows] if isinstance(rows, list) and len(rows) > 1 else (frame,)


def _whole_book(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    if not isinstance(frame, dict) or (frame.get("a"), frame.get("t")) != ("PMO", "f"):
        return None
    rows = frame.get("r")
    first = mapping(mapping(rows[0]).get("d")) if isinstance(rows, list) and rows else {}
    return BookFrame(str(first.get("I")))


FACTS = (
    Facts(
        exchange="deepcoin",
        lists=(("=SPOT", families.SPOT), ("=SWAP", families.SWAPS)),
        # DeepCoin_BTC/USDT_0.01
        names=partial(CodeNames, ("{0}/{1}",), between="_"),
        trades=Trades(
            # socket, `T`: seconds; REST, `ts`: milliseconds
            two_times=True,
        ),
        corrections=Corrections(
            frame=_one_by_one,
        ),
        books=CcxtBooks(
            whole_book=_whole_book,
        ),
    ),
)
