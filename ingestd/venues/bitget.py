"""Bitget."""

from __future__ import annotations

from ingestd.venues.facts import Ccxt, Facts, Trades
from ingestd.venues.trade_kinds import Marks

FACTS = (
    Facts(
        exchange="bitget",
        trades=Trades(
            # https://www.bitget.com/api-doc/uta/websocket/public/New-Trades-Channel (yes or no)
            marks=Marks(flags={"isRPI": "rpi"}),
        ),
        ccxt=Ccxt(
            symbols_per_call=30,
            timeframes_not_streamed=frozenset({"2h", "3d", "1M"}),
        ),
    ),
)
