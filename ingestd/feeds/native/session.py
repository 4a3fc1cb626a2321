"""The sockets of one feed, what runs beside them, and which stream is on which."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Intake
from ingestd.feeds.books.audit import BookAuditor
from ingestd.feeds.ccxt.newest import Newest
from ingestd.feeds.markets import symbols as symbol_names
from ingestd.feeds.markets.listing import Choice
from ingestd.feeds.native.connection import Line
from ingestd.feeds.native.rebuilding import Fetch, Rebuilding
from ingestd.feeds.native.recorder import NativeRecorder
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.pace import Pace
from ingestd.feeds.streams.silence_watch import SilenceWatch
from ingestd.gaps.causes import UNLISTED
from ingestd.records import Channel
from ingestd.venues.venue import Asked, OwnMarketIds, Venue

log = structlog.get_logger()

DIALS_AT_ONCE = 20  # where the venue counts dials over minutes
_IDS_SETTLE_US = 1_000_000
_LOOK_S = 1.0


class NativeSession:
    """`follow` says which symbols; `run` once, until the stop.

    `fetch_book(symbol, levels)` is the venue's own book over REST, `newest` what it says there of silent streams
    (None: it cannot be asked, and their sockets alone are watched).
    """

    def __init__(
        self,
        config: FeedConfig,
        venue: Venue,
        recorder: NativeRecorder,
        intake: Intake,
        fetch_book: Fetch,
        newest: Newest | None = None,
    ) -> None:
        self._config = config
        self._venue = venue
        self._recorder = recorder
        self._intake = intake
        self._fetch_book = fetch_book
        self._newest = newest
        self._lines: dict[str, list[Line]] = {}
        self._places: dict[tuple[Channel, str], tuple[Line, Asked]] = {}
        self._wanted = Choice((), {})
        self._elsewhere: dict[tuple[Channel, str], None] = {}  # to be carried by another socket
        self._choice = asyncio.Event()
        self._paused = asyncio.Event()
        # A limit below one a second is counted over minutes: a start may dial several at once.
        per_s = venue.limits.sockets_per_s
        self._dials = Pace(per_s, burst=DIALS_AT_ONCE if per_s < 1 else 1)
        self._rebuilding = Rebuilding(
            recorder,
            fetch_book if venue.book_over_rest else None,
            ask_again=self._ask_for_book_again,
            give_up=self._give_up_socket_of_book,
            label=config.label,
        )
        recorder.attach(self._rebuilding.broken)

    @property
    def connected(self) -> bool:
        """Whether any socket is up."""
        return any(line.is_connected for lines in self._lines.values() for line in lines)

    def follow(self, choice: Choice) -> None:
        """These symbols from now on; what stays is not interrupted."""
        self._wanted = choice
        self._choice.set()

    async def run(self, stop: Stop) -> None:
        """Deliver until the stop."""
        label, config = self._config.label, self._config
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._settle_ids(stop), name=f"{label} ids")
            tasks.create_task(self._resume_reading(stop), name=f"{label} reading")
            if self._newest is not None:
                tasks.create_task(self._silence_watch(self._newest).run(stop), name=f"{label} silence")
            if "order_book" in self._own(config.channels):
                for number in range(self._rebuilding.workers):
                    tasks.create_task(self._rebuilding.run(stop), name=f"{label} rebuild {number}")
                if config.order_book_interval_ms:
                    tasks.create_task(self._sample_books(stop), name=f"{label} books")
                if config.book_audit_interval_s:
                    tasks.create_task(self._auditor().run(stop), name=f"{label} book audit")
            while not stop.is_set():
                await self._choice_or(stop)
                if not stop.is_set():
                    self._choice.clear()
                    for line in self._place(self._wanted):
                        tasks.create_task(self._keep(line, stop), name=f"{label} {line.url}")

    async def _choice_or(self, stop: Stop) -> None:
        while not stop.is_set() and not self._choice.is_set():
            await stop.sleep_or(self._choice, 3600.0)

    async def _keep(self, line: Line, stop: Stop) -> None:
        try:
            await line.run(stop)
        finally:
            self._lines[line.url].remove(line)

    def _own(self, channels: Iterable[Channel]) -> list[Channel]:
        return [channel for channel in channels if channel in self._venue.channels]

    def _place(self, choice: Choice) -> list[Line]:
        """Put what is new on sockets, take off what is gone; the sockets that are new themselves."""
        symbols, markets = choice.symbols, choice.markets
        gone = {symbol for _, symbol in self._places}.difference(symbols)
        for place in [place for place in self._places if place[1] in gone]:
            line, asked = self._places.pop(place)
            line.drop(asked)
        self._recorder.remove(gone)
        self._recorder.expect(choice)
        new_lines: list[Line] = []
        self._move(new_lines)
        new = 0
        for symbol in symbols:
            market = markets[symbol]
            if symbol_names.kind_of(market) not in self._venue.markets:
                continue
            for channel in self._own(self._config.channels):
                if not symbol_names.serves(channel, market):
                    continue
                asked = Asked(channel, self._market_id(market))
                if not self._is_new(symbol, asked):
                    continue
                new += 1
                line = self._with_room(self._venue.address(market, channel), new_lines)
                line.add(asked, self._recorder.add_stream(channel, symbol))
                self._places[channel, symbol] = line, asked
        for stream in self._recorder.judge_listing(choice):
            line, asked = self._places[stream.channel, stream.symbol]  # type: ignore[index]  # one of ours
            line.ask_again(asked)
        log.info("following", feed=self._config.label, symbols=len(symbols), new_streams=new, gone=len(gone))
        return new_lines

    def _move(self, new_lines: list[Line]) -> None:
        """Put those that a socket does not bring, however often it is asked, on another one."""
        places, self._elsewhere = self._elsewhere, {}
        for place in places:
            if place in self._places:
                line, asked = self._places[place]
                stream = line.streams[asked]
                line.drop(asked)
                line = self._with_room(line.url, new_lines, but=line)
                line.add(asked, stream)
                self._places[place] = line, asked

    def _is_new(self, symbol: str, asked: Asked) -> bool:
        """Whether it is to be asked for. What was asked for by another id is ended."""
        place = self._places.get((asked.channel, symbol))
        if place is None or place[1] == asked:
            return place is None
        line, before = place
        line.drop(before)
        stream = self._recorder.streams[asked.channel][symbol]
        reason = f"the venue has another id for it: {asked.market_id}, which was {before.market_id}"
        self._recorder.interrupted([stream], UNLISTED, reason)
        return True

    def _market_id(self, market: Mapping[str, Any]) -> str:
        venue = self._venue
        return venue.market_id(market) if isinstance(venue, OwnMarketIds) else str(market["id"])

    def _with_room(self, url: str, new_lines: list[Line], *, but: Line | None = None) -> Line:
        lines = self._lines.setdefault(url, [])
        for line in reversed(lines):
            if line.room > 0 and line is not but:
                return line
        line = Line(
            url,
            config=self._config,
            venue=self._venue,
            recorder=self._recorder,
            dials=self._dials,
            blocked=lambda: self._intake.is_blocked,
            on_paused=self._paused.set,
            on_asked=self._books_asked,
        )
        lines.append(line)
        new_lines.append(line)
        return line

    def _books_asked(self, streams: Iterable[Stream]) -> None:
        for stream in streams:
            if stream.channel == "order_book" and self._recorder.needs_snapshot(stream.symbol):
                self._rebuilding.begin(stream.symbol)

    def _ask_for_book_again(self, symbol: str) -> None:
        place = self._places.get(("order_book", symbol))
        if place is not None:
            line, asked = place
            line.ask_again(asked)

    def _silence_watch(self, newest: Newest) -> SilenceWatch:
        return SilenceWatch(
            newest,
            self._recorder,
            streams=self._speaking,
            ask_anew=self._ask_anew,
            blocked=lambda: self._intake.is_blocked,
            stale_after_s=self._config.stale_after_s,
            book_interval_s=self._config.order_book_interval_ms / 1000,
        )

    def _speaking(self) -> Iterable[Stream]:
        """The streams whose socket is up."""
        return [line.streams[asked] for line, asked in self._places.values() if line.is_connected]

    def _ask_anew(self, stream: Stream, attempt: int) -> None:
        """On its own socket first, then on another one."""
        place: tuple[Channel, str] = (stream.channel, stream.symbol)  # type: ignore[assignment]
        if attempt > 1:
            self._elsewhere[place] = None
            self._choice.set()
        elif place in self._places:
            line, asked = self._places[place]
            line.ask_again(asked)

    def _give_up_socket_of_book(self, symbol: str) -> None:
        place = self._places.get(("order_book", symbol))
        if place is not None:
            place[0].give_up(f"the venue sends no whole book of {symbol}")

    def _auditor(self) -> BookAuditor:
        async def forget(symbol: str) -> None:
            """A broken book is let go by whoever says that it is broken."""

        return BookAuditor(
            fetch=self._fetch_book,
            forget=forget,
            book=self._recorder.book,
            recorder=self._recorder,
            interval_s=self._config.book_audit_interval_s,
            one_series=self._venue.book_over_rest,
        )

    async def _sample_books(self, stop: Stop) -> None:
        interval_s = self._config.order_book_interval_ms / 1000
        due_s = monotonic_s() + interval_s
        while await stop.sleep(max(0.0, due_s - monotonic_s())):
            self._recorder.sample_books()
            due_s = max(due_s + interval_s, monotonic_s())

    async def _settle_ids(self, stop: Stop) -> None:
        while await stop.sleep(_LOOK_S):
            self._recorder.settle_ids(now_us() - _IDS_SETTLE_US)

    async def _resume_reading(self, stop: Stop) -> None:
        """Let the sockets be read again once the intake has room."""
        while not stop.is_set():
            await stop.sleep_or(self._paused, 3600.0)
            if self._paused.is_set():
                await stop.run(self._intake.writable(), name=f"{self._config.label} room")
                self._paused.clear()
                for line in [line for lines in self._lines.values() for line in lines]:
                    line.resume()
