"""Computes again what a mark says may have changed, and the values whose windows reach back to it, part by part."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from ingestd.config.indicators import IndicatorsConfig
from ingestd.indicators.series import Candles, closed
from ingestd.indicators.work import candles_of
from ingestd.storage import indicator_rows
from ingestd.storage.database import Database
from ingestd.storage.indicator_rows import LEVEL_OF, Mark

CANDLES_A_STEP = 500

Compute = Callable[..., Awaitable[object]]
"""Takes a connection, a series, candles, the place of the first value, and whether no candles lie before them."""


class Repair:
    """The work that a mark makes. `step` does a part of it."""

    def __init__(self, mark: Mark, config: IndicatorsConfig) -> None:
        self.mark = mark
        self._windows = {
            timeframe: max(indicator.window(config.seed_weight) for indicator in wanted)
            for timeframe in config.timeframes
            if (wanted := config.wanted(mark.exchange, mark.symbol, timeframe))
        }
        self._left = list(self._windows)
        self._since: datetime | None = None  # of the first timeframe left: the candle with which the next part begins
        self._beyond = 0  # of the same: candles after the mark's end that are done

    async def step(self, database: Database, now: datetime, compute: Compute) -> bool:
        """Compute the next part. True: all is done."""
        if not self._left:
            return True
        timeframe = self._left[0]
        window, level = self._windows[timeframe], LEVEL_OF[timeframe]
        since = self._since or level.start_of_bucket(self.mark.started_at)
        market = (self.mark.exchange, self.mark.symbol, timeframe)
        before = candles_of(await indicator_rows.newest_candles(database, *market, since, window))
        # The candle that opens at `since` is among the following ones too.
        overlap = 1 if before.times and before.times[-1] == since else 0
        following = candles_of(await indicator_rows.candles_since(database, *market, since, CANDLES_A_STEP + 1))
        is_whole, first = len(before.times) < window, len(before.times) - overlap
        candles = closed(_joined(before.until(first), following), now, level.next_bucket)
        # All but the last, which may count as closed only because nothing later was read.
        last = min(len(candles.times), first + CANDLES_A_STEP)
        part = candles.until(last)
        if first < last:
            await compute(database, market, part, first, is_whole=is_whole)
            self._beyond += sum(time > self.mark.ended_at for time in part.times[first:])
        if len(following.times) <= CANDLES_A_STEP or self._beyond >= window:
            self._left.pop(0)
            self._since, self._beyond = None, 0
        else:
            self._since = following.times[-1]
        return not self._left


def _joined(one: Candles, other: Candles) -> Candles:
    columns = ("times", "open", "high", "low", "close", "volume")
    return Candles(*([*getattr(one, column), *getattr(other, column)] for column in columns))
