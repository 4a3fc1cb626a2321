"""The task that keeps `indicators_cache` true: after each candle, after late trades, and after a backfill.

It has a connection of its own, so that it never delays a flush. What fails is tried again at the next turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import TypeAlias

from ingestd.clock import from_datetime, monotonic_s
from ingestd.config.models import Config
from ingestd.indicators.complaints import Complaints
from ingestd.indicators.repair import Repair
from ingestd.indicators.series import Candles, closed, fingerprints, first_changed, next_look, places_of
from ingestd.indicators.work import Series, candles_of, values_at
from ingestd.ops.metrics import Metrics
from ingestd.storage import indicator_rows
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.indicator_rows import LEVEL_OF, Value
from ingestd.storage.migrate import check_schema

Show: TypeAlias = Callable[[str, str, str, str, int], None]
"""Takes exchange, unified symbol, name, value and the candle's time in microseconds."""

Step: TypeAlias = Callable[[Database], Awaitable[bool]]
"""False: it was not due."""

_TURN_S = 1.0
_CHECKED_CANDLES = 60  # of each series, for late trades, each time that it is looked at
_MARKETS_EVERY_S = 300.0
_NO_MARKETS_S = 10.0  # before the first trades are stored
_MARKS_EVERY_S = 30.0
_SHOWN_EVERY_S = 120.0  # well within the five minutes that a key lives
_REPAIR_S = 5.0  # a turn's share for what a backfill changed


