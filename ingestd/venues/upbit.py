"""Upbit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestd.venues.corrections import Corrections, time_of
from ingestd.venues.facts import Ccxt, Facts
from ingestd.venues.numbers import as_int
from ingestd.venues.trades import NewestAnswer, NewestRequest, Trades, rows_by


def _trade_timestamp(row: Mapping[str, Any]) -> NewestAnswer | None:
    """Read the last trade's time, which is `trade_timestamp` in `ticker`."""
    at_ms = as_int(row.get("trade_timestamp"))
    return None if at_ms is None else NewestAnswer(("last time", at_ms), time=at_ms * 1000)


FACTS = Facts(
    exchange="upbit",
    trades=Trades(
        newest=NewestRequest(
            "publicGetTicker",
            lambda reply: rows_by("market", reply),
            _trade_timestamp,
            lambda _kind, ids: {"markets": ",".join(ids)},
        )
    ),
    example_market="BTC/KRW",
    ccxt=Ccxt(
        ticks_from_books=True,
        timeframes_not_streamed=frozenset({"1m", "3m", "5m", "10m", "15m", "30m", "1h", "4h", "1d", "1w", "1M", "1y"}),
    ),
    # On the socket, `trade_timestamp` is the time of the trade and `timestamp` that of the message. Over REST,
    # `timestamp` is the time of the trade.
    # https://docs.upbit.com/kr/reference/websocket-trade
    corrections=Corrections(trade=time_of("trade_timestamp")),
)
