"""XT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestd.venues.exact import decimal_text
from ingestd.venues.facts import Ccxt, Changes, Corrections, Facts, Trade


def _corrected(_trade: Trade, info: Any) -> Changes:
    """Of contracts `a` is counted in whole contracts, as in its books; the library multiplies it by their size.

    https://doc.xt.com/docs/futures/WebSocket/Public/Trade%20Record
    """
    is_contract = isinstance(info, Mapping) and "a" in info and "q" not in info
    amount = decimal_text(info["a"]) if is_contract else None
    return {} if amount is None else {"amount": amount}


FACTS = (
    Facts(
        exchange="xt",
        ccxt=Ccxt(
            ticks_from_books=True,
            unserved={"future": frozenset({"open_interest"})},
        ),
        corrections=Corrections(
            trade=_corrected,
        ),
    ),
)
