"""One stretch of one stream's past, asked for by a person: page by page into the database.

Beside a running daemon, and without its journal: what a venue was asked for once it can be asked for again, so nothing
is kept before it is stored. Each page's rows and how far the work has come are one transaction (`ingest_positions`,
source `backfill:…`), so it goes on where it stopped, on any machine, and storing a page twice stores nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from ingestd.backfill.past import History, missing_rows, pages, stored_beside
from ingestd.backfill.past import known as as_known
from ingestd.backfill.venues import Venue
from ingestd.backoff import Backoff
from ingestd.clock import from_datetime, now_us, to_datetime
from ingestd.config import Config, FeedConfig
from ingestd.errors import ChannelError, FeedError, SymbolError
from ingestd.feeds.base import RateLimited
from ingestd.feeds.trade_search import Paging, Request, TradeSearch, Unfillable, Window
from ingestd.feeds.trade_series import Series
from ingestd.records import TABLE_OF, MarketRecord, Record
from ingestd.sinks.timescale import positions
from ingestd.sinks.timescale.positions import Move, Place
from ingestd.sinks.timescale.writer import prepare, write
from ingestd.storage import gap_filling, rollups
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.migrate import check_schema
from ingestd.validation import accepted_window, flaw, rejection

log = structlog.get_logger()

_CALL_S = 300.0  # refreshing the aggregates of a long window takes a while
_ATTEMPTS = 6
_STALLED_AFTER_S = 30.0
_NEAR = timedelta(minutes=10)  # a stored trade this near the edge is where the pages begin

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to ask for: exchange times `[start, end)`."""

    exchange: str
    symbol: str
    channel: str
    start: datetime
    end: datetime

    @property
    def source(self) -> str:
        """Under which name its progress is kept."""
        times = f"{self.start:%Y%m%dT%H%M%S}-{self.end:%Y%m%dT%H%M%S}"
        return f"backfill:{self.exchange}:{self.symbol}:{self.channel}:{times}"

    @property
    def span_us(self) -> int:
        return from_datetime(self.end) - from_datetime(self.start)


@dataclass(slots=True)
class Report:
    """What was done in this run. `verdict` says what is proved about completeness, `resumed` that an earlier run had
    begun; `already_done`: there was nothing left to do."""

    fetched: int = 0
    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    resumed: bool = False
    already_done: bool = False
    verdict: str = ""


Progress = Callable[[float, Report], None]  # the share done (0 to 1), and the counts so far


async def backfill(config: Config, feed: FeedConfig, wanted: Wanted, *, again: bool, progress: Progress) -> Report:
    """Fetch and store; returns when all is stored and the candles are refreshed.

    `again` begins anew what was finished before. Raises Unfillable when the venue cannot serve it under the stream's
    ids, FeedError when it does not answer, ConnectionLost or DatabaseError: run it again, it goes on where it was.
    """
    database = await DatabaseAccess(config).connect(call_timeout_s=_CALL_S)
    venue = Venue(feed, config.backfill.rate_share)
    try:
        await check_schema(database)
        work = _Work(config, database, venue, wanted, progress)
        return await work.run(again=again)
    finally:
        await venue.close()
        await database.close()


