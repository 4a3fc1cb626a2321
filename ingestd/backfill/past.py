"""Pages of a venue's past, and which of their rows are stored, for gaps and for backfill on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Protocol, TypeAlias

from ingestd.feeds.past.id_runs import Window
from ingestd.feeds.past.trade_search import Known, Request
from ingestd.records import Candle, Funding, OpenInterest, Trade
from ingestd.storage import gap_filling
from ingestd.storage.database import Database
from ingestd.storage.gap_filling import StoredTrade
from ingestd.venues.trades import Series

Row: TypeAlias = Candle | Funding | OpenInterest
Ask: TypeAlias = Callable[[], Awaitable[Sequence[Row]]]
AskVenue: TypeAlias = Callable[[Ask], Awaitable[Sequence[Row]]]

_MILLISECOND_US = 1000
_SAMPLE_US = 300_000_000  # interval of the venue's samples of open interest
_SETTLEMENT_US = 3_600_000_000  # no venue settles funding more often
_SETTLEMENT_LATE_US = 60_000_000  # a settlement's time may be milliseconds or seconds after the hour
_SETTLEMENTS_BEFORE_US = 86_400_000_000  # how far before a window to look for the settlement interval
_MONTH_US = 28 * 86_400_000_000
_STRETCHES_AT_MOST = 1000

_NOUNS = {"candles": "closed candle of {timeframe}", "funding": "settlement", "open_interest": "sample"}
_COMPLETE = {
    "candles": "every candle of {timeframe} that it should have is stored",
    "funding": "every settlement is stored; rates that were announced in between are not served afterwards",
    "open_interest": "every five-minute sample of the venue is stored; what lies between them is not served afterwards",
}
NOT_PROVED = "not proved complete: "


class Coverage:
    """Tracks which times of `[start_us, end_us)` have a row, at intervals of `step_us`; `missing` returns the others.

    `step_us` None: use the smallest interval between two rows, as for funding, which each market settles at its own
    interval (a longer interval inside the window shows as missing). Rows before the window count for the interval and
    for the window's start.
    """

    def __init__(self, start_us: int, end_us: int, step_us: int | None) -> None:
        self._window = Window(start_us, end_us)
        self._step_us = step_us
        self._times: list[int] = []  # only if `step_us` is None
        self._last_us: int | None = None
        self._missing: list[Window] = []

    def see(self, times: Sequence[int]) -> None:
        """Add the times of rows, oldest first, none older than the times added before."""
        if self._step_us is None:
            self._times.extend(times)
            return
        for at in times:
            for hole in self._hole_before(at, self._step_us):
                merged = len(self._missing) >= _STRETCHES_AT_MOST
                self._missing.append(Window(self._missing.pop().start_us, hole.end_us) if merged else hole)
            self._last_us = at if self._last_us is None else max(at, self._last_us)

    def proved_until_us(self) -> int:
        """The time up to which no row is missing so far; the window's start if not known yet."""
        if self._missing:
            return self._missing[0].start_us
        return self._window.start_us if self._last_us is None else self._last_us

    def missing(self) -> list[Window]:
        """The windows without a row, oldest first, once all rows were added."""
        start_us, end_us = self._window.start_us, self._window.end_us
        if start_us >= end_us:
            return []
        if self._step_us is None:
            times = sorted(set(self._times))
            distances = [after - before for before, after in pairwise(times) if after - before > _SETTLEMENT_LATE_US]
            judged = Coverage(start_us, end_us, min(distances, default=_SETTLEMENT_US) + _SETTLEMENT_LATE_US)
            judged.see(times)
            return judged.missing()
        if self._last_us is None:
            return [self._window]
        return [*self._missing, *self._hole_before(end_us, self._step_us)]

    def _hole_before(self, at: int, step_us: int) -> list[Window]:
        """The stretch without a row between the last one and `at`, as far as it is in the window, if there is one."""
        if self._last_us is None:
            begins = self._window.start_us if at - self._window.start_us >= step_us else at
        else:
            begins = self._last_us + step_us if at - self._last_us > step_us else at
        hole = Window(max(begins, self._window.start_us), min(at, self._window.end_us))
        return [hole] if hole.start_us < hole.end_us else []


