"""GRVT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues.book_frames import NumberedFrame
from ingestd.venues.facts import Ccxt, CcxtBooks, Corrections, Facts, Trades
from ingestd.venues.numbering import Numbering
from ingestd.venues.trade_kinds import Marks


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """The snapshot at the start of a subscription has the number 0, which is not in the series of the changes.

    https://api-docs.grvt.io/market_data_streams/#orderbook-delta
    """
    if isinstance(frame, dict) and frame.get("stream") == "v1.book.d" and "feed" in frame:
        is_whole = str(frame.get("sequence_number") or "0") == "0"
        market_id = str(frame.get("selector")).partition("@")[0]
        yield NumberedFrame(frame, market_id, {} if is_whole else frame, is_whole)


def _unsubscription(exchange: Any, market: Any, name: str) -> dict[str, Any] | None:
    """https://api-docs.grvt.io/market_data_streams/#orderbook-delta"""
    interval = exchange.handle_option("watchOrderBook", "interval", 500)
    if name != f"{market['id']}@{interval}":
        return None
    params = {"stream": "v1.book.d", "selectors": [name]}
    return {"jsonrpc": "2.0", "method": "unsubscribe", "params": params, "id": exchange.request_id()}


FACTS = (
    Facts(
        exchange="grvt",
        contracts_only=True,
        trades=Trades(
            # https://api-docs.grvt.io/market_data_streams/#trade
            marks=Marks(flags={"is_rpi": "rpi"}),
        ),
        ccxt=Ccxt(
            # ccxt names a subscription by market and interval only: at the default of 500 ms it mistakes books for
            # tickers
            options={"watchOrderBook": {"interval": 100}},
        ),
        books=CcxtBooks(
            numbering=Numbering((), ("sequence_number",), before=("prev_sequence_number",)),
            numbered_frames=_numbered_frames,
            unsubscription=_unsubscription,
            listed_in=("params", "selectors"),
        ),
        corrections=Corrections(
            # nanoseconds
            book_times=(("feed", "event_time"),),
        ),
    ),
)