class _Work:
    """One run of one command."""

    def __init__(self, config: Config, database: Database, venue: Venue, wanted: Wanted, progress: Progress) -> None:
        self._db = database
        self._venue = venue
        self._wanted = wanted
        self._progress = progress
        self._timeframe = venue.feed.candle_timeframe
        self._time_window = accepted_window(config)
        self._report = Report()
        self._place = Place(0, 0)
        self._touched: tuple[int, int] | None = None  # the first and the last time stored, in microseconds

    async def run(self, *, again: bool) -> Report:
        wanted, report = self._wanted, self._report
        source = wanted.source
        self._place = (await positions.claim(self._db, [source], stalled_after_s=_STALLED_AFTER_S))[source]
        if again and self._place.position >= wanted.span_us:
            await self._store([], 0)
        report.already_done = self._place.position >= wanted.span_us
        report.resumed = self._place.position > 0 and not report.already_done
        if report.already_done:
            report.verdict = "an earlier run has stored all of it"
            self._progress(1.0, report)
            return report
        if report.resumed:  # its rows may not have reached the candles
            self._touch(from_datetime(wanted.start), from_datetime(wanted.end) - 1)
        history = await self._asked(self._venue.history)
        history.require(wanted.channel, wanted.symbol)
        await (self._trades(history) if wanted.channel == "trades" else self._rows(history))
        await self._refresh()
        await self._store([], wanted.span_us)
        self._progress(1.0, report)
        return report

    async def _trades(self, history: History) -> None:
        series = history.series(self._wanted.symbol)
        search = await self._search(history, series)
        while (request := search.next()) is not None:
            page = await self._asked(lambda request=request: history.trades(self._wanted.symbol, series, request))  # type: ignore[misc]
            stored = await stored_beside(self._db, self._wanted.exchange, self._wanted.symbol, page)
            missing = search.accept(page, stored)
            self._report.fetched += len(page)
            await self._store(missing, self._covered_us(search))
        self._report.verdict = search.proof()

    async def _search(self, history: History, series: Series) -> TradeSearch:
        """From where the work stands: beside a stored trade where there is one near, which then proves the series."""
        wanted, position_us = self._wanted, self._place.position
        start, end = from_datetime(wanted.start), from_datetime(wanted.end)
        window = Window(start, end)
        needs_overlap = not series.is_known
        if series.paging is Paging.FROM_ID:
            begin = to_datetime(start + position_us)
            edge = await gap_filling.newest_trade_before(self._db, wanted.exchange, wanted.symbol, begin)
            if edge is not None and begin - to_datetime(edge.time) <= _NEAR:
                return TradeSearch(series.paging, series.ids, window, before=[as_known(edge)])
            first = await self._asked(lambda: history.id_at(wanted.symbol, series, start + position_us))
            if first is None:
                raise Unfillable(f"{wanted.exchange} does not say which trade was the first since {begin:%F %T} UTC")
            return TradeSearch(
                series.paging, series.ids, window, start=Request(from_id=first), needs_overlap=needs_overlap
            )
        if series.paging is Paging.BEFORE_ID:
            until = to_datetime(end - position_us)
            edge = await gap_filling.oldest_trade_since(self._db, wanted.exchange, wanted.symbol, until)
            if edge is not None and to_datetime(edge.time) - until <= _NEAR:
                return TradeSearch(series.paging, series.ids, window, after=[as_known(edge)])
        start_at = Request(since_us=start + position_us) if series.paging is Paging.FROM_TIME else Request()
        return TradeSearch(series.paging, series.ids, window, start=start_at, needs_overlap=needs_overlap)

    def _covered_us(self, search: TradeSearch) -> int:
        """How much of the span is done, from the end that the pages come from."""
        start, end = from_datetime(self._wanted.start), from_datetime(self._wanted.end)
        if search.goes_back:
            reached = end if search.first_time_us is None else max(start, min(end, search.first_time_us))
            covered = end - reached
        else:
            reached = start if search.last_time_us is None else max(start, min(end, search.last_time_us))
            covered = reached - start
        # Finished is said at the very end, when the candles hold it too.
        return max(self._place.position, min(covered, self._wanted.span_us - 1))

    async def _rows(self, history: History) -> None:
        wanted = self._wanted
        start, end = from_datetime(wanted.start), from_datetime(wanted.end)
        async for page in pages(
            history, wanted.channel, wanted.symbol, self._timeframe, start + self._place.position, end, self._asked
        ):
            self._report.fetched += len(page)
            missing = await missing_rows(self._db, wanted.channel, page)
            await self._store(missing, min(max(row.time for row in page) - start, wanted.span_us - 1))
        self._report.verdict = "not proved complete: it is what the venue had"

    async def _store(self, records: Sequence[MarketRecord], position: int) -> None:
        """A page and the progress it makes, in one transaction."""
        window = self._time_window(now_us())
        checked: list[Record] = []
        for record in records:
            reason = flaw(record, window)
            checked.append(record if reason is None else rejection(record, TABLE_OF[type(record)], reason))
            self._report.rejected += reason is not None
            if reason is None:
                self._touch(record.time, record.time)
        flush = prepare([Move(self._wanted.source, self._place.position, position, self._place.epoch)], checked)
        await write(self._db, flush)
        self._place = Place(position, self._place.epoch)
        self._report.stored += flush.outcome.stored.get(self._wanted.channel, 0)
        self._report.duplicate += flush.outcome.duplicate.get(self._wanted.channel, 0)
        self._progress(position / max(1, self._wanted.span_us), self._report)

    def _touch(self, first_us: int, last_us: int) -> None:
        first, last = self._touched or (first_us, last_us)
        self._touched = min(first, first_us), max(last, last_us)

    async def _refresh(self) -> None:
        if self._wanted.channel == "trades" and self._touched is not None:
            first, last = self._touched
            await rollups.refresh_window(self._db, to_datetime(first), to_datetime(last + 1))

    async def _asked(self, ask: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """The venue's answer. Waits as long as it asks for; gives up after a few failures in a row."""
        backoff = Backoff(base_s=1.0, cap_s=30.0)
        while True:
            await self._wait_out_the_pause()
            try:
                return await ask()
            except (Unfillable, SymbolError, ChannelError):
                raise
            except RateLimited as error:
                await self._venue.refused(self._db, error)
            except FeedError:
                if backoff.attempts + 1 >= _ATTEMPTS:
                    raise
                await asyncio.sleep(backoff.next_s())

    async def _wait_out_the_pause(self) -> None:
        while until_us := await gap_filling.paused_until_us(self._db, self._wanted.exchange):
            log.warning("venue_wants_a_pause", exchange=self._wanted.exchange, until=str(to_datetime(until_us)))
            await asyncio.sleep(min(60.0, max(0.1, (until_us - now_us()) / 1e6)))