class History(Protocol):
    """A venue's past; see `CcxtHistory`."""

    def require(self, channel: str, symbol: str) -> None: ...
    def series(self, symbol: str) -> Series: ...
    def timeframe_us(self, timeframe: str) -> int: ...
    async def trades(self, symbol: str, series: Series, request: Request) -> list[Trade]: ...
    async def candles(self, symbol: str, timeframe: str, since_us: int) -> list[Candle]: ...
    async def funding(self, symbol: str, since_us: int) -> list[Funding]: ...
    async def open_interest(self, symbol: str, since_us: int) -> list[OpenInterest]: ...


def as_known(trade: StoredTrade) -> Known:
    """A stored trade in the form that the search uses."""
    return Known(trade.trade_id, trade.time, trade.price, trade.quantity)


async def stored_beside(db: Database, exchange: str, symbol: str, trades: Sequence[Trade]) -> dict[str, Known]:
    """The stored trades of the same time span as these trades, by id."""
    if not trades:
        return {}
    times = [trade.time for trade in trades]
    rows = await gap_filling.stored_trades(db, exchange, symbol, min(times), max(times))
    return {trade_id: as_known(trade) for trade_id, trade in rows.items()}


async def missing_rows(db: Database, channel: str, rows: Sequence[Row]) -> list[Row]:
    """The rows, all of one symbol, that are not stored."""
    if not rows:
        return []
    first = rows[0]
    timeframe = first.timeframe if isinstance(first, Candle) else None
    times = [row.time for row in rows]
    stored = await gap_filling.stored_times(
        db, channel, first.exchange, first.symbol, min(times), max(times), timeframe
    )
    return [row for row in rows if row.time not in stored]


def step_us(channel: str, timeframe: str, history: History) -> int:
    """The smallest interval between rows of a channel, in microseconds."""
    if channel == "candles":
        return history.timeframe_us(timeframe)
    return _SAMPLE_US if channel == "open_interest" else _SETTLEMENT_US


def coverage(channel: str, timeframe: str, history: History, start_us: int, end_us: int) -> Coverage:
    """The Coverage of a window, to which every row of the window must be added."""
    if channel == "funding":
        return Coverage(start_us, end_us, None)
    step = step_us(channel, timeframe, history)
    return Coverage(start_us, end_us, step + step // 20 if step >= _MONTH_US else step)  # months vary in length


def row_proof(channel: str, timeframe: str, missing: Sequence[Window]) -> str:
    """The verdict about the completeness of rows, as a sentence."""
    if not missing:
        return f"complete: {_COMPLETE[channel].format(timeframe=timeframe)}"
    noun = _NOUNS[channel].format(timeframe=timeframe)
    more = f", and {len(missing) - 1} more such stretches" if len(missing) > 1 else ""
    return f"{NOT_PROVED}the venue has no {noun} for {missing[0]}{more}"


def said_of_lost(verdict: str, lost: Sequence[str]) -> str:
    """The verdict if the table lacks rows that the venue returned: not proved, even if `verdict` proves the venue's
    answer complete. `lost` says how many rows, and why."""
    lacks = [verdict.removeprefix(NOT_PROVED)] if verdict.startswith(NOT_PROVED) else []
    return NOT_PROVED + "; ".join([*lost, *lacks])


def put_aside(count: int) -> str:
    """A phrase for `count` rows that validation or the server refused."""
    return f"{count} rows were put aside in rejected_records"


async def pages(
    history: History,
    channel: str,
    symbol: str,
    timeframe: str,
    start_us: int,
    end_us: int,
    ask_venue: AskVenue | None = None,
) -> AsyncIterator[list[Row]]:
    """Yield the venue's rows up to `end_us`, page by page, oldest first. `ask_venue` may repeat a failed call.

    For funding there are rows from before `start_us` too, which show the settlement interval.
    """
    fetch_by_channel: dict[str, Callable[[int], Awaitable[Sequence[Row]]]] = {
        "candles": partial(history.candles, symbol, timeframe),
        "funding": partial(history.funding, symbol),
        "open_interest": partial(history.open_interest, symbol),
    }
    fetch = fetch_by_channel[channel]
    since_us = start_us - (_SETTLEMENTS_BEFORE_US if channel == "funding" else 0)
    while since_us < end_us:
        ask = partial(fetch, since_us)
        rows = await (ask() if ask_venue is None else ask_venue(ask))
        wanted = [row for row in rows if since_us <= row.time < end_us]
        if wanted:
            yield wanted
        if not rows or rows[-1].time < since_us:
            return
        since_us = rows[-1].time + _MILLISECOND_US
