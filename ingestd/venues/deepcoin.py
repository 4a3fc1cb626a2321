"""Deepcoin."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ingestd.venues.facts import Corrections, Facts, Trades
from ingestd.venues.names import CodeNames


def _one_by_one(frame: Any) -> Sequence[Any]:
    """Deepcoin: a frame of trades holds a list of them (`r`), of which the library takes the first.

    https://www.deepcoin.com/docs/publicWS/lastTransactions
    """
    rows = frame.get("r") if isinstance(frame, dict) and frame.get("a") == "PMT" else None
    return [{**frame, "r": [row]} for row in rows] if isinstance(rows, list) and len(rows) > 1 else (frame,)


FACTS = (
    Facts(
        exchange="deepcoin",
        # DeepCoin_BTC/USDT_0.01
        names=partial(CodeNames, ("{0}/{1}",), between="_"),
        trades=Trades(
            # socket, `T`: seconds; REST, `ts`: milliseconds
            two_times=True,
        ),
        corrections=Corrections(
            frame=_one_by_one,
        ),
    ),
)
