"""Upbit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestd.venues.corrections import Corrections, time_of
from ingestd.venues.facts import Ccxt, Facts
from ingestd.venues.numbers import as_int
from ingestd.venues.trades import Bulk, Trades, Word, rows_by


def _trade_timestamp(row: Mapping[str, Any]) -> Word | None:
    """`trade_timestamp` of `ticker` is the time of the last trade."""
    at_ms = as_int(row.get("trade_timestamp"))
    return None if at_ms is None else Word(("last time", at_ms), time=at_ms * 1000)


FACTS = (
    Facts(
        exchange="upbit",
        trades=Trades(
            newest=Bulk(
                "publicGetTicker",
                lambda reply: rows_by("market", reply),
                _trade_timestamp,
                lambda _kind, ids: {"markets": ",".join(ids)},
            )
        ),
        first_market="BTC/KRW",
        ccxt=Ccxt(
            ticks_from_books=True,
            timeframes_not_streamed=frozenset(
                {"1m", "3m", "5m", "10m", "15m", "30m", "1h", "4h", "1d", "1w", "1M", "1y"}
            ),
        ),
        # On the socket `trade_timestamp` is the trade's time, `timestamp` the message's; over REST it is the trade's.
        # https://docs.upbit.com/kr/reference/websocket-trade
        corrections=Corrections(trade=time_of("trade_timestamp")),
    ),
)
