"""Backfill on demand: stores a time range of one stream's past in the database, page by page.

Runs beside a daemon, without its journal: a venue can be asked again, so pages need not be journaled. After each page's
rows the progress is stored (`ingest_positions`, source `backfill:…`), so another run continues where this one stopped,
on any machine. Storing a page twice has no effect.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TypeVar

import structlog

from ingestd.backfill import past
from ingestd.backfill.audit import MINUTE_US
from ingestd.backfill.venues import Venue
from ingestd.channels import TABLE_OF
from ingestd.clock import from_datetime, now_us, to_datetime
from ingestd.config.models import Config, FeedConfig
from ingestd.errors import ChannelError, ConfigError, FeedError, Problem, RateLimited, SymbolError, Unfillable
from ingestd.feeds.ccxt.history import CcxtHistory
from ingestd.feeds.past.id_runs import Window, merged
from ingestd.feeds.past.trade_search import Request, TradeSearch
from ingestd.records import MarketRecord, Record, Trade
from ingestd.retry import Backoff
from ingestd.storage import gap_filling, indicator_rows, rollups, symbols
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.migrate import check_schema
from ingestd.storage.retention import accepted_window
from ingestd.storage.writer import positions
from ingestd.storage.writer.positions import Move, Place
from ingestd.storage.writer.writer import Flush, prepare, write
from ingestd.validation import rejection, rejection_reason
from ingestd.venues.symbol_names import venue_symbol
from ingestd.venues.trades import Paging, Series

log = structlog.get_logger()

_CALL_S = 300.0  # refreshing the aggregates of a long window is slow
_ATTEMPTS = 6
_STALLED_AFTER_S = 30.0
_SETTLED_AFTER_US = 3_000_000
_NEAR_US = 600_000_000  # begin the pages at a stored trade if one is this near to the edge

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The requested range: exchange times `[start, end)`."""

    exchange: str
    symbol: str
    channel: str
    start: datetime
    end: datetime

    def source(self, feed: FeedConfig) -> str:
        """The source name under which the progress is kept, one for each possible request.

        It includes the options that choose one of a venue's series of trades.
        """
        what = self.channel
        if self.channel == "candles":
            what = f"candles:{feed.candle_timeframe}"
        elif self.channel == "trades" and feed.options:
            what = f"trades:{zlib.crc32(repr(sorted(feed.options.items())).encode()):08x}"
        times = f"{self.start:%Y%m%dT%H%M%S.%f}-{self.end:%Y%m%dT%H%M%S.%f}"
        return f"backfill:{self.exchange}:{self.symbol}:{what}:{times}"

    @property
    def window(self) -> Window:
        return Window(from_datetime(self.start), from_datetime(self.end))

    @property
    def span_us(self) -> int:
        return self.window.end_us - self.window.start_us


@dataclass(slots=True)
class Report:
    """The result of this run.

    `verdict` says what is proved about completeness; `missing` lists requested times not proved to be stored.
    `resumed`: continued an earlier run; `already_done`: an earlier run had finished. `rejected` rows are in
    rejected_records, except the `kept_out` ones, which the table silently did not store.
    """

    fetched: int = 0
    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    kept_out: int = 0
    resumed: bool = False
    already_done: bool = False
    verdict: str = ""
    missing: list[Window] = field(default_factory=list)

    @property
    def is_proved(self) -> bool:
        """Whether the whole requested range is proved to be stored."""
        return not self.missing and not self.rejected


Progress = Callable[[float, Report], None]  # the fraction done (0 to 1), and the counts so far


