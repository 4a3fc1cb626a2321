"""The measurement `indicator`: values of `indicators_cache`, each time that they are computed anew.

Whoever stores a value notes in the same transaction that it is to be sent (`indicator_changes`); the note is deleted
after the points are stored. A point has the time of its candle's end, so a value that is computed again replaces
itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ingestd.clock import from_datetime
from ingestd.config.indicators import IndicatorsConfig
from ingestd.sinks.influx.lines import Unwritable, end_us
from ingestd.sinks.influx.points import REASON_PREFIX, Flush, Refusal, Told, flush_of, sent_symbol
from ingestd.sinks.influx.reports import Reading
from ingestd.storage import indicator_rows
from ingestd.storage.database import Row
from ingestd.storage.indicator_rows import Change
from ingestd.venues.market_names import Names


class IndicatorValues:
    """Reads the values that have changed, at most `count` at once, of the markets that `holds` accepts."""

    measurement = "indicator"

    def __init__(
        self, reading: Reading, config: IndicatorsConfig, holds: Callable[[str, str], bool], names: Names, *, count: int
    ) -> None:
        self._reading = reading
        self._config = config
        self._holds = holds
        self._names = names
        self._count = count
        self._done: list[Change] = []  # by the last `read`
        self._after: tuple[Change, tuple[datetime, str]] | None = None  # the last value sent of a change
        self._next: tuple[Change, tuple[datetime, str]] | None = None  # the same, by the last `read`

    async def read(self) -> Flush:
        """The points of the next changes. Raises MarketUnknown while a feed is still to bring its list of markets."""
        db = await self._reading.database()
        told: list[Told] = []
        refusals: list[Refusal] = []
        self._done, self._next = [], None
        room = self._count
        for change in await indicator_rows.changes(db):
            if not self._holds(change.exchange, change.symbol):
                continue
            after = self._after[1] if self._after is not None and self._after[0] == change else None
            rows = await indicator_rows.changed_values(db, change, self._names_of(change), after, room)
            for row in rows:
                try:
                    told.append(_told(change, row, sent_symbol(self._names, change.exchange, change.symbol)))
                except Unwritable as error:
                    refusal = _told(change, row, change.symbol)
                    refusals.append(Refusal(refusal, REASON_PREFIX + error.reason, str(error)))
            room -= len(rows)
            if room <= 0:
                self._next = change, (rows[-1]["time"], rows[-1]["name"])
                break
            self._done.append(change)
        flush = flush_of(told)
        flush.refusals += refusals
        return flush

    async def sent(self) -> None:
        """Delete the notes of what was sent, unless it has changed meanwhile."""
        if self._done:
            await indicator_rows.forget_changes(await self._reading.database(), self._done)
        self._done, self._after = [], self._next

    async def close(self) -> None:
        """Drop the connection to the database."""
        await self._reading.close()

    def _names_of(self, change: Change) -> list[str]:
        wanted = self._config.wanted(change.exchange, change.symbol, change.timeframe)
        return [name for indicator in wanted for name in indicator.names(change.timeframe)]


def _told(change: Change, row: Row, symbol: str) -> Told:
    tags = {"exchange": change.exchange, "symbol": symbol, "indicator_name": row["name"]}
    time_us = end_us(from_datetime(row["time"]), change.timeframe)
    return Told("indicator", tags, {"value": row["value"]}, {}, time_us * 1000)
