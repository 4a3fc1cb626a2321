"""WhiteBIT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.corrections import Corrections
from ingestd.venues.decoding import at
from ingestd.venues.facts import Ccxt, Facts
from ingestd.venues.trades import Marks, Trades


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """Find the numbers of a book in a frame. https://docs.whitebit.com/websocket/market-streams/depth

    A snapshot may lack its `update_id`.
    """
    params = at(frame, "params")
    if at(frame, "method") == "depth_update" and isinstance(at(params, 1), dict) and len(params) > 2:
        yield NumberedFrame(frame, str(params[2]), params[1], params[0] is True)


def _unsubscription(exchange: Any, market: Any, name: str) -> dict[str, Any] | None:
    """The request that ends a book's subscription. https://docs.whitebit.com/websocket/market-streams/depth"""
    if name != f"orderbook:{market['symbol']}":
        return None
    return {"id": exchange.nonce(), "method": "depth_unsubscribe", "params": [market["id"]]}


FACTS = Facts(
    exchange="whitebit",
    trades=Trades(
        # https://docs.whitebit.com/websocket/market-streams/trades
        marks=Marks(flags={"rpi": "rpi"}),
        # `time` on the socket has microseconds; `trade_timestamp` over REST has whole seconds
        two_times=True,
    ),
    ccxt=Ccxt(ticks_from_books=True),
    books=CcxtBooks(
        numbering=Numbering((), ("update_id",), before=("past_update_id",)),
        numbered_frames=_numbered_frames,
        unsubscription=_unsubscription,
    ),
    corrections=Corrections(book_times=(("params", 1, "timestamp"),)),  # seconds, with a fraction
)
