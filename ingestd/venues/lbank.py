"""LBank."""

from __future__ import annotations

from typing import Any

from ingestd.venues import families
from ingestd.venues.corrections import Changes, Corrections, Trade
from ingestd.venues.decoding import at
from ingestd.venues.facts import Ccxt, Facts

_AHEAD_OF_UTC_MS = 8 * 3_600_000


def _corrected(trade: Trade, info: Any) -> Changes:
    """The socket's times are local times: see `_AHEAD_OF_UTC_MS`."""
    is_local = isinstance(at(info, "TS"), str) and trade.get("timestamp")
    return {"timestamp": trade["timestamp"] - _AHEAD_OF_UTC_MS} if is_local else {}


FACTS = Facts(
    exchange="lbank",
    families_by_request=(("contract", families.CONTRACTS), ("spot", families.SPOT)),
    ccxt=Ccxt(ticks_from_books=True, unserved={"swap": frozenset({"ticks", "trades", "order_book", "candles"})}),
    corrections=Corrections(
        trade=_corrected,
        book_times=(("TS",),),
        # The sockets send Shanghai time, which is not documented; REST times are since the epoch. https://www.lbank.com/en-US/docs/index.html#trade-record,
        # https://github.com/thrasher-corp/gocryptotrader/pull/2272
        ahead_of_utc_ms=_AHEAD_OF_UTC_MS,
    ),
)
