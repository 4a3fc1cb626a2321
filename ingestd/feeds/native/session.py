"""The sockets of one native feed, and the assignment of streams to sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import structlog

from ingestd.config.models import FeedConfig
from ingestd.feeds.ccxt.newest import Newest
from ingestd.feeds.markets import symbols as symbol_names
from ingestd.feeds.markets.listing import Choice
from ingestd.feeds.native.connection import Connection
from ingestd.feeds.native.message_reader import MessageReader
from ingestd.feeds.native.rebuilding import Fetch, Rebuilding
from ingestd.feeds.recording.supervisor import supervise
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.pace import Pace
from ingestd.gaps.causes import UNLISTED
from ingestd.venues.venue import Asked, Venue

log = structlog.get_logger()

DIALS_AT_ONCE = 20  # on exchanges that count dials over minutes


class NativeSession:
    """Runs the sockets of a native feed. `follow` sets the symbols; call `run` once.

    `fetch_book(symbol, levels)` fetches the exchange's book over REST. `newest` checks silent streams over REST; if
    None, only their sockets are watched.
    """

    can_forget_books = True

    def __init__(
        self, config: FeedConfig, venue: Venue, reader: MessageReader, fetch_book: Fetch, newest: Newest | None = None
    ) -> None:
        self._config = config
        self._venue = venue
        self._reader = reader
        self._recorder = reader.recorder
        self._channels = [channel for channel in config.channels if channel in venue.channels]
        self._fetch_book = fetch_book
        self._newest = newest
        self._connections: dict[str, list[Connection]] = {}  # by URL
        self._places: dict[tuple[str, str], tuple[Connection, Asked]] = {}  # by channel and symbol
        self._unstarted: list[Connection] = []
        self._to_move: dict[tuple[str, str], None] = {}  # streams to move to another socket
        self._choice = asyncio.Event()
        self._paused = asyncio.Event()
        # A limit below one per second is counted over minutes, so a start may dial several sockets at once.
        per_s = venue.limits.sockets_per_s
        self._dials = Pace(per_s, burst=DIALS_AT_ONCE if per_s < 1 else 1)
        self.one_series = venue.book_over_rest

    @property
    def connected(self) -> bool:
        return any(connection.is_connected for connection in self._all_connections())

    def follow(self, choice: Choice) -> None:
        """Follow these symbols from now on. Streams of remaining symbols are not interrupted.

        The new streams are in the ledger when this returns: who looks at a feed sees all that it has chosen or nothing.
        """
        self._place(choice)
        self._choice.set()

    async def run(self, stop: Stop) -> None:
        label = self._config.label
        async with asyncio.TaskGroup() as tasks:
            has_books = "order_book" in self._channels
            supervision = supervise(self._recorder, self, self._newest, stop, has_books=has_books)
            tasks.create_task(supervision, name=f"{label} supervisor")
            tasks.create_task(self._resume_reading(stop), name=f"{label} reading")
            if has_books:
                fetch = self._fetch_book if self._venue.book_over_rest else None
                rebuilding = Rebuilding(self._reader, self, fetch, label=label)
                for number in range(rebuilding.workers):
                    tasks.create_task(rebuilding.run(stop), name=f"{label} rebuild {number}")
            while await stop.wait_for(self._choice):
                self._move()
                unstarted, self._unstarted = self._unstarted, []
                for connection in unstarted:
                    tasks.create_task(self._keep(connection, stop), name=f"{label} {connection.url}")

    def _all_connections(self) -> Iterable[Connection]:
        return chain(*self._connections.values())

    async def _keep(self, connection: Connection, stop: Stop) -> None:
        try:
            await connection.run(stop)
        finally:
            self._connections[connection.url].remove(connection)

    def _place(self, choice: Choice) -> None:
        """Assign new streams to sockets and remove streams of dropped symbols."""
        new = 0
        symbols, markets = choice.symbols, choice.markets
        gone = {symbol for _, symbol in self._places}.difference(symbols)
        for place in [place for place in self._places if place[1] in gone]:
            connection, asked = self._places.pop(place)
            connection.drop(asked)
        self._recorder.remove(gone)
        self._recorder.ledger.missing_since = choice.missing_since
        for symbol in symbols:
            market = markets[symbol]
            if symbol_names.kind_of(market) not in self._venue.markets:
                continue
            for channel in self._channels:
                if not symbol_names.serves(channel, market):
                    continue
                asked = Asked(channel, self._venue.market_id(market))
                if not self._is_new(symbol, asked):
                    continue
                new += 1
                connection = self._with_room(self._venue.address(market, channel))
                connection.add(asked, self._reader.add_stream(channel, symbol))
                self._places[channel, symbol] = connection, asked
        for stream in self._recorder.ledger.judge_listing(choice):
            self._ask_again(stream.channel, stream.symbol)
        log.info("following", feed=self._config.label, symbols=len(symbols), new_streams=new, gone=len(gone))

    def _move(self) -> None:
        """Move each stream that its socket does not deliver, though asked again, to another socket."""
        places, self._to_move = self._to_move, {}
        for place in places:
            if place in self._places:
                connection, asked = self._places[place]
                stream = connection.streams[asked]
                connection.drop(asked)
                connection = self._with_room(connection.url, but=connection)
                connection.add(asked, stream)
                self._places[place] = connection, asked

    def _is_new(self, symbol: str, asked: Asked) -> bool:
        """Whether to subscribe to the stream. If the symbol's market id has changed, unsubscribe from the old id."""
        place = self._places.get((asked.channel, symbol))
        if place is None or place[1] == asked:
            return place is None
        connection, before = place
        connection.drop(before)
        stream = self._recorder.ledger.streams[asked.channel][symbol]
        reason = f"the venue has another id for it: {asked.market_id}, which was {before.market_id}"
        self._recorder.interrupted([stream], UNLISTED, reason)
        return True

    def _with_room(self, url: str, *, but: Connection | None = None) -> Connection:
        """A connection that can take another stream, made if there is none."""
        connections = self._connections.setdefault(url, [])
        for connection in reversed(connections):
            if connection.room > 0 and connection is not but:
                return connection
        connection = Connection(
            url,
            config=self._config,
            venue=self._venue,
            reader=self._reader,
            dials=self._dials,
            must_pause=self._must_pause,
            on_asked=self._books_asked,
        )
        connections.append(connection)
        self._unstarted.append(connection)
        return connection

    def _books_asked(self, streams: Iterable[Stream]) -> None:
        for stream in streams:
            if stream.channel == "order_book" and self._reader.books.needs_snapshot(stream.symbol):
                self._reader.rebuilds.add(stream.symbol)

    def _ask_again(self, channel: str, symbol: str) -> None:
        if (channel, symbol) in self._places:
            connection, asked = self._places[channel, symbol]
            connection.ask_again(asked)

    def _must_pause(self) -> bool:
        """Whether reading must pause because the intake is full. `_resume_reading` ends the pause."""
        if self._recorder.intake.is_blocked:
            self._paused.set()
            return True
        return False

    async def _resume_reading(self, stop: Stop) -> None:
        """Resume reading the sockets once the intake has room."""
        while await stop.wait_for(self._paused):
            await stop.run(self._recorder.intake.writable(), name=f"{self._config.label} room")
            for connection in self._all_connections():
                connection.resume()

    # ---- `BookStreams` and `SupervisedSession`

    def ask_for_book_again(self, symbol: str) -> None:
        self._ask_again("order_book", symbol)

    def open_streams(self) -> Iterable[Stream]:
        return [connection.streams[asked] for connection, asked in self._places.values() if connection.is_connected]

    def resubscribe(self, stream: Stream, attempt: int) -> None:
        """Subscribe to the stream again: first on its own socket, from the second attempt on over another one."""
        if attempt > 1:
            self._to_move[stream.channel, stream.symbol] = None
            self._choice.set()
        else:
            self._ask_again(stream.channel, stream.symbol)

    def give_up_socket_of_book(self, symbol: str) -> None:
        place = self._places.get(("order_book", symbol))
        if place is not None:
            place[0].give_up(f"the venue sends no whole book of {symbol}")

    def book(self, symbol: str) -> Mapping[str, Any] | None:
        return self._reader.book(symbol)

    async def order_book(self, symbol: str, levels: int | None) -> Mapping[str, Any]:
        return await self._fetch_book(symbol, levels)

    async def forget_book(self, symbol: str) -> None:
        """Do nothing: the reader drops a broken book."""
