"""GRVT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.corrections import Corrections
from ingestd.venues.decoding import at
from ingestd.venues.facts import Ccxt, Facts
from ingestd.venues.trades import Marks, Trades


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """The snapshot at the start of a subscription has the number 0, which is not in the series of the changes.

    https://api-docs.grvt.io/market_data_streams/#orderbook-delta
    """
    if at(frame, "stream") == "v1.book.d" and "feed" in frame:
        is_whole = str(frame.get("sequence_number") or "0") == "0"
        market_id = str(frame.get("selector")).partition("@")[0]
        yield NumberedFrame(frame, market_id, {} if is_whole else frame, is_whole)


def _unsubscription(exchange: Any, market: Any, name: str) -> dict[str, Any] | None:
    """Make the request: https://api-docs.grvt.io/market_data_streams/#orderbook-delta"""
    interval = exchange.handle_option("watchOrderBook", "interval", 500)
    if name != f"{market['id']}@{interval}":
        return None
    params = {"stream": "v1.book.d", "selectors": [name]}
    return {"jsonrpc": "2.0", "method": "unsubscribe", "params": params, "id": exchange.request_id()}


FACTS = Facts(
    exchange="grvt",
    contracts_only=True,
    # https://api-docs.grvt.io/market_data_streams/#trade
    trades=Trades(marks=Marks(flags={"is_rpi": "rpi"})),
    # ccxt names a subscription by market and interval only: at the default of 500 ms it mistakes books for
    # tickers
    ccxt=Ccxt(options={"watchOrderBook": {"interval": 100}}),
    books=CcxtBooks(
        numbering=Numbering((), ("sequence_number",), before=("prev_sequence_number",)),
        numbered_frames=_numbered_frames,
        unsubscription=_unsubscription,
        streams_path=("params", "selectors"),
    ),
    corrections=Corrections(book_times=(("feed", "event_time"),)),  # nanoseconds
)
