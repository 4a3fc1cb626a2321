"""The WebSocket of a tapped exchange: hands over each frame with its arrival time, and closes when ccxt would not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import ccxt
import structlog
from aiohttp import WSMsgType
from ccxt.async_support.base.ws.client import Client
from ccxt.async_support.base.ws.order_book import OrderBook

from ingestd.clock import now_us
from ingestd.feeds.ccxt.bounded_http import hang_up, reads_nothing
from ingestd.feeds.ccxt.ccxt_errors import translated
from ingestd.feeds.ccxt.records import book_time_us
from ingestd.feeds.ccxt.tap_state import Tap, started_for
from ingestd.feeds.ccxt.tapped_stores import BookStore
from ingestd.feeds.ccxt.unpacking import FrameTooLarge, unpacked
from ingestd.feeds.urls import mapped_url
from ingestd.feeds.wire_limits import MAX_MESSAGE_BYTES, message_holds_too_much
from ingestd.retry import cut, retry_after_s
from ingestd.venues.all import facts_of
from ingestd.venues.ccxt_books import BookFrame, NumberedFrame, NumberedFrames
from ingestd.venues.exact import decode_json
from ingestd.venues.times import BOOK_TIME, asks_for_microseconds

log = structlog.get_logger()

LONGEST_KEEP_ALIVE_MS = 180_000  # ping interval; exchanges with a longer one do not answer pings: keep theirs
_SHORTEST_KEEP_ALIVE_MS = 1_000  # lower limit for a ping interval that an exchange asks for
_FAREWELL_S = 1.0
_JSON_OPENS = ("{", "[")
_JSON_MARKS = "{}[]"  # do not occur in plain-text frames of exchanges: ping, pong, error texts
_SEARCHED_CHARS = 4096  # how much of an error frame is searched for symbols
_HELD_BACK_S = 0.001  # a shorter wait means that the intake had room
_MICROSECONDS = "?timeUnit=MICROSECOND"


class TappedClient(Client):  # type: ignore[misc]  # ccxt ships no types
    """One WebSocket. ccxt creates a `Client`; its class is changed to this one before it connects."""

    url: str
    on_message_callback: Callable[[Any, Any], None]
    _last_pong: int | None = None
    _retry_after_s: float | None = None

    def begin(self, exchange: Any, tap: Tap) -> None:
        """Initialise what a `Client` does not have."""
        self.exchange = exchange
        self.tap = tap
        self.facts = facts_of(exchange.id)
        make_names = self.facts.corrections.names
        self.names = None if make_names is None else make_names(lambda: exchange.markets or {})
        # order books that are not recorded: best-price feeds, and books of a closed socket
        self.aside = BookStore(lambda _symbol, _book: None, is_market=exchange.is_market)
        self.last_data_at = time.monotonic()  # of the last frame that contained data
        self.data_frames = 0
        self.is_down = False
        self.held_back = False  # not being read, because the intake is full
        self.tasks: set[asyncio.Task[Any]] = set()  # started by ccxt for this socket; cancelled when it closes

    @property
    def keepAlive(self) -> Any:  # ccxt's name
        """The ping interval, in milliseconds."""
        return self.__dict__.get("keepAlive")

    @keepAlive.setter
    def keepAlive(self, asked_ms: Any) -> None:
        # KuCoin sends the interval in a reply. A negative one would ping without pause, a missing one never.
        if isinstance(asked_ms, (int, float)) and not isinstance(asked_ms, bool) and asked_ms == asked_ms:
            self.__dict__["keepAlive"] = min(max(asked_ms, _SHORTEST_KEEP_ALIVE_MS), LONGEST_KEEP_ALIVE_MS)

    @property
    def last_retry_after(self) -> float | None:  # ccxt's name
        """How long to wait before the next dial, in seconds: Retry-After of a refused handshake."""
        return self._retry_after_s

    @last_retry_after.setter
    def last_retry_after(self, asked_s: float | None) -> None:
        self._retry_after_s = None if asked_s is None else cut(retry_after_s(str(asked_s), datetime.now(UTC)))

    @property
    def lastPong(self) -> int | None:  # ccxt's name: its ping loop and its exchanges use it
        """Time of the last pong, in milliseconds. While the socket is held back, pongs are not read: returns now."""
        return now_us() // 1000 if self.held_back else self._last_pong

    @lastPong.setter
    def lastPong(self, at_ms: int | None) -> None:
        self._last_pong = at_ms

    def handle_message(self, message: Any) -> None:
        """Handle one frame without raising: an exception would end ccxt's receive loop and leave the socket open."""
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            if message.type is WSMsgType.PING and reads_nothing(self.connection):
                hang_up(self.connection)
                self.give_up("the venue does not read what is sent to it")
            else:
                super().handle_message(message)
            return
        self.tap.begin_frame(self)
        try:
            if message.type is WSMsgType.BINARY and (self.gunzip or self.inflate):
                # ccxt would decompress without a size limit.
                self.last_message_at = now_us() // 1000
                data = unpacked(message.data, gzip=bool(self.gunzip), limit_bytes=MAX_MESSAGE_BYTES)
                self.handle_text_or_binary_message(data.decode())
            else:
                super().handle_message(message)
        except Exception as error:  # noqa: BLE001  # ccxt may raise anything; the next frame must still be read
            self._raised(error, message)
        finally:
            if self.tap.frame.had_data:
                self.last_data_at = time.monotonic()
                self.data_frames += 1
            self.tap.end_frame()

    def handle_text_or_binary_message(self, data: Any) -> None:
        if self.decompressBinary and isinstance(data, bytes):
            data = data.decode()
        if isinstance(data, str):
            if data.startswith(_JSON_OPENS):
                if message_holds_too_much(data):
                    raise FrameTooLarge("it holds more values than any that a venue has reason to send")
                data = decode_json(data)
            elif any(mark in data for mark in _JSON_MARKS):
                raise ValueError("neither JSON nor a word")  # ccxt would pass it to code that expects JSON
        correct = self.facts.corrections.frame
        for whole in (data,) if correct is None else correct(data):
            for frame in (whole,) if self.names is None else self.names.received(whole):
                self._take(frame)

    def _take(self, data: Any) -> None:
        same_message, books = self.facts.ccxt.same_message, self.exchange.book_facts
        if isinstance(data, dict) and data.get("type") in same_message:
            data["type"] = same_message[data["type"]]
        self.tap.frame.content = data
        if books.checksum_frame is not None and (of := books.checksum_frame(data, self.subscriptions)) is not None:
            self._judge_book(of, data)  # instead of ccxt's check, which drops a book whose checksum differs
            return
        if books.best_prices is not None and books.best_prices(self.url, data):
            self.tap.frame.aside = self.aside
        elif books.whole_book is not None and (of := books.whole_book(data, self.subscriptions)) is not None:
            self._drop_old_book(of)
        if books.numbered_frames is None or not self._take_numbered(books.numbered_frames, data):
            self.on_message_callback(self, data)

    def _take_numbered(self, read: NumberedFrames, data: Any) -> bool:
        """Pass on those book changes of a numbered frame that are next in sequence. False: the frame has no numbers."""
        is_one = False
        for found in read(data, self.url):
            is_one = True
            if found.is_whole or self.is_down or self.exchange.follows(self._symbol_of(found), found.numbers, self):
                self.tap.frame.content, self.tap.frame.numbered = found.frame, found
                self.on_message_callback(self, found.frame)
        return is_one

    def _symbol_of(self, found: BookFrame | NumberedFrame) -> Any:
        return self.exchange.safe_market(found.market_id, None, None, found.market_type)["symbol"]

    async def send(self, message: Any) -> Any:
        if self.names is not None:
            message = self.names.sent(message)
        return None if message is None else await super().send(message)

    def _judge_book(self, of: BookFrame, frame: Any) -> None:
        """Compare a book with a checksum that arrived in its own frame."""
        if self.is_down:
            return
        symbol = self._symbol_of(of)
        book = self.exchange.orderbooks.get(symbol)
        if book is not None and book.is_whole and self.exchange.checksums.contradict(symbol, book, frame):
            self.exchange.book_is_wrong(symbol)

    def _drop_old_book(self, of: BookFrame) -> None:
        """Drop the book of which a snapshot has arrived: ccxt would merge the snapshot into it."""
        self.tap.frame.is_whole_book = True
        if not self.is_down and of.market_id in (self.exchange.markets_by_id or {}):
            self.exchange.orderbooks.pop(self._symbol_of(of), None)

    async def receive(self) -> Any:
        """Wait until the intake has room, then receive the next message. The wait does not count as silence."""
        self.held_back, held_at = True, time.monotonic()
        try:
            await self.tap.writable()
        finally:
            self.held_back = False
        if (held_s := time.monotonic() - held_at) > _HELD_BACK_S:
            self.forgive(held_s)
        try:
            return await self.connection.receive()
        except Exception as error:
            # ccxt would only reject the waiting futures and leave the socket open and unread.
            self.on_error(ccxt.NetworkError(str(error)))
            raise

    def forgive(self, seconds: float) -> None:
        """Do not count this time as silence of the exchange: the socket was not being read."""
        self.last_data_at += seconds
        self._last_pong = now_us() // 1000

    def resolve(self, result: Any, message_hash: Any) -> Any:
        self.tap.frame.had_data = True
        if isinstance(result, OrderBook) and not self.is_down and self.tap.frame.aside is None:
            self._hand_over_book(result)
        return super().resolve(result, message_hash)

    def _hand_over_book(self, book: Any) -> None:
        tap, symbol = self.tap, book.get("symbol")
        if symbol is None:
            return
        if tap.frame.numbered is not None:
            self.exchange.note_frame(book, tap.frame.numbered)
        book[BOOK_TIME] = book_time_us(self.exchange.id, book if tap.frame.content is None else tap.frame.content)
        if not book.is_whole:
            tap.on_book_without_snapshot(symbol)
        elif self.exchange.checksums.contradict(symbol, book, tap.frame.content):
            self.exchange.book_is_wrong(symbol)
        else:
            tap.on_book(book, tap.received_at)

    def reject(self, result: Any, message_hash: Any = None) -> Any:
        """Report an error to the feed, and to the calls that wait for `message_hash`; other calls keep waiting."""
        by_task = self.tap.frame.url is None and started_for.get() is self and not isinstance(result, ccxt.InvalidNonce)
        if by_task and (books := self.exchange.books_named_in(message_hash)):
            self.exchange.books_not_loaded(books, result)
            return result
        is_refusal = isinstance(result, ccxt.BaseError) and not isinstance(result, ccxt.UnsubscribeError)
        brought_by_frame = self.tap.frame.url is not None and self.error is None and is_refusal
        if brought_by_frame and message_hash is None:
            self._refused(result)
            return result
        waited_for = message_hash is None or message_hash in self.futures
        if brought_by_frame:
            result.symbols_in_frame = self._named(message_hash)
        outcome = super().reject(result, message_hash)
        symbol = None
        if isinstance(result, ccxt.InvalidNonce) and isinstance(message_hash, str):
            symbol = self.tap.book_named_in(message_hash)
        if symbol is not None:
            self.exchange.book_is_wrong(symbol)
        if symbol is not None or isinstance(result, ccxt.ChecksumError):  # `orderbook_checksum_message` reported it
            self.rejections.pop(message_hash, None)  # else the next call for this book would fail with the same error
        elif brought_by_frame and not waited_for:
            self.rejections.pop(message_hash, None)  # keys that contain a request id would accumulate
            self.tap.on_refused(self.url, translated(result))
        elif not waited_for:
            self.tap.on_rejected(self.url)
        return outcome

    def reset(self, error: Any) -> None:
        """Close the socket. ccxt would leave it open and subscribed beside the next one."""
        asyncio.get_running_loop().call_soon(self.give_up, f"closed by the exchange library: {error}"[:300])

    def leave(self, reason: str) -> None:
        """Close the socket and ignore its remaining frames: another socket delivers the same streams."""
        self.on_message_callback = lambda _client, _message: None
        self.give_up(reason)

    def give_up(self, reason: str) -> None:
        """Close the socket unless it is closed already."""
        if not self.is_down:
            self.on_error(ccxt.NetworkError(reason))

    async def aiohttp_close(self) -> None:  # ccxt's name
        """Send the close frame, then disconnect without waiting for the exchange's answer."""
        connection = self.connection
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await super().aiohttp_close()
        except TimeoutError:
            log.info("hung_up", exchange=self.exchange.id, url=self.url)
        finally:
            if connection is not None:
                hang_up(connection)

    async def open(self, session: Any, backoff_delay: float = 0) -> None:
        async with self.tap.dials:
            await super().open(session, backoff_delay)

    def create_connection(self, session: Any) -> Any:
        # Redirect only the dial: the URL stays the client's key, and ccxt reads the market type from it.
        original, spot = self.url, self.facts.microsecond_url_prefix
        dialled = original if self.names is None else self.names.dialled(original)
        if spot is not None and original.startswith(spot) and asks_for_microseconds(self.exchange.options):
            dialled += _MICROSECONDS
        self.url = mapped_url(dialled, self.exchange.url_map)
        try:
            return super().create_connection(session)
        finally:
            self.url = original

    def _raised(self, error: Exception, message: Any) -> None:
        if isinstance(error, ccxt.InvalidNonce) or (self.is_down and isinstance(error, LookupError)):
            return  # a wrong book, which was reported already; or a change to a book that was dropped with the socket
        if isinstance(error, KeyError) and (symbol := self._missing_book(error)) is not None:
            self.tap.on_book_without_snapshot(symbol)
            return
        self.tap.on_bad_frame(self.url, error, str(message.data[:200])[:200])
        # NotSupported is a message that ccxt does not know, not an answer to a request.
        if isinstance(error, ccxt.BaseError) and not isinstance(error, ccxt.NotSupported):
            self._refused(error)

    def _missing_book(self, error: KeyError) -> str | None:
        """The symbol of a followed order book that ccxt looked up in vain; None if the KeyError has another cause."""
        symbol = error.args[0] if error.args else None
        if not isinstance(symbol, str) or symbol not in self.exchange.markets or symbol in self.exchange.orderbooks:
            return None
        return symbol if self.tap.follows_book(symbol) else None

    def _refused(self, error: ccxt.BaseError) -> None:
        if self.is_down:
            return
        error.symbols_in_frame = self._named()
        if isinstance(error, ccxt.InvalidNonce):
            for symbol in error.symbols_in_frame:
                self.exchange.book_is_wrong(symbol)
        else:
            self.tap.on_refused(self.url, translated(error))

    def _named(self, message_hash: Any = None) -> frozenset[str]:
        """The symbols named in the frame or in ccxt's message hash."""
        frame = self.tap.frame.content
        text = frame if isinstance(frame, str) else json.dumps(frame, default=str)
        return frozenset(self.exchange.names_in(f"{text[:_SEARCHED_CHARS]} {message_hash or ''}"))


def drop_client(client: Any, reason: str) -> None:
    """Close a socket: pending `watch_*` calls fail, and the next one dials again."""
    client.on_error(ccxt.RequestTimeout(reason))
