"""Lighter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.venues.facts import Ccxt, CcxtBooks, Corrections, Facts, Trades
from ingestd.venues.trade_kinds import Marks


def _with_liquidations(frame: Any) -> Sequence[Any]:
    """Lighter: the trades of liquidations are in a list of their own, which the library leaves out.

    https://apidocs.lighter.xyz/docs/websocket-reference#trade
    """
    others = frame.get("liquidation_trades") if isinstance(frame, dict) else None
    if not isinstance(others, list) or not others:
        return (frame,)
    trades = frame.get("trades")
    both = [*trades, *others] if isinstance(trades, list) else others
    by_id = {trade.get("trade_id"): trade for trade in both if isinstance(trade, dict)}
    newest_first = sorted(by_id.values(), key=_number, reverse=True)  # as the library expects them
    return ({**frame, "trades": newest_first, "liquidation_trades": []},)


def _number(trade: Mapping[str, Any]) -> int:
    number = trade.get("trade_id")
    return number if isinstance(number, int) else 0


FACTS = (
    Facts(
        exchange="lighter",
        trades=Trades(
            # https://apidocs.lighter.xyz/docs/websocket-reference#trade
            marks=Marks(
                {
                    "type": {
                        "trade": None,
                        "liquidation": "liquidation",
                        "deleverage": "adl",
                        "market-settlement": "settlement",
                    }
                }
            ),
        ),
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
        books=CcxtBooks(
            left_standing=True,
        ),
        corrections=Corrections(
            frame=_with_liquidations,
        ),
    ),
)
