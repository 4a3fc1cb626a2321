"""WhiteBIT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues.book_frames import NumberedFrame
from ingestd.venues.facts import Ccxt, CcxtBooks, Corrections, Facts, Trades
from ingestd.venues.numbering import Numbering
from ingestd.venues.trade_kinds import Marks


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """The numbered frames. A snapshot may lack the number. https://docs.whitebit.com/websocket/market-streams/depth"""
    params = frame.get("params") if isinstance(frame, dict) and frame.get("method") == "depth_update" else None
    if isinstance(params, list) and len(params) > 2 and isinstance(params[1], dict):
        yield NumberedFrame(frame, str(params[2]), params[1], params[0] is True)


def _unsubscription(exchange: Any, market: Any, name: str) -> dict[str, Any] | None:
    """https://docs.whitebit.com/websocket/market-streams/depth"""
    if name != f"orderbook:{market['symbol']}":
        return None
    return {"id": exchange.nonce(), "method": "depth_unsubscribe", "params": [market["id"]]}


FACTS = (
    Facts(
        exchange="whitebit",
        trades=Trades(
            # https://docs.whitebit.com/websocket/market-streams/trades
            marks=Marks(flags={"rpi": "rpi"}),
            # socket, `time`: seconds and microseconds; REST, `trade_timestamp`: seconds
            two_times=True,
        ),
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
        books=CcxtBooks(
            numbering=Numbering((), ("update_id",), before=("past_update_id",)),
            numbered_frames=_numbered_frames,
            unsubscription=_unsubscription,
        ),
        corrections=Corrections(
            # seconds, with a fraction
            book_times=(("params", 1, "timestamp"),),
        ),
    ),
)
