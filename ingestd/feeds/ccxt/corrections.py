"""What the exchange library says of a trade or a book, or leaves out, against the venue's documents, which win. Pure.

What is corrected stands in the exchange's file in `venues`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.venues.all import facts_of
from ingestd.venues.facts import Trade
from ingestd.venues.venue_time import moment_us


def corrected(exchange: str, trade: Trade) -> Trade:
    """The library's dict of a trade, with what the venue's documents say of it."""
    correction = facts_of(exchange).corrections.trade
    if correction is None:
        return trade
    changes = correction(trade, trade.get("info"))
    return {**trade, **changes} if changes else trade


def book_time_us(exchange: str, frame: Any) -> int | None:
    """When the venue says that the book of this frame changed, in microseconds; None: the library's time will do.

    In the place of the frame stands the library's book, where it has put that together of one over REST.
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
    """When the best prices of the ticker in this message were so, in microseconds; None: the library's time will do."""
    field = facts_of(exchange).corrections.ticker_time
    return moment_us(info.get(field)) if field is not None and isinstance(info, Mapping) else None


def streamed_candle(exchange: str, row: Sequence[Any]) -> Sequence[Any]:
    """The library's row of a candle from the venue's socket, with the moment at which it opens in UTC."""
    ahead_ms = facts_of(exchange).corrections.ahead_of_utc_ms
    return [row[0] - ahead_ms, *row[1:]] if ahead_ms and row and row[0] else row
