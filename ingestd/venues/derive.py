"""Derive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingestd.venues import families
from ingestd.venues.corrections import Changes, Corrections, Trade, other_side
from ingestd.venues.decoding import at, part
from ingestd.venues.facts import Facts
from ingestd.venues.trades import Marks, Trades


def _corrected(_trade: Trade, info: Any) -> Changes:
    """A trade arrives as two rows, the taker's and the maker's; `direction` is the side of the row's own party.

    https://docs.derive.xyz/reference/trades-instrument_name (`liquidity_role`)
    """
    return other_side(at(info, "direction")) if at(info, "liquidity_role") == "maker" else {}


def _once_a_trade(frame: Any) -> Sequence[Any]:
    """Keep only the taker's row of a trade with both rows in the frame (see `_corrected`).

    ccxt indexes the list of trades by number, but accepts only a dictionary.
    """
    params = part(frame, "params")
    rows = params.get("data")
    if not isinstance(rows, list) or not str(params.get("channel")).startswith("trades."):
        return (frame,)
    takers = {row.get("trade_id") for row in rows if row.get("liquidity_role") != "maker"}
    kept = [row for row in rows if row.get("liquidity_role") != "maker" or row.get("trade_id") not in takers]
    return ({**frame, "params": {**params, "data": dict(enumerate(kept))}},)


FACTS = Facts(
    exchange="derive",
    families_by_request=(("=erc20", families.SPOT), ("=perp", families.SWAPS), ("=option", families.OPTIONS)),
    # https://docs.derive.xyz/reference/trades-instrument_name
    trades=Trades(marks=Marks(flags={"rfq_id": "block"})),
    corrections=Corrections(trade=_corrected, frame=_once_a_trade),
)
