"""Deepcoin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ingestd.venues import families
from ingestd.venues.ccxt_books import BookFrame, CcxtBooks
from ingestd.venues.corrections import Corrections
from ingestd.venues.decoding import at
from ingestd.venues.facts import Facts
from ingestd.venues.names import CodeNames
from ingestd.venues.trades import Trades


def _one_by_one(frame: Any) -> Sequence[Any]:
    """Split a frame with a list of trades (`r`), of which ccxt would read only the first.

    https://www.deepcoin.com/docs/publicWS/lastTransactions
    """
    rows = at(frame, "r") if at(frame, "a") == "PMT" else None
    return [{**frame, "r": [row]} for row in rows] if isinstance(rows, list) and len(rows) > 1 else (frame,)


def _whole_book(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    is_whole = (at(frame, "a"), at(frame, "t")) == ("PMO", "f")
    return BookFrame(str(at(frame, "r", 0, "d", "I"))) if is_whole else None


FACTS = Facts(
    exchange="deepcoin",
    families_by_request=(("=SPOT", families.SPOT), ("=SWAP", families.SWAPS)),
    # the socket gives a trade's time in seconds (`T`), REST in milliseconds (`ts`)
    trades=Trades(two_times=True),
    # the socket names markets in the form DeepCoin_BTC/USDT_0.01
    corrections=Corrections(names=partial(CodeNames, ("{0}/{1}",), between="_"), frame=_one_by_one),
    books=CcxtBooks(whole_book=_whole_book),
)
