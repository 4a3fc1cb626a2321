"""Corrects ccxt's dicts of trades, tickers, candles and books where they contradict the exchange's documentation. Pure.

The corrections are in the exchange's file in `venues`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.venues.all import facts_of
from ingestd.venues.facts import Trade
from ingestd.venues.venue_time import moment_us


def corrected(exchange: str, trade: Trade) -> Trade:
    """ccxt's dict of a trade with the exchange's corrections applied."""
    correction = facts_of(exchange).corrections.trade
    if correction is None:
        return trade
    changes = correction(trade, trade.get("info"))
    return {**trade, **changes} if changes else trade


def book_time_us(exchange: str, frame: Any) -> int | None:
    """When this frame's book changed according to the exchange, in microseconds; None: use ccxt's time.

    `frame` is ccxt's book where ccxt combined it from a REST snapshot.
    """
    corrections = facts_of(exchange).corrections
    for path in corrections.book_times:
        value = frame
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                break
        else:
            moment = moment_us(value)
            return None if moment is None else moment - corrections.ahead_of_utc_ms * 1000
    return None


def ticker_time_us(exchange: str, info: Any) -> int | None:
    """Time of the best prices in this ticker message, in microseconds; None: use ccxt's time."""
    field = facts_of(exchange).corrections.ticker_time
    return moment_us(info.get(field)) if field is not None and isinstance(info, Mapping) else None


def streamed_candle(exchange: str, row: Sequence[Any]) -> Sequence[Any]:
    """ccxt's row of a streamed candle, with its opening time converted to UTC."""
    ahead_ms = facts_of(exchange).corrections.ahead_of_utc_ms
    return [row[0] - ahead_ms, *row[1:]] if ahead_ms and row and row[0] else row
