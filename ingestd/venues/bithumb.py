"""Bithumb."""

from __future__ import annotations

from functools import partial
from typing import Any

from ingestd.venues import families
from ingestd.venues.corrections import Changes, Corrections, Trade
from ingestd.venues.decoding import at
from ingestd.venues.facts import Ccxt, Facts
from ingestd.venues.names import CodeNames

_SIDES = {"1": "sell", "2": "buy"}


def _corrected(_trade: Trade, info: Any) -> Changes:
    """On its first socket `buySellGb` is 1 for a sale and 2 for a purchase; ccxt swaps them.

    https://apidocs.bithumb.com/reference/빗썸-거래소-정보-수신
    """
    side = _SIDES.get(str(at(info, "buySellGb")))
    return {} if side is None else {"side": side}


FACTS = Facts(
    exchange="bithumb",
    example_market="BTC/KRW",
    families_by_request=(("ticker/ALL", families.SPOT),),
    ccxt=Ccxt(ticks_from_books=True),
    corrections=Corrections(
        names=partial(CodeNames, ("{0}_{1}",)),
        trade=_corrected,
        book_times=(("content", "datetime"),),  # microseconds
    ),
)
