"""What filling a gap and filling a range on demand share: pages of a venue's past, and what of them is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, TypeAlias

from ingestd.feeds.trade_search import Known, Request
from ingestd.feeds.trade_series import Series
from ingestd.records import Candle, Funding, OpenInterest, Trade
from ingestd.storage import gap_filling
from ingestd.storage.database import Database
from ingestd.storage.gap_filling import StoredTrade

Row: TypeAlias = Candle | Funding | OpenInterest
Ask: TypeAlias = Callable[[], Awaitable[Sequence[Row]]]
Asked: TypeAlias = Callable[[Ask], Awaitable[Sequence[Row]]]

_MILLISECOND_US = 1000
_SAMPLE_US = 300_000_000  # between the venue's samples of open interest
_SETTLEMENT_US = 3_600_000_000  # no venue settles funding more often


class History(Protocol):
    """A venue's past; see `feeds.history`."""

    def require(self, channel: str, symbol: str) -> None: ...
    def series(self, symbol: str) -> Series: ...
    def timeframe_us(self, timeframe: str) -> int: ...
    async def trades(self, symbol: str, series: Series, request: Request) -> list[Trade]: ...
    async def id_at(self, symbol: str, series: Series, time_us: int) -> int | None: ...
    async def candles(self, symbol: str, timeframe: str, since_us: int) -> list[Candle]: ...
    async def funding(self, symbol: str, since_us: int) -> list[Funding]: ...
    async def open_interest(self, symbol: str, since_us: int) -> list[OpenInterest]: ...


def known(trade: StoredTrade) -> Known:
    """A stored trade as the search knows it."""
    return Known(trade.trade_id, trade.time, trade.price, trade.quantity)


async def stored_beside(db: Database, exchange: str, symbol: str, trades: Sequence[Trade]) -> dict[str, Known]:
    """The stored trades of the times that these span, by id."""
    if not trades:
        return {}
    times = [trade.time for trade in trades]
    rows = await gap_filling.stored_trades(db, exchange, symbol, min(times), max(times))
    return {trade_id: known(trade) for trade_id, trade in rows.items()}


async def missing_rows(db: Database, channel: str, rows: Sequence[Row]) -> list[Row]:
    """Those of one symbol's rows that are not stored."""
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
    """How far apart the rows of a channel are, in microseconds."""
    if channel == "candles":
        return history.timeframe_us(timeframe)
    return _SAMPLE_US if channel == "open_interest" else _SETTLEMENT_US


async def pages(
    history: History, channel: str, symbol: str, timeframe: str, start_us: int, end_us: int, asked: Asked | None = None
) -> AsyncIterator[list[Row]]:
    """The venue's rows of `[start_us, end_us)`, page by page, oldest first. `asked` may repeat a call that fails."""
    since_us = start_us
    while since_us < end_us:
        ask = partial(_page, history, channel, symbol, timeframe, since_us)
        rows = await (ask() if asked is None else asked(ask))
        wanted = [row for row in rows if start_us <= row.time < end_us]
        if wanted:
            yield wanted
        if not rows or rows[-1].time < since_us:
            return
        since_us = rows[-1].time + _MILLISECOND_US


async def _page(history: History, channel: str, symbol: str, timeframe: str, since_us: int) -> Sequence[Row]:
    if channel == "candles":
        return await history.candles(symbol, timeframe, since_us)
    if channel == "funding":
        return await history.funding(symbol, since_us)
    return await history.open_interest(symbol, since_us)
