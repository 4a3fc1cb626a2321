"""Lighter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.corrections import Corrections
from ingestd.venues.decoding import at, part
from ingestd.venues.facts import Ccxt, Facts
from ingestd.venues.trades import Labels, Marks, Trades


def _with_liquidations(frame: Any) -> Sequence[Any]:
    """Add the trades of liquidations, which are in a separate list that ccxt ignores.

    https://apidocs.lighter.xyz/docs/websocket-reference#trade
    """
    others = at(frame, "liquidation_trades")
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
    kind = at(frame, "type")
    if kind in ("subscribed/order_book", "update/order_book"):
        market_id = str(frame.get("channel")).partition(":")[2]
        yield NumberedFrame(frame, market_id, part(frame, "order_book"), kind == "subscribed/order_book")


# https://apidocs.lighter.xyz/docs/websocket-reference#trade
_KINDS: Labels = {"trade": None, "liquidation": "liquidation", "deleverage": "adl", "market-settlement": "settlement"}

FACTS = Facts(
    exchange="lighter",
    trades=Trades(marks=Marks({"type": _KINDS})),
    ccxt=Ccxt(ticks_from_books=True),
    books=CcxtBooks(
        numbering=Numbering((), ("nonce",), before=("begin_nonce",)),
        numbered_frames=_numbered_frames,
        kept_when_broken=True,
    ),
    corrections=Corrections(frame=_with_liquidations),
)
