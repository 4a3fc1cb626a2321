"""Derive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.venues import families
from ingestd.venues.corrections import other_side
from ingestd.venues.facts import Changes, Corrections, Facts, Trade, Trades
from ingestd.venues.trade_kinds import Marks


def _corrected(_trade: Trade, info: Any) -> Changes:
    """A trade arrives as two rows, the taker's and the maker's; `direction` is the side of the row's own party.

    https://docs.derive.xyz/reference/trades-instrument_name (`liquidity_role`)
    """
    is_makers = isinstance(info, Mapping) and info.get("liquidity_role") == "maker"
    return other_side(info.get("direction")) if is_makers else {}


def _once_a_trade(frame: Any) -> Sequence[Any]:
    """Keep only the taker's row of a trade with both rows in the frame (see `_corrected`).

    ccxt indexes the list of trades by number, but accepts only a dictionary.
    """
    params = frame.get("params") if isinstance(frame, dict) else None
    if not isinstance(params, dict) or not str(params.get("channel")).startswith("trades."):
        return (frame,)
    rows = params.get("data")
    if not isinstance(rows, list):
        return (frame,)
    takers = {row.get("trade_id") for row in rows if row.get("liquidity_role") != "maker"}
    kept = [row for row in rows if row.get("liquidity_role") != "maker" or row.get("trade_id") not in takers]
    return ({**frame, "params": {**params, "data": dict(enumerate(kept))}},)


FACTS = (
    Facts(
        exchange="derive",
        lists=(("=erc20", families.SPOT), ("=perp", families.SWAPS), ("=option", families.OPTIONS)),
        trades=Trades(
            # https://docs.derive.xyz/reference/trades-instrument_name
            marks=Marks(flags={"rfq_id": "block"}),
        ),
        corrections=Corrections(
            trade=_corrected,
            frame=_once_a_trade,
        ),
    ),
)
