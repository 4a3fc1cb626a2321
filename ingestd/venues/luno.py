"""Luno."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from ingestd.venues.corrections import Changes, Corrections, Trade
from ingestd.venues.decoding import at
from ingestd.venues.facts import Ccxt, Facts


def _corrected(trade: Trade, info: Any) -> Changes:
    """Compute the price from the amounts of both currencies, because the socket sends no price, and take the time.

    `_with_time` has put the time into the trade.

    https://www.luno.com/en/developers/api#tag/Streaming-API-(beta)
    """
    base, counter = _positive(at(info, "base")), _positive(at(info, "counter"))
    if trade.get("price") is not None or base is None or counter is None:
        return {}
    return {"price": f"{(counter / base).normalize():f}", "timestamp": info.get("timestamp")}


def _with_time(frame: Any) -> Sequence[Any]:
    """Put the time of a message into each of its trades: ccxt ignores the time beside them.

    https://www.luno.com/en/developers/api#tag/Streaming-API-(beta)
    """
    trades = at(frame, "trade_updates")
    if not isinstance(trades, list):
        return (frame,)
    time = frame.get("timestamp")
    dated = [{"timestamp": time, **trade} if isinstance(trade, dict) else trade for trade in trades]
    return ({**frame, "trade_updates": dated},)


def _positive(text: Any) -> Decimal | None:
    try:
        number = Decimal(text) if isinstance(text, str) else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() and number > 0 else None


FACTS = Facts(
    exchange="luno",
    example_market="BTC/ZAR",
    ccxt=Ccxt(with_key_only=frozenset({"trades", "order_book"})),
    corrections=Corrections(trade=_corrected, frame=_with_time),
)
