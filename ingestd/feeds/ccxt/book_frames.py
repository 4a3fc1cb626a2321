"""Recognises the frames that bring a whole book, for venues whose code in the exchange library treats them as changes.

For other venues that code calls `reset`, or makes a new book. For these it writes the levels of the whole book over the
old ones, so the old book must be dropped first. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class BookFrame(NamedTuple):
    """The market whose whole book a frame brings, in the venue's words. `market_type`: where its ids are not unique."""

    market_id: str
    market_type: str | None = None


Reader = Callable[[Any, Mapping[str, Any]], BookFrame | None]


def book_frame_reader(exchange: str) -> Reader | None:
    """The reader for an exchange; `exchange` is the name its code has in the exchange library."""
    return _READERS.get(exchange)


def is_best_prices(exchange: str, url: str, frame: Any) -> bool:
    """Whether a frame is of a book of one level, which its venue's code would write into the whole book."""
    if exchange == "bybit":
        return isinstance(frame, dict) and str(frame.get("topic")).startswith("orderbook.1.")
    return exchange == "gemini" and "top_of_book=true" in url


def _bitfinex(frame: Any, subscriptions: Mapping[str, Any]) -> BookFrame | None:
    """`[channel, [[price, count, amount], …]]`; a change is one such list alone."""
    if not isinstance(frame, list) or len(frame) < 2 or not isinstance(frame[1], list):
        return None
    rows, note = frame[1], subscriptions.get(str(frame[0]))
    if not isinstance(note, dict) or note.get("channel") != "book" or not all(isinstance(row, list) for row in rows):
        return None
    return BookFrame(str(note.get("symbol")))


def _bitget(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """https://www.bitget.com/api-doc/spot/websocket/public/Depth-Channel"""
    if not isinstance(frame, dict) or frame.get("action") != "snapshot":
        return None
    asked = _dict(frame.get("arg"))
    if (asked.get("channel") or asked.get("topic")) != "books":
        return None
    spot = str(asked.get("instType")).lower() in ("spot", "sp")
    return BookFrame(str(asked.get("instId") or asked.get("symbol")), "spot" if spot else "contract")


def _okx(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    if not isinstance(frame, dict) or frame.get("action") != "snapshot":
        return None
    asked = _dict(frame.get("arg"))
    return BookFrame(str(asked.get("instId"))) if str(asked.get("channel")).startswith("books") else None


def _deribit(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """https://docs.deribit.com/subscriptions/orderbook/bookinstrument_nameinterval"""
    if not isinstance(frame, dict):
        return None
    params = _dict(frame.get("params"))
    data = _dict(params.get("data"))
    if not str(params.get("channel")).startswith("book.") or data.get("type") != "snapshot":
        return None
    return BookFrame(str(data.get("instrument_name")))


def _dydx(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """https://docs.dydx.exchange/api_integration-indexer/indexer_websocket: `subscribed` brings the initial state."""
    if not isinstance(frame, dict) or (frame.get("channel"), frame.get("type")) != ("v4_orderbook", "subscribed"):
        return None
    return BookFrame(str(frame.get("id")))


def _gemini(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """The first message of a market: with its last trades (version 2), or of events whose reason is `initial`.

    https://docs.gemini.com/websocket/market-data/v2/level-2-data and
    https://docs.gemini.com/websocket-api/#multi-market-data
    """
    if not isinstance(frame, dict):
        return None
    if frame.get("type") == "l2_updates" and ("trades" in frame or "auction_events" in frame):
        return BookFrame(str(frame.get("symbol")).lower())
    events = frame.get("events")
    if frame.get("type") != "update" or not isinstance(events, list) or not events:
        return None
    first = _dict(events[0])
    if first.get("reason") != "initial":
        return None
    if len(events) == 2:
        events.append(first)  # ccxt takes two of them for a best bid and ask
    return BookFrame(str(first.get("symbol")).lower())


def _deepcoin(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    if not isinstance(frame, dict) or (frame.get("a"), frame.get("t")) != ("PMO", "f"):
        return None
    rows = frame.get("r")
    first = _dict(_dict(rows[0]).get("d")) if isinstance(rows, list) and rows else {}
    return BookFrame(str(first.get("I")))


def _coinone(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """Every message is a whole book."""
    is_book = (
        isinstance(frame, dict) and "ORDERBOOK" in str(frame.get("channel")) and isinstance(frame.get("data"), dict)
    )
    return BookFrame("") if is_book else None


def _kucoin(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """The channels of 5 and 50 levels: every message is a whole book."""
    topic = str(frame.get("topic")) if isinstance(frame, dict) else ""
    return BookFrame(topic.rpartition(":")[2]) if "Depth" in topic and frame.get("data") else None


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


_READERS: Mapping[str, Reader] = {
    "bitfinex": _bitfinex,
    "bitget": _bitget,
    "coinbaseinternational": _deribit,
    "coinone": _coinone,
    "deepcoin": _deepcoin,
    "deribit": _deribit,
    "dydx": _dydx,
    "gemini": _gemini,
    "kucoin": _kucoin,
    "okx": _okx,
}
