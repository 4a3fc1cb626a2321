"""Lighter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ingestd.venues.book_frames import NumberedFrame, part
from ingestd.venues.facts import Ccxt, CcxtBooks, Corrections, Facts, Trades
from ingestd.venues.numbering import Numbering
from ingestd.venues.trade_kinds import Marks


def _with_liquidations(frame: Any) -> Sequence[Any]:
    """Add the trades of liquidations, which are in a separate list that ccxt ignores.

    https://apidocs.lighter.xyz/docs/websocket-reference#trade
    """
    others = frame.get("liquidation_trades") if isinstance(frame, dict) else None
    if not isinstance(others, list) or not others:
        return (frame,)
    trades = frame.get("trades")
    both = [*trades, *others] if isinstance(trades, list) else others
    by_id = {trade.get("trade_id"): trade for trade in both if isinstance(trade, dict)}
    newest_first = sorted(by_id.values(), key=_number, reverse=True)  # ccxt expects this order
    return ({**frame, "trades": newest_first, "liquidation_trades": []},)


def _number(trade: Mapping[str, Any]) -> int:
    number = trade.get("trade_id")
    return number if isinstance(number, int) else 0


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """https://apidocs.lighter.xyz/docs/websocket-reference#order-book"""
    kind = frame.get("type") if isinstance(frame, dict) else None
    if kind in ("subscribed/order_book", "update/order_book"):
        market_id = str(frame.get("channel")).partition(":")[2]
        yield NumberedFrame(frame, market_id, part(frame, "order_book"), kind == "subscribed/order_book")


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
            numbering=Numbering((), ("nonce",), before=("begin_nonce",)),
            numbered_frames=_numbered_frames,
            left_standing=True,
        ),
        corrections=Corrections(
            frame=_with_liquidations,
        ),
    ),
)
