"""From rows of candles to rows of values."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from ingestd.config.indicator_names import Indicator
from ingestd.indicators.series import Candles
from ingestd.storage.database import Row
from ingestd.storage.indicator_rows import Value

Series: TypeAlias = tuple[str, str, str]
"""Exchange, unified symbol, timeframe."""

_AT_ONCE = 100  # values, about a millisecond; then others have the event loop

_COLUMNS = ("bucket_start", "open", "high", "low", "close", "volume")


def candles_of(rows: Sequence[Row]) -> Candles:
    """The candles of these rows, which have the oldest first."""
    return Candles(*([row[column] for row in rows] for column in _COLUMNS))


async def values_at(indicator: Indicator, window: int, candles: Candles, places: range, timeframe: str) -> list[Value]:
    """The indicator's rows at these places. Lets others have the event loop now and then."""
    # Not at the top: a daemon without indicators needs no TA-Lib.
    from ingestd.indicators.compute import values

    names = indicator.names(timeframe)
    rows: list[Value] = []
    for began in range(places.start, places.stop, _AT_ONCE):
        part = range(began, min(began + _AT_ONCE, places.stop))
        for place, outputs in zip(part, values(indicator, window, candles, part), strict=True):
            known = min(place + 1, window)
            rows += [
                Value(candles.times[place], name, value, window, known)
                for name, value in zip(names, outputs, strict=True)
            ]
        await asyncio.sleep(0)
    return rows
