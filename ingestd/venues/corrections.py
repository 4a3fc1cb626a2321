"""Corrections that several exchanges share. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestd.venues.facts import Changes, Trade

_OTHER_SIDE = {"buy": "sell", "sell": "buy"}


def time_at(info: Any, field: str) -> Changes:
    """Take the trade's time from this field of the message, in milliseconds or microseconds since the epoch."""
    value = info.get(field) if isinstance(info, Mapping) else None
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value
    return {"timestamp": number} if isinstance(number, int) and number > 0 else {}


def other_side(makers: Any) -> Changes:
    """Set the taker side to the opposite of the maker's."""
    takers = _OTHER_SIDE.get(str(makers).lower())
    return {} if takers is None else {"side": takers}


def makers_side(_trade: Trade, info: Any) -> Changes:
    """Correct the side of Coinbase's trades: on both of its venues, `side` is the maker's.

    https://docs.cdp.coinbase.com/exchange/websocket-feed/channels#match ("the maker order side");
    https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/advanced-trade-asyncapi.json ("the maker's side of
    the trade").
    """
    return other_side(info.get("side")) if isinstance(info, Mapping) else {}