class Indicators:
    """Computes what `[indicators]` asks for, of the markets that `holds` accepts."""

    def __init__(
        self,
        config: Config,
        access: DatabaseAccess,
        holds: Callable[[str, str], bool],
        metrics: Metrics,
        show: Show,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        notes_changes: bool = False,
    ) -> None:
        """`show` is given the newest value of each indicator, and again while it is the newest. `notes_changes`: note
        what is stored as to be sent."""
        self._config = config.indicators
        self._access = access
        self._holds = holds
        self._show = show
        self._now = now
        self._database: Database | None = None
        self._markets: list[tuple[str, str]] = []
        self._known: dict[Series, dict[datetime, int]] = {}
        self._latest: dict[tuple[str, str, str], tuple[str, int]] = {}
        self._due: dict[str, datetime] = {}  # by timeframe
        self._due_s: dict[str, float] = {}
        self._repairs: deque[Repair] = deque()
        self._last_mark = 0
        self._complaints = Complaints(metrics)
        self._notes_changes = notes_changes

    async def run(self) -> None:
        """Run turns until cancelled."""
        try:
            while True:
                await self.turn()
                await asyncio.sleep(_TURN_S)
        finally:
            self.close()

    async def turn(self) -> None:
        """Do everything that is due, once. Never raises."""
        try:
            database = await self._connected()
        except Exception as error:  # noqa: BLE001 # as below
            self._complaints.failed("connect", error)
            self.close()
            return
        self._complaints.worked("connect")
        steps: dict[str, Step] = {"markets": self._find_markets}
        steps |= {name: partial(self._look_at, timeframe=name) for name in self._config.timeframes}
        steps |= {"marks": self._take_marks, "repair": self._repair}
        for name, step in steps.items():
            try:
                if await step(database):
                    self._complaints.worked(name)
            except Exception as error:  # noqa: BLE001 # capture goes on whatever this meets; it is counted
                self._complaints.failed(name, error)
                self._due_s.pop(name, None)
                if database.is_closed:
                    return
        self._show_again()

    @property
    def problem(self) -> str | None:
        """That it fails repeatedly, as a sentence; None if it works."""
        return self._complaints.problem

    async def _find_markets(self, database: Database) -> bool:
        if not self._is_due("markets", _MARKETS_EVERY_S):
            return False
        active = await indicator_rows.active_markets(database)
        self._markets = [market for market in active if self._holds(*market)]
        if not self._markets:
            self._due_s["markets"] = monotonic_s() + _NO_MARKETS_S
        kept = set(self._markets)
        self._known = {series: known for series, known in self._known.items() if series[:2] in kept}
        self._latest = {key: shown for key, shown in self._latest.items() if key[:2] in kept}
        return True

    async def _look_at(self, database: Database, timeframe: str) -> bool:
        """Compute the values of a timeframe's new and changed candles. False: it is not due."""
        now, level = self._now(), LEVEL_OF[timeframe]
        if now < self._due.get(timeframe, now):
            return False
        failure: Exception | None = None
        for exchange, symbol in self._markets:
            try:
                await self._series(database, (exchange, symbol, timeframe), now)
            except Exception as error:  # the other markets go on; it is raised below
                if database.is_closed:
                    raise
                failure = error
        start = level.start_of_bucket(now)
        self._due[timeframe] = next_look(now, start, level.next_bucket(start))
        if failure is not None:
            raise failure
        return True

    async def _series(self, database: Database, series: Series, now: datetime) -> None:
        wanted = self._config.wanted(*series)
        if not wanted:
            return
        window = max(indicator.window(self._config.seed_weight) for indicator in wanted)
        known = self._known.get(series)
        look_back = _CHECKED_CANDLES if known is not None else self._config.history_candles
        count = window + look_back  # one more than needed, for the candle that is not closed
        read = candles_of(await indicator_rows.newest_candles(database, *series, now, count))
        candles = closed(read, now, LEVEL_OF[series[2]].next_bucket)
        first = first_changed(candles, known or {}, look_back)
        if first is None:
            return
        for row in await self._compute(database, series, candles, first, is_whole=len(read.times) < count):
            if row.time == candles.times[-1]:
                if row.value is None:
                    self._complaints.warming_up(series, row)
                else:
                    self._show_newest((*series[:2], row.name), row.value, from_datetime(row.time))
        self._known[series] = fingerprints(candles, look_back)

    async def _compute(
        self, database: Database, series: Series, candles: Candles, first: int, *, is_whole: bool
    ) -> list[Value]:
        """Compute and store the values from the candle `first` on. Show those that replace shown ones."""
        rows: list[Value] = []
        for indicator in self._config.wanted(*series):
            window = indicator.window(self._config.seed_weight)
            places = places_of(candles, first, window, is_whole=is_whole)
            rows += await values_at(indicator, window, candles, places, series[2])
        await indicator_rows.store(database, *series, rows, notes_changes=self._notes_changes)
        for row in rows:
            key = (*series[:2], row.name)
            if key in self._latest and row.value is not None and self._latest[key][1] == from_datetime(row.time):
                self._show_newest(key, row.value, from_datetime(row.time))
        return rows

    def _show_newest(self, key: tuple[str, str, str], value: Decimal, time_us: int) -> None:
        shown = (format(value, "f"), time_us)
        if self._latest.get(key) != shown:
            self._latest[key] = shown
            self._show(*key, *shown)

    async def _take_marks(self, database: Database) -> bool:
        if not self._is_due("marks", _MARKS_EVERY_S):
            return False
        waiting = {repair.mark.id for repair in self._repairs}
        for mark in await indicator_rows.marks(database, self._last_mark):
            self._last_mark = max(self._last_mark, mark.id)
            if mark.id not in waiting and self._holds(mark.exchange, mark.symbol):
                self._repairs.append(Repair(mark, self._config))
        return True

    async def _repair(self, database: Database) -> bool:
        """Compute what backfills changed, a few seconds at most; the rest waits for the next turn."""
        started_s = monotonic_s()
        while self._repairs and monotonic_s() - started_s < _REPAIR_S:
            repair = self._repairs[0]
            self._repairs.rotate(-1)  # one that fails lets the others go on
            if not await repair.step(database, self._now(), self._compute):
                continue
            self._repairs.remove(repair)
            if repair.mark.settled:
                await indicator_rows.forget(database, repair.mark)
        return True

    def _show_again(self) -> None:
        """Show every newest value, now and then, so that its key lives on."""
        if self._is_due("show", _SHOWN_EVERY_S):
            for key, shown in self._latest.items():
                self._show(*key, *shown)

    def _is_due(self, what: str, every_s: float) -> bool:
        """Whether this is due; then it is due again after `every_s`."""
        is_due = monotonic_s() >= self._due_s.get(what, 0.0)
        if is_due:
            self._due_s[what] = monotonic_s() + every_s
        return is_due

    async def _connected(self) -> Database:
        if self._database is None or self._database.is_closed:
            self._database = await self._access.connect_bounded()
            await check_schema(self._database)
        return self._database

    def close(self) -> None:
        """Drop the connection; a statement that runs is rolled back."""
        if self._database is not None:
            self._database.terminate()
            self._database = None
