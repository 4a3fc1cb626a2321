"""Coinone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ingestd.venues.facts import Changes, Corrections, Facts, Trade
from ingestd.venues.names import CodeNames


def _corrected(_trade: Trade, info: Any) -> Changes:
    """`is_seller_maker`: then the buyer is the taker; the library has it the other way round.

    https://docs.coinone.co.kr/reference/recent-completed-orders
    """
    seller_is_maker = info.get("is_seller_maker") if isinstance(info, Mapping) else None
    return {"side": "buy" if seller_is_maker else "sell"} if isinstance(seller_is_maker, bool) else {}


FACTS = (
    Facts(
        exchange="coinone",
        names=partial(CodeNames, ("{0}", "{1}")),
        corrections=Corrections(
            trade=_corrected,
        ),
    ),
)