async def backfill(config: Config, feed: FeedConfig, wanted: Wanted, *, again: bool, progress: Progress) -> Report:
    """Fetch and store the range; return when all rows are stored and the candles are refreshed.

    `again` repeats a request that was finished before. Times that the venue does not serve are `missing` in the report.
    Raises ConfigError for a symbol that the venue does not have, FeedError when its markets cannot be loaded,
    ConnectionLost or DatabaseError; another run then continues where this one stopped.
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
        self._window = wanted.window
        self._progress = progress
        self._timeframe = venue.feed.candle_timeframe
        self._source = wanted.source(venue.feed)
        self._goes_back = False
        self._time_window = accepted_window(config)
        self._report = Report()
        self._place = Place(0, 0)
        self._touched: tuple[int, int] | None = None  # the first and the last time stored, in microseconds
        self._lost: list[Window] = []  # times of rows that the venue returned and the table lacks

    async def run(self, *, again: bool) -> Report:
        wanted, report = self._wanted, self._report
        source = self._source
        self._place = (await positions.claim(self._db, [source], stalled_after_s=_STALLED_AFTER_S))[source]
        if again and self._place.position >= wanted.span_us:
            await self._store([], 0)
        report.already_done = self._place.position >= wanted.span_us
        report.resumed = self._place.position > 0 and not report.already_done
        if report.already_done:
            report.verdict = "an earlier run has stored all of it"
            self._progress(1.0, report)
            return report
        if report.resumed:  # the candles may lack rows of the earlier run
            self._touch([self._window.start_us, self._window.end_us - 1])
        history = await self._ask_venue(self._venue.history)
        if (hint := history.unlisted(wanted.symbol)) is not None:
            raise ConfigError([Problem("--symbol", f"{wanted.exchange} does not list it", wanted.symbol, hint or None)])
        left_us = self._window.end_us + _SETTLED_AFTER_US - now_us()
        await asyncio.sleep(max(0.0, left_us / 1e6))  # what the venue says about the end of the range must be final
        try:
            history.require(wanted.channel, wanted.symbol)
            await self._know_name(history)
            await (self._trades(history) if wanted.channel == "trades" else self._rows(history))
        except FeedError as error:
            report.verdict = f"{past.NOT_PROVED}{error}"
            report.missing = [self._left()]
        self._say_what_was_lost()
        if wanted.channel == "trades" and self._touched is not None:
            first_us, last_us = self._touched
            first, last = to_datetime(first_us), to_datetime(last_us + 1)
            await rollups.refresh_window(self._db, first, last)
            await indicator_rows.mark(self._db, wanted.exchange, wanted.symbol, first, last)
        if report.is_proved:
            await self._store([], wanted.span_us)
            self._progress(1.0, report)
        return report

    async def _know_name(self, history: CcxtHistory) -> None:
        """In the style `venue` a market that no daemon has listed in this database gets its name here."""
        exchange, symbol = self._wanted.exchange, self._wanted.symbol
        self._db.names.known.hear(exchange, symbol, venue_symbol(exchange, symbol, history.market_id(symbol)))
        await symbols.keep_heard(self._db)

    def _left(self) -> Window:
        """The part of the range that neither this run nor earlier ones have proved."""
        start_us, end_us, proved_us = self._window.start_us, self._window.end_us, self._place.position
        return Window(start_us, end_us - proved_us) if self._goes_back else Window(start_us + proved_us, end_us)

    async def _trades(self, history: CcxtHistory) -> None:
        wanted = self._wanted
        series = history.series(wanted.symbol)
        search = await self._search(history, series)
        self._goes_back = search.goes_back
        while (request := search.next()) is not None:
            page = await self._ask_venue(lambda request=request: history.trades(wanted.symbol, series, request))  # type: ignore[misc]
            stored = await past.stored_beside(self._db, wanted.exchange, wanted.symbol, page)
            missing = search.accept(page, stored)
            oldest = search.begins_late(page)
            if oldest is not None and await self._is_first_of_all(history, oldest):
                search.begin_with_first()
            self._report.fetched += len(page)
            self._touch([trade.time for trade in page])
            await self._store(missing, self._covered_us(search))
        self._report.verdict = search.proof()
        self._report.missing = search.missing()

    async def _is_first_of_all(self, history: CcxtHistory, oldest: Trade) -> bool:
        """Whether the venue's own candles show no trade between the start of the range and this one."""
        minute_us = oldest.time // MINUTE_US * MINUTE_US
        since_us = self._window.start_us // MINUTE_US * MINUTE_US
        try:
            candles = await history.candles(self._wanted.symbol, "1m", since_us, with_running=True)
        except FeedError as error:
            log.info("no_candles_to_compare", symbol=self._wanted.symbol, error=str(error)[:300])
            return False
        first = next((candle for candle in candles if Decimal(candle.volume)), None)
        return first is not None and first.time == minute_us and Decimal(first.open) == Decimal(oldest.price)

    async def _search(self, history: CcxtHistory, series: Series) -> TradeSearch:
        """Begin the search at the stored progress, or at a stored trade nearby, which the first page must hold."""
        wanted, position_us = self._wanted, self._place.position
        start, end = self._window.start_us, self._window.end_us
        newest = await gap_filling.newest_trade_before(self._db, wanted.exchange, wanted.symbol, wanted.end)
        begin = partial(
            TradeSearch,
            series.paging,
            series.ids,
            needs_overlap=not series.is_known,
            newest_stored=None if newest is None else past.as_known(newest),
        )
        if series.paging is Paging.FROM_ID:
            window = Window(start + position_us, end)
            edge = await gap_filling.newest_trade_before(
                self._db, wanted.exchange, wanted.symbol, to_datetime(window.start_us)
            )
            if edge is not None and window.start_us - edge.time <= _NEAR_US:
                return begin(window, before=[past.as_known(edge)])
            first = await self._ask_venue(lambda: history.id_at(wanted.symbol, series, window))
            # Begin one trade earlier: its time proves that no trade of the window comes before `first`.
            return begin(window, start=None if first is None else Request(from_id=max(0, first - 1)))
        if series.paging is Paging.BEFORE_ID:
            # More trades with the time of the last one may be missing.
            window = Window(start, end if position_us == 0 else end - position_us + 1)
            until = to_datetime(end - position_us)
            edge = await gap_filling.oldest_trade_since(self._db, wanted.exchange, wanted.symbol, until)
            if edge is not None and edge.time - from_datetime(until) <= _NEAR_US:
                return begin(window, after=[past.as_known(edge)])
            return begin(window)
        return begin(Window(start + position_us if series.paging is Paging.FROM_TIME else start, end))

    def _covered_us(self, search: TradeSearch) -> int:
        """The length of the proved part, in microseconds, from the end where the pages begin."""
        covered = search.covered()
        if search.goes_back:
            return self._advanced_to(self._window.end_us - covered.start_us)
        return self._advanced_to(covered.end_us - self._window.start_us)

    def _advanced_to(self, reached_us: int) -> int:
        """The position to store. It never says finished: that is stored last, after the candles are refreshed."""
        return max(self._place.position, min(reached_us, self._wanted.span_us - 1))

    async def _rows(self, history: CcxtHistory) -> None:
        wanted = self._wanted
        start, end = self._window.start_us, self._window.end_us
        begin = start + self._place.position
        seen = past.coverage(wanted.channel, self._timeframe, history, begin, end)
        async for page in past.pages(
            history, wanted.channel, wanted.symbol, self._timeframe, begin, end, self._ask_venue
        ):
            seen.see([row.time for row in page])
            inside = [row for row in page if row.time >= begin]
            self._report.fetched += len(inside)
            missing = await past.missing_rows(self._db, wanted.channel, inside)
            await self._store(missing, self._advanced_to(seen.proved_until_us() - start))
        self._report.missing = seen.missing()
        self._report.verdict = past.row_proof(wanted.channel, self._timeframe, self._report.missing)

    async def _store(self, records: Sequence[MarketRecord], position: int) -> None:
        """Store a page, then the progress. After a kill in between, the page is requested again."""
        window = self._time_window(now_us())
        checked: list[Record] = []
        for record in records:
            reason = rejection_reason(record, window)
            checked.append(record if reason is None else rejection(record, TABLE_OF[type(record)], reason))
            if reason is not None:
                self._report.rejected += 1
                self._lost.append(Window(record.time, record.time + 1))
        if checked:
            await self._store_rows(checked)
        if self._lost:
            position = self._place.position  # do not advance, so that a later run asks again for rows not stored
        if position != self._place.position:
            await self._written(position, ())
            self._place = Place(position, self._place.epoch)
        self._progress(position / max(1, self._wanted.span_us), self._report)

    async def _store_rows(self, records: Sequence[Record]) -> None:
        """Write the rows before any progress is stored, and note those that the table did not store."""
        outcome = (await self._written(self._place.position, records)).outcome
        kept = [record for record in records if isinstance(record, MarketRecord)]
        lost = [bad.record.time for bad in outcome.bad if isinstance(bad.record, MarketRecord)]
        self._lost += [Window(time, time + 1) for time in lost]
        channel = self._wanted.channel
        if kept_out := outcome.missing.get(channel, 0):
            self._lost.append(Window(min(record.time for record in kept), max(record.time for record in kept) + 1))
        if outcome.bad or kept_out:
            lacks = len(outcome.bad) + kept_out
            log.error("rows_not_stored", rows=lacks, look_at="rejected_records, and the table's triggers and policies")
        self._report.stored += outcome.stored.get(channel, 0)
        self._report.duplicate += outcome.duplicate.get(channel, 0)
        self._report.rejected += len(outcome.bad) + kept_out
        self._report.kept_out += kept_out

    async def _written(self, position: int, records: Sequence[Record]) -> Flush:
        flush = prepare(
            [Move(self._source, self._place.position, position, self._place.epoch)], records, self._db.names
        )
        await write(self._db, flush)
        return flush

    def _say_what_was_lost(self) -> None:
        """Add rows that the venue returned and the table lacks to the report's missing times and verdict."""
        report = self._report
        if not self._lost:
            return
        report.missing = merged([*report.missing, *self._lost])
        aside = report.rejected - report.kept_out
        said = [past.put_aside(aside)] if aside else []
        if report.kept_out:
            said.append(f"the table did not take {report.kept_out} rows, and has none that is theirs: see its triggers")
        report.verdict = past.said_of_lost(report.verdict, said)

    def _touch(self, times: Sequence[int]) -> None:
        """Note which candles to refresh, also of rows stored before: a killed run may have left them stale."""
        inside = [time for time in times if self._window.holds(time)]
        if inside:
            first, last = self._touched or (inside[0], inside[0])
            self._touched = min(first, *inside), max(last, *inside)

    async def _ask_venue(self, ask: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Call the venue. Waits out the pauses it asks for; gives up after a few consecutive failures."""
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
