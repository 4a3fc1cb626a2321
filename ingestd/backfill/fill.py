"""Fills one gap: asks the venue, hands over missing records, waits until they are stored, and says what is proved."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

from ingestd.backfill import past
from ingestd.clock import from_datetime, monotonic_s
from ingestd.errors import Behind, NotYet, Unfillable
from ingestd.feeds.past.id_runs import Window, merged
from ingestd.feeds.past.trade_search import TradeSearch
from ingestd.gaps.causes import CANDLE_AUDIT
from ingestd.records import MarketRecord, Trade
from ingestd.storage import gap_filling, indicator_rows, rollups
from ingestd.storage.database import Database
from ingestd.storage.gap_filling import Gap

_STORED_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.2
_AFTER = timedelta(microseconds=1)

RecordT = TypeVar("RecordT", bound=MarketRecord)


class Intake(Protocol):
    """Takes recovered records."""

    def put_backfilled(self, record: MarketRecord) -> None: ...
    async def writable(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Filled:
    """The result for a gap: rows recovered (of trades, by earlier attempts too), and what is proved, as a sentence.

    `missing`: the times still missing; empty if the gap is filled. `may_come`: the venue may serve them later.
    """

    rows: int
    verdict: str
    missing: Sequence[Window] = ()
    may_come: bool = False


def together(parts: Sequence[Filled]) -> Filled:
    """Combine the results of one gap for several timeframes; incomplete ones come first in the verdict."""
    told = sorted(parts, key=lambda part: not part.missing)
    return Filled(
        sum(part.rows for part in parts),
        "; ".join(part.verdict for part in told),
        [window for part in parts for window in part.missing],
        may_come=all(part.may_come for part in parts if part.missing),
    )


class Filler:
    """Fills gaps of one daemon through its intake and journal, so that every sink gets the rows.

    `accepts` says whether validation accepts a record; a refused record is put aside and not waited for.
    """

    def __init__(self, db: Database, intake: Intake, accepts: Callable[[MarketRecord], bool]) -> None:
        self._db = db
        self._intake = intake
        self._accepts = accepts

    async def fill(self, gap: Gap, history: past.History, timeframe: str) -> Filled:
        """Fill the gap. Raises Unfillable, ChannelError or SymbolError if it can never be filled, NotYet or another
        FeedError if a retry may help."""
        history.require(gap.channel, gap.symbol)
        if gap.channel == "trades":
            return await self._fill_trades(gap, history)
        return await self._fill_rows(gap, history, timeframe)

    async def _fill_trades(self, gap: Gap, history: past.History) -> Filled:
        before = await gap_filling.trades_before(self._db, gap)
        if not before:
            raise Unfillable("no trade is stored from before the gap, so nothing says where it begins")
        after = await gap_filling.trades_after(self._db, gap)
        if not after:
            raise NotYet("the first trade after the gap is not stored yet")
        series = history.series(gap.symbol)
        times = [trade.time for trade in (*before, *after)]
        window = Window(min(times), max(times) + 1)
        search = TradeSearch(
            series.paging,
            series.ids,
            window,
            before=[past.as_known(trade) for trade in before],
            after=[past.as_known(trade) for trade in after],
        )
        refused: list[Trade] = []
        failure = None
        try:
            while (request := search.next()) is not None:
                page = await history.trades(gap.symbol, series, request)
                missing = search.accept(page, await past.stored_beside(self._db, gap.exchange, gap.symbol, page))
                refused += await self._hand_over(missing, partial(self._lacking, gap))
        except Unfillable as error:  # still count the rows stored so far, and refresh the candles
            failure = error
        recovered, first, last = await gap_filling.recovered_trades(self._db, gap, before, after)
        await self._refresh(gap, first, last)
        if failure is not None:
            verdict = f"unfillable: {failure}"
            return Filled(recovered, verdict, [window], may_come=isinstance(failure, Behind))
        if not refused:
            return Filled(recovered, search.proof(), search.missing())
        aside = [Window(trade.time, trade.time + 1) for trade in refused]
        verdict = past.said_of_lost(search.proof(), [past.put_aside(len(refused))])
        return Filled(recovered, verdict, merged([*search.missing(), *aside]))

    async def _refresh(self, gap: Gap, first: datetime | None, last: datetime | None) -> None:
        """Have what is made of trades made anew, from the first to the last of those that were recovered."""
        if gap.cause == CANDLE_AUDIT:  # all trades may be stored, and only the candle be stale
            await rollups.refresh_window(self._db, gap.started_at, gap.ended_at)
            await indicator_rows.mark(self._db, gap.exchange, gap.symbol, gap.started_at, gap.ended_at)
        if first is not None and last is not None:
            await rollups.refresh_window(self._db, first, last + _AFTER)
            await indicator_rows.mark(self._db, gap.exchange, gap.symbol, first, last)

    async def _lacking(self, gap: Gap, trades: Sequence[Trade]) -> list[Trade]:
        """The given trades that are not stored."""
        stored = await past.stored_beside(self._db, gap.exchange, gap.symbol, trades)
        return [trade for trade in trades if trade.trade_id not in stored]

    async def _fill_rows(self, gap: Gap, history: past.History, timeframe: str) -> Filled:
        """Fill candles, funding rates or open interest, which are identified by their times."""
        span_us = past.step_us(gap.channel, timeframe, history)
        start_us, end_us = from_datetime(gap.started_at) // span_us * span_us, from_datetime(gap.ended_at)
        # The stream delivers the candle that was running when the gap ended.
        due_us = end_us // span_us * span_us if gap.channel == "candles" else end_us
        seen = past.coverage(gap.channel, timeframe, history, start_us, due_us)
        total = 0
        times: set[int] = set()
        async for rows in past.pages(history, gap.channel, gap.symbol, timeframe, start_us, end_us):
            times.update(row.time for row in rows if self._accepts(row))  # rows put aside do not fill the gap
            lacking = await past.missing_rows(self._db, gap.channel, [row for row in rows if row.time >= start_us])
            total += len(lacking)
            await self._hand_over(lacking, partial(past.missing_rows, self._db, gap.channel))
        if gap.channel == "candles":  # the stream has stored some, which the venue need not return again
            times |= await gap_filling.stored_times(
                self._db, gap.channel, gap.exchange, gap.symbol, start_us, end_us, timeframe
            )
        seen.see(sorted(times))
        missing = seen.missing()
        return Filled(total, past.row_proof(gap.channel, timeframe, missing), missing, may_come=True)

    async def _hand_over(
        self, records: Sequence[RecordT], lacking: Callable[[Sequence[RecordT]], Awaitable[Sequence[RecordT]]]
    ) -> list[RecordT]:
        """Hand the records to the intake, wait until the sink has stored them, and return those that validation
        refuses. `lacking` says which are not stored. Raises NotYet if storing takes too long."""
        if not records:
            return []
        await self._intake.writable()
        awaited: list[RecordT] = []
        refused: list[RecordT] = []
        for record in records:
            self._intake.put_backfilled(record)
            (awaited if self._accepts(record) else refused).append(record)
        deadline_s = monotonic_s() + _STORED_WITHIN_S
        while await lacking(awaited):
            if monotonic_s() > deadline_s:
                raise NotYet("what was recovered is journaled, but the database does not take it")
            await asyncio.sleep(_LOOK_EVERY_S)
        return refused
