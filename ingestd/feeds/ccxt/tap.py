"""The one file that imports ccxt. It runs any ccxt.pro exchange unmodified and taps everything that it receives.

A subclass created at run time replaces the stores (`trades`, `tickers`, `bidsasks`, `fundingRates`, `orderbooks`),
the number type, the JSON decoder and the socket client. ccxt's code for the exchange stays as it is.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import ccxt
import ccxt.pro
import structlog
from aiohttp import WSMsgType
from ccxt.async_support.base.ws.client import Client
from ccxt.async_support.base.ws.order_book import OrderBook

from ingestd.clock import now_us
from ingestd.config.secrets import redact
from ingestd.errors import BookBroken, ChannelError, FeedError, RateLimited, Refused, SymbolError
from ingestd.feeds.books.checksums import CHECKED_HERE, Checksums
from ingestd.feeds.ccxt.bounded_http import ReplyRefused, bounded_session, hang_up, reads_nothing
from ingestd.feeds.ccxt.channels import BOOKS_OVER_REST, BOOKS_UNSUBSCRIBED_HERE
from ingestd.feeds.ccxt.corrections import book_time_us
from ingestd.feeds.ccxt.market_names import MarketNames
from ingestd.feeds.ccxt.tap_state import STORES, Tap, started_for
from ingestd.feeds.ccxt.tapped_books import TappedBooks
from ingestd.feeds.ccxt.tapped_markets import TappedMarkets
from ingestd.feeds.ccxt.tapped_stores import BookStore, TappedStore
from ingestd.feeds.ccxt.unpacking import unpacked
from ingestd.feeds.ccxt.unreached import unreached
from ingestd.feeds.ccxt.venue_hosts import addresses, why_not_the_venues
from ingestd.feeds.markets.symbols import namesakes
from ingestd.feeds.stopping import cancelled
from ingestd.feeds.url_map import mapped_url
from ingestd.feeds.wire_limits import MAX_MESSAGE_BYTES
from ingestd.retry import cut, retry_after_s
from ingestd.venues.all import facts_of
from ingestd.venues.bitfinex import is_bitfinex_checksum
from ingestd.venues.book_frames import WholeBook
from ingestd.venues.exact import ExactFloat, ExactReaders, decode_json, multiplied
from ingestd.venues.names import VenueNames
from ingestd.venues.venue_time import BOOK_TIME, asks_for_microseconds

log = structlog.get_logger()

_KEEP_ALIVE_MS = 15_000  # ping interval; a missing pong is noticed after two intervals
_QUIET_KEEP_ALIVE_MS = 180_000  # exchanges with a longer interval do not answer pings: keep their interval
_FAREWELL_S = 1.0
_SHORTEST_KEEP_ALIVE_MS = 1_000  # lower limit for a ping interval that an exchange asks for
_RATE_LIMIT_STATUS = (418, 429)
_RATE_LIMITED = (ccxt.DDoSProtection, ccxt.RateLimitExceeded)
_JSON_OPENS = ("{", "[")
_JSON_MARKS = "{}[]"  # do not occur in plain-text frames of exchanges: ping, pong, error texts
_SEARCHED_CHARS = 4096  # how much of an error frame is searched for symbols
_HELD_BACK_S = 0.001  # a shorter wait means that the intake had room

_WITH_TIME_UNITS = ("wss://stream.binance.com", "wss://stream.binance.us")
_MICROSECONDS = "?timeUnit=MICROSECOND"
_NO_SERVERS = ("doc", "fees", "logo", "referral")  # keys of ccxt's `urls` that hold web pages, on any host

BASE_CONFIG: dict[str, Any] = {
    "enableRateLimit": True,
    "newUpdates": True,
    "timeout": 15_000,  # ms per REST call
    # A cache is tapped only once it is stored. A first frame with more trades than this would lose some.
    "options": {"tradesLimit": 10_000},
}

dialled_urls: ContextVar[dict[str, None] | None] = ContextVar("dialled_urls", default=None)
"""The URLs that the running subscription watches, the newest last."""

ask_anew: ContextVar[bool] = ContextVar("ask_anew", default=False)
"""Whether the running call subscribes again to streams that ccxt believes subscribed: the exchange may have refused
them."""


class TappedClient(Client):  # type: ignore[misc]  # ccxt ships no types
    """One WebSocket. ccxt creates a `Client`; its class is changed to this one before it connects."""

    url: str
    on_message_callback: Callable[[Any, Any], None]
    tap: Tap
    exchange: Any
    aside: BookStore  # order books that are not recorded: best-price feeds, and books of a closed socket
    names: VenueNames | None
    correct: Callable[[Any], Sequence[Any]] | None  # see `frame_correction`
    url_map: Mapping[str, str]
    same_message: Mapping[str, str]
    last_data_at: float  # monotonic seconds of the last frame that contained data
    data_frames: int
    is_down: bool
    tasks: set[asyncio.Task[Any]]  # started by ccxt for this socket; cancelled when it closes
    held_back: bool  # not being read, because the intake is full
    in_microseconds: bool  # whether to ask the exchange for times in microseconds
    _last_pong: int | None = None
    _retry_after_s: float | None = None

    @property
    def keepAlive(self) -> Any:  # ccxt's name
        """The ping interval, in milliseconds."""
        return self.__dict__.get("keepAlive")

    @keepAlive.setter
    def keepAlive(self, asked_ms: Any) -> None:
        # KuCoin sends the interval in a reply. A negative one would ping without pause, a missing one never.
        if isinstance(asked_ms, (int, float)) and not isinstance(asked_ms, bool) and asked_ms == asked_ms:
            self.__dict__["keepAlive"] = min(max(asked_ms, _SHORTEST_KEEP_ALIVE_MS), _QUIET_KEEP_ALIVE_MS)

    @property
    def last_retry_after(self) -> float | None:  # ccxt's name
        """How long to wait before the next dial, in seconds: Retry-After of a refused handshake."""
        return self._retry_after_s

    @last_retry_after.setter
    def last_retry_after(self, asked_s: float | None) -> None:
        self._retry_after_s = None if asked_s is None else cut(retry_after_s(str(asked_s), _now()))

    @property
    def lastPong(self) -> int | None:  # ccxt's name: its ping loop and its exchanges use it
        """Time of the last pong, in milliseconds. While the socket is held back, pongs are not read: returns now."""
        return _now_ms() if self.held_back else self._last_pong

    @lastPong.setter
    def lastPong(self, at_ms: int | None) -> None:
        self._last_pong = at_ms

    def handle_message(self, message: Any) -> None:
        """Handle one frame without raising: an exception would end ccxt's receive loop and leave the socket open."""
        tap = self.tap
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            if message.type is WSMsgType.PING and reads_nothing(self.connection):
                hang_up(self.connection)
                self.give_up("the venue does not read what is sent to it")
            else:
                super().handle_message(message)
            return
        tap.url, tap.frame_received_at, tap.frame_had_data = self.url, now_us(), False
        tap.client, tap.frame_is_late = self, self.is_down
        if self.is_down:
            tap.aside = self.aside  # a late frame must not change the books of the next socket
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
            if tap.frame_had_data:
                self.last_data_at = time.monotonic()
                self.data_frames += 1
            tap.url = tap.frame_received_at = tap.frame = tap.client = tap.aside = None
            tap.frame_is_late = tap.frame_is_whole_book = False
            tap.numbered = None

    def handle_text_or_binary_message(self, data: Any) -> None:
        if self.decompressBinary and isinstance(data, bytes):
            data = data.decode()
        if isinstance(data, str):
            if data[:1] in _JSON_OPENS and data:
                data = decode_json(data)
            elif any(mark in data for mark in _JSON_MARKS):
                raise ValueError("neither JSON nor a word")  # ccxt would pass it to code that expects JSON
        for whole in (data,) if self.correct is None else self.correct(data):
            for frame in (whole,) if self.names is None else self.names.received(whole):
                self._take(frame)

    def _take(self, data: Any) -> None:
        if isinstance(data, dict) and data.get("type") in self.same_message:
            data["type"] = self.same_message[data["type"]]
        self.tap.frame = data
        if self.exchange.code_name == "bitfinex" and is_bitfinex_checksum(data):
            self._judge_book(data)  # instead of ccxt's check, which drops a book whose checksum differs
            return
        if self.exchange.best_prices is not None and self.exchange.best_prices(self.url, data):
            self.tap.aside = self.aside
        elif self.exchange.book_frame is not None:
            self._look_for_whole_book(self.exchange.book_frame, data)
        if self.exchange.numbered_frames is None or not self._take_numbered(data):
            self.on_message_callback(self, data)

    def _take_numbered(self, data: Any) -> bool:
        """Pass on those book changes of a numbered frame that are next in sequence. False: the frame has no numbers."""
        is_one = False
        for found in self.exchange.numbered_frames(data, self.url):
            is_one = True
            market = self.exchange.safe_market(found.market_id, None, None, found.market_type)
            if found.is_whole or self.is_down or self.exchange.follows(market["symbol"], found.numbers, self):
                self.tap.frame, self.tap.numbered = found.frame, found
                self.on_message_callback(self, found.frame)
        return is_one

    async def send(self, message: Any) -> Any:
        if self.names is not None:
            message = self.names.sent(message)
        return None if message is None else await super().send(message)

    def _judge_book(self, frame: list[Any]) -> None:
        """Compare a book with a checksum that arrived in its own frame."""
        note = self.subscriptions.get(str(frame[0]))
        if self.is_down or not isinstance(note, dict):
            return
        symbol = self.exchange.safe_symbol(note.get("symbol"))
        book = self.exchange.orderbooks.get(symbol)
        if book is not None and book.is_whole and self.tap.checksums.contradict(symbol, book, frame):
            self.exchange.book_is_wrong(symbol)

    def _look_for_whole_book(self, read: WholeBook, frame: Any) -> None:
        """Drop the old book if the frame is a snapshot: ccxt would merge the snapshot into it."""
        found = read(frame, self.subscriptions)
        if found is None:
            return
        self.tap.frame_is_whole_book = True
        if not self.is_down and found.market_id in (self.exchange.markets_by_id or {}):
            market = self.exchange.safe_market(found.market_id, None, None, found.market_type)
            self.exchange.orderbooks.pop(market["symbol"], None)

    async def receive(self) -> Any:
        """Wait until the intake has room, then receive the next message. The wait does not count as silence."""
        self.held_back, held_at = True, time.monotonic()
        try:
            await self.tap.listener.writable()
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
        self._last_pong = _now_ms()

    def resolve(self, result: Any, message_hash: Any) -> Any:
        self.tap.frame_had_data = True
        if isinstance(result, OrderBook) and not self.is_down and self.tap.aside is None:
            self._hand_over_book(result)
        return super().resolve(result, message_hash)

    def _hand_over_book(self, book: Any) -> None:
        tap, symbol = self.tap, book.get("symbol")
        if symbol is None:
            return
        if tap.numbered is not None:
            self.exchange.note_frame(book, tap.numbered)
        book[BOOK_TIME] = book_time_us(tap.exchange, book if tap.frame is None else tap.frame)
        if not book.is_whole:
            tap.listener.on_book_without_snapshot(symbol)
        elif tap.checksums.contradict(symbol, book, tap.frame):
            self.exchange.book_is_wrong(symbol)
        else:
            tap.listener.on_book(book, tap.received_at)

    def reject(self, result: Any, message_hash: Any = None) -> Any:
        """Report an error to the feed, and to the calls that wait for `message_hash`; other calls keep waiting."""
        by_task = self.tap.url is None and started_for.get() is self and not isinstance(result, ccxt.InvalidNonce)
        if by_task and (books := self._books_named(message_hash)):
            self.exchange.books_not_loaded(books, result)
            return result
        brought_by_frame = self.tap.url is not None and self.error is None and _is_refusal(result)
        if brought_by_frame and message_hash is None:
            self._refused(result)
            return result
        waited_for = message_hash is None or message_hash in self.futures
        if brought_by_frame:
            result.symbols_in_frame = self._named(message_hash)
        outcome = super().reject(result, message_hash)
        symbol = None
        if isinstance(result, ccxt.InvalidNonce) and isinstance(message_hash, str):
            symbol = self.tap.listener.book_named_in(message_hash)
        if symbol is not None:
            self.exchange.book_is_wrong(symbol)
        if symbol is not None or isinstance(result, ccxt.ChecksumError):  # `orderbook_checksum_message` reported it
            self.rejections.pop(message_hash, None)  # else the next call for this book would fail with the same error
        elif brought_by_frame and not waited_for:
            self.rejections.pop(message_hash, None)  # keys that contain a request id would accumulate
            self.tap.listener.on_refused(self.url, translated(result))
        elif not waited_for:
            self.tap.listener.on_rejected(self.url)
        return outcome

    def _books_named(self, message_hash: Any) -> set[str]:
        named = self.exchange.names_in(str(message_hash))
        return {symbol for symbol in named if self.tap.listener.follows_book(symbol)}

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
        """Send the close frame, then disconnect. aiohttp would keep reading until the exchange answers it."""
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
        original = self.url
        theirs = original if self.names is None else self.names.dialled(original)
        asked = theirs + (_MICROSECONDS if self.in_microseconds and original.startswith(_WITH_TIME_UNITS) else "")
        self.url = mapped_url(asked, self.url_map)
        try:
            return super().create_connection(session)
        finally:
            self.url = original

    def _raised(self, error: Exception, message: Any) -> None:
        if isinstance(error, ccxt.InvalidNonce) or (self.is_down and isinstance(error, LookupError)):
            return  # a wrong book, which was reported already; or a change to a book that was dropped with the socket
        if isinstance(error, KeyError) and (symbol := self._missing_book(error)) is not None:
            self.tap.listener.on_book_without_snapshot(symbol)
            return
        self.tap.listener.on_bad_frame(self.url, error, str(message.data[:200])[:200])
        # NotSupported is a message that ccxt does not know, not an answer to a request.
        if isinstance(error, ccxt.BaseError) and not isinstance(error, ccxt.NotSupported):
            self._refused(error)

    def _missing_book(self, error: KeyError) -> str | None:
        """The symbol of a followed order book that ccxt looked up in vain; None if the KeyError has another cause."""
        symbol = error.args[0] if error.args else None
        if not isinstance(symbol, str) or symbol not in self.exchange.markets or symbol in self.exchange.orderbooks:
            return None
        return symbol if self.tap.listener.follows_book(symbol) else None

    def _refused(self, error: ccxt.BaseError) -> None:
        if self.is_down:
            return
        error.symbols_in_frame = self._named()
        if isinstance(error, ccxt.InvalidNonce):
            for symbol in error.symbols_in_frame:
                self.exchange.book_is_wrong(symbol)
        else:
            self.tap.listener.on_refused(self.url, translated(error))

    def _named(self, message_hash: Any = None) -> frozenset[str]:
        """The symbols named in the frame or in ccxt's message hash."""
        frame = self.tap.frame
        text = frame if isinstance(frame, str) else json.dumps(frame, default=str)
        return frozenset(self.exchange.names_in(f"{text[:_SEARCHED_CHARS]} {message_hash or ''}"))


class _TappedExchange(TappedMarkets, TappedBooks, ExactReaders):
    """Mixin for a ccxt.pro exchange class. Stores that ccxt replaces as a whole are properties that keep the tap."""

    id: str
    options: dict[str, Any]
    markets: Any
    throttler: Any
    closed_by_user: bool
    urls: Mapping[str, Any]
    clients: dict[str, Any] | None
    session: Any
    tcp_connector: Any
    aiohttp_trust_env: bool
    number = ExactFloat
    _bounded: Any = None  # the session that limits the size of replies

    def __init__(self, tap: Tap, url_map: Mapping[str, str], config: dict[str, Any]) -> None:
        self._tap = tap
        self._url_map = url_map
        # Markets that share a symbol with another market; they are left out of `markets`.
        self.namesakes: dict[str, list[Mapping[str, Any]]] = {}
        self.followed: Mapping[str, Mapping[str, Any]] = {}  # stay in `markets` even if the exchange stops listing them
        self.lacking: frozenset[str] = frozenset()  # followed, but missing from the newest list
        self.listed: frozenset[str] = frozenset()
        self.code_name = _code_name(self)
        books = facts_of(self.code_name).books
        self.book_frame, self.best_prices = books.whole_book, books.best_prices
        self.background: set[asyncio.Task[Any]] = set()  # started by ccxt and never awaited
        self._market_names = MarketNames({})
        self.begin_markets()
        super().__init__(config)

    @staticmethod
    def translated(error: BaseException) -> FeedError:
        return translated(error)

    def set_markets(self, markets: Any, currencies: Any = None) -> Any:
        listed = self.sound_markets(self.to_array(markets), self.followed)  # type: ignore[attr-defined]
        if not listed and self.markets:
            raise ccxt.ExchangeNotAvailable(f"{self.id} lists no market at all")
        self.namesakes = namesakes(listed)
        unique = [market for market in listed if market["symbol"] not in self.namesakes]
        self.listed = frozenset(market["symbol"] for market in unique)
        kept = [market for symbol, market in self.followed.items() if symbol not in self.listed]
        self.lacking = frozenset(market["symbol"] for market in kept)
        return super().set_markets([*unique, *kept], currencies)  # type: ignore[misc]

    def client(self, url: str) -> Any:
        if url not in (self.clients or {}):  # checked before the dial, so that ccxt asks for another server
            why_not = why_not_the_venues(url, mapped_url(url, self._url_map), self.own_addresses(), self._url_map)
            if why_not is not None:
                raise ccxt.NetworkError(f"{self.id}: {why_not}")
        client = super().client(url)  # type: ignore[misc]
        if not isinstance(client, TappedClient):
            facts = facts_of(self.id)
            client.__class__ = TappedClient
            client.tap = self._tap
            client.exchange = self
            client.aside = BookStore(_ignore_update, is_market=self._tap.is_market)
            client.url_map = self._url_map
            client.names = facts.socket_names(lambda: self.markets or {})
            client.correct = facts.corrections.frame
            client.same_message = facts.ccxt.same_message
            client.last_data_at = time.monotonic()
            client.data_frames = 0
            client.is_down = client.held_back = False
            client.tasks = set()
            client.in_microseconds = facts.microseconds and asks_for_microseconds(self.options)
            client.throttle.looper = self._in_background(client.throttle.looper)
        return client

    def init_throttler(self, cost: Any = None) -> None:
        super().init_throttler(cost)  # type: ignore[misc]
        self.throttler.looper = self._in_background(self.throttler.looper)

    def spawn(self, method: Any, *args: Any) -> Any:
        if self.closed_by_user:  # a delayed call that runs after the close
            never = asyncio.get_running_loop().create_future()
            never.cancel()
            return never
        return super().spawn(self._in_background(method), *args)

    def _in_background(self, method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        """Wrap a coroutine function so that `close_exchange`, and the socket passed to it, can cancel its tasks."""

        async def tracked(*args: Any) -> Any:
            task = asyncio.current_task()
            assert task is not None
            client = args[0] if args and isinstance(args[0], TappedClient) else None
            known = (self.background,) if client is None else (self.background, client.tasks)
            started_for.set(client)
            for tasks in known:
                tasks.add(task)
            try:
                return await method(*args)
            except Exception as error:  # ccxt may raise anything
                if client is None:
                    raise  # the caller awaits it
                self._task_failed(method.__name__, args[1:], error)
                return None
            finally:
                for tasks in known:
                    tasks.discard(task)

        return tracked

    def _task_failed(self, name: str, about: Sequence[Any], error: Exception) -> None:
        """Report a failed task that nobody awaits. Books that it was loading are requested again."""
        symbols: set[str] = set()
        for said in about if "order_book" in name else ():
            symbols = symbols or {s for s in self.names_in(str(said)) if self._tap.listener.follows_book(s)}
        if symbols:
            self.books_not_loaded(symbols, error)
        else:
            log.info("task_failed", exchange=self.id, task=name, error=repr(error)[:300])

    def names_in(self, text: str) -> frozenset[str]:
        if not self._market_names.are_of(self.markets or {}):
            self._market_names = MarketNames(self.markets)
        return self._market_names.named_in(text)

    def watch(
        self, url: str, message_hash: Any, message: Any = None, subscribe_hash: Any = None, subscription: Any = None
    ) -> Any:
        _note_dialled(url)
        if ask_anew.get():
            self.client(url).subscriptions.pop(subscribe_hash, None)
        return super().watch(url, message_hash, message, subscribe_hash, subscription)  # type: ignore[misc]

    def watch_multiple(
        self,
        url: str,
        message_hashes: Any,
        message: Any = None,
        subscribe_hashes: Any = None,
        subscription: Any = None,
    ) -> Any:
        _note_dialled(url)
        if subscribe_hashes:
            held = self.client(url).subscriptions
            for name in subscribe_hashes if ask_anew.get() else ():
                held.pop(name, None)
            missing = [place for place, name in enumerate(subscribe_hashes) if name not in held]
            if 0 < len(missing) < len(subscribe_hashes):
                message, subscription = _narrowed(self.code_name, message, subscription, missing, len(subscribe_hashes))
        return super().watch_multiple(url, message_hashes, message, subscribe_hashes, subscription)  # type: ignore[misc]

    def on_connected(self, client: Any, message: Any = None) -> None:
        super().on_connected(client, message)  # type: ignore[misc]
        client.last_data_at = time.monotonic()
        self._tap.listener.on_connected(client.url)

    def on_error(self, client: Any, error: Any) -> None:
        super().on_error(client, error)  # type: ignore[misc]
        self._down(client, str(error))

    def on_close(self, client: Any, error: Any) -> None:
        super().on_close(client, error)  # type: ignore[misc]
        ours = f"closed here: {client.error}"
        self._down(client, ours if client.error is not None else f"closed by the venue, code {error}")

    def _down(self, client: Any, reason: str) -> None:
        if not client.is_down:  # ccxt reports an error and then a close for the same socket
            client.is_down = True
            for task in client.tasks - {asyncio.current_task()}:
                task.cancel()
            self._drop_books(client)
            self._tap.listener.on_disconnected(client.url, reason)

    def _drop_books(self, client: Any) -> None:
        """Drop the books that a lost socket carried: they do not continue on the next one."""
        books: BookStore = self.__dict__[_private("orderbooks")]
        for symbol in books.carried_by(client):
            books.pop(symbol).is_whole = False  # a ccxt task may still refer to the book

    def sign(self, path: str, *args: Any, **named: Any) -> Any:
        """Sign as ccxt does, but send a request without a key where none is configured and the endpoint needs none."""
        if (_family(args), path) not in facts_of(self.id).ccxt.needs_no_key or getattr(self, "apiKey", None):
            return super().sign(path, *args, **named)  # type: ignore[misc]
        open_path = "trades"  # takes the same parameters, and ccxt does not sign it
        request = super().sign(open_path, *args, **named)  # type: ignore[misc]
        before, _, after = request["url"].partition(f"/{open_path}?")
        return {**request, "url": f"{before}/{path}?{after}"}

    def calculate_rate_limiter_cost(self, api: Any, method: Any, path: Any, *args: Any) -> Any:
        cost = facts_of(self.id).ccxt.costs.get((_family((api,)), path))
        return super().calculate_rate_limiter_cost(api, method, path, *args) if cost is None else cost  # type: ignore[misc]

    def own_addresses(self) -> list[str]:
        """The addresses at which ccxt reaches this exchange."""
        urls = {name: of_kind for name, of_kind in self.urls.items() if name not in _NO_SERVERS}
        listed = [self.implode_hostname(url) for url in addresses(urls)]  # type: ignore[attr-defined]
        return [*listed, *facts_of(self.id).ccxt.servers]

    def open(self, lazy: bool = False) -> None:
        super().open(lazy)  # type: ignore[misc]
        if self.session is not None and self.session is not self._bounded:
            self.session.detach()
            self.session = self._bounded = bounded_session(
                self.tcp_connector, trust_env=self.aiohttp_trust_env, on_long_wait=self._on_long_wait
            )

    def _on_long_wait(self, url: str, asked_s: float) -> None:
        log.warning("wait_cut", exchange=self.id, url=url, asked_s=asked_s, waits_s=cut(asked_s))
        self._tap.listener.on_wait_cut()

    async def fetch(self, url: str, *args: Any, **named: Any) -> Any:
        try:
            return await super().fetch(mapped_url(url, self._url_map), *args, **named)  # type: ignore[misc]
        except ccxt.BaseError as error:
            if isinstance(error.__cause__, ReplyRefused):
                # ccxt's own message would be only the URL, with any secrets in it.
                raise ccxt.ExchangeNotAvailable(f"{self.id}: {error.__cause__}") from error.__cause__
            error.sent_by_venue = True
            if isinstance(error, _RATE_LIMITED):
                error.retry_after_s = _retry_after_s(getattr(self, "last_response_headers", None))
            raise

    async def fetch_currencies(self, params: Any = None) -> Any:
        """Fetch currencies; return {} on failure. `load_markets` needs the call, but no record needs the result."""
        try:
            return await super().fetch_currencies(params or {})  # type: ignore[misc]
        except _RATE_LIMITED:
            raise
        except Exception:  # ccxt may raise anything for a list that it cannot parse
            if facts_of(self.id).ccxt.needs_currencies:
                raise
            return {}

    def convert_from_raw_quantity(self, symbol: str, raw: Any) -> Any:
        """Convert Bitrue's number of contracts to the base currency as ccxt does, but without float rounding."""
        market = self.market(symbol)  # type: ignore[attr-defined]
        exact = multiplied(raw, market.get("contractSize")) if market.get("contract") else None
        return raw if exact is None else exact

    async def fetch_open_interest(self, symbol: str, params: Any = None) -> Any:
        """Fetch as ccxt does, except for Phemex contracts for which ccxt requests the wrong one of two tickers."""
        market = self.market(symbol) if self.id == "phemex" else {}  # type: ignore[attr-defined]
        if market.get("inverse") is not True and market.get("settle") != "USD":
            return await super().fetch_open_interest(symbol, params or {})  # type: ignore[misc]
        ticker = await self.fetch_ticker(symbol, params or {})  # type: ignore[attr-defined]
        return self.parse_open_interest(ticker["info"], market)  # type: ignore[attr-defined]

    @staticmethod
    def json(data: Any, _params: Any = None) -> str:
        return json.dumps(data, separators=(",", ":"), default=str)  # orjson rejects subclasses of float


def _tapped_property(name: str) -> property:
    """A property whose store stays tapped when ccxt assigns a new dict (`clean_ws_data`, unsubscribing)."""
    private = _private(name)
    is_books = name == "orderbooks"

    def get(exchange: Any) -> TappedStore | None:
        if is_books and exchange._tap.aside is not None:
            aside: BookStore = exchange._tap.aside
            return aside
        store: TappedStore | None = exchange.__dict__.get(private)
        return store

    def assign(exchange: Any, content: Any) -> None:
        if content is None:
            return
        store = exchange._tap.store(name)
        exchange.__dict__[private] = store
        store.update(content)

    return property(get, assign)


def _private(store: str) -> str:
    return f"_tapped_{store}"


def _ignore_update(_symbol: str, _update: Any) -> None:
    """Handover that ignores the update."""


def _code_name(exchange: Any) -> str:
    """The ccxt exchange whose code this one inherits: `bybit` for `bybiteu`."""
    names = [cls.__name__ for cls in type(exchange).__mro__ if cls.__module__.startswith("ccxt.pro.")]
    return names[-1]


@functools.cache
def tapped_class(exchange_id: str) -> type[Any]:
    """The tapped subclass of the ccxt.pro class. Raises KeyError if ccxt has no such exchange."""
    if exchange_id not in ccxt.pro.exchanges:
        raise KeyError(exchange_id)
    properties = {name: _tapped_property(name) for name in STORES}
    return type(f"tapped_{exchange_id}", (_TappedExchange, getattr(ccxt.pro, exchange_id)), properties)


def make_exchange(
    exchange_id: str,
    tap: Tap,
    *,
    options: Mapping[str, Any] | None = None,
    url_map: Mapping[str, str] | None = None,
    credentials: Mapping[str, str] | None = None,
    rate_share: float = 1.0,
) -> Any:
    """Create a tapped exchange without connecting. `options` are merged deeply into ccxt's own.

    `credentials` are ccxt's (`apiKey`, `secret`, `password`); a few exchanges require them even for market data.
    `rate_share`: the fraction of the exchange's request budget that this object may use.
    """
    facts = facts_of(exchange_id)
    config = ccxt.Exchange.deep_extend(
        BASE_CONFIG,
        {"options": facts.ccxt.options},
        {"options": dict(options or {})},
        dict(credentials or {}),
    )
    if facts.microseconds and asks_for_microseconds(options or {}):
        config["headers"] = {"X-MBX-TIME-UNIT": "MICROSECOND"}
    tap.exchange = exchange_id
    exchange = tapped_class(exchange_id)(tap, dict(url_map or {}), config)
    tap.checksums = Checksums(exchange.code_name)
    tap.is_market = lambda symbol: symbol in (exchange.markets or ())
    if exchange.code_name in CHECKED_HERE:
        exchange.options["watchOrderBook"] = {**exchange.options.get("watchOrderBook", {}), "checksum": False}
    keep_alive = exchange.streaming.get("keepAlive")
    if keep_alive and _KEEP_ALIVE_MS < keep_alive <= _QUIET_KEEP_ALIVE_MS:
        exchange.streaming["keepAlive"] = _KEEP_ALIVE_MS
    if rate_share != 1.0:
        exchange.rateLimit /= rate_share
        exchange.rollingWindowSize = 0.0  # a rolling window would allow the whole share in one burst
        exchange.tokenBucket = None
        exchange.init_rest_rate_limiter()
    return exchange


async def close_exchange(exchange: Any, *, within_s: float = 5.0) -> None:
    """Close the sockets and sessions. If the exchange does not answer the close within `within_s`, disconnect."""
    exchange.timeout_on_exit = 0  # ms; ccxt would sleep this long after closing
    try:
        async with asyncio.timeout(within_s):
            await exchange.close()
    except TimeoutError:
        if exchange.session is not None:
            await exchange.session.close()
            exchange.session = None
        await exchange.close_connector()
    await cancelled(*exchange.background)  # book snapshots that wait for the rate limiter, and the limiter's own loop


def can_forget_books(exchange: Any) -> bool:
    """Whether `forget_book` works on this exchange."""
    known = exchange.id in BOOKS_OVER_REST or exchange.id in BOOKS_UNSUBSCRIBED_HERE
    # `has["unWatchOrderBook"]` is wrong for some exchanges.
    return known or type(exchange).un_watch_order_book is not ccxt.pro.Exchange.un_watch_order_book


def drop_client(client: Any, reason: str) -> None:
    """Close a socket: pending `watch_*` calls fail, and the next one dials again."""
    client.on_error(ccxt.RequestTimeout(reason))


def exchange_ids() -> list[str]:
    """The ids of all exchanges that ccxt can stream."""
    return list(ccxt.pro.exchanges)


@functools.cache
def features(exchange_id: str) -> Mapping[str, Any]:
    """ccxt's `has` of the exchange (`watchTrades`: True, False, None or "emulated"). Does not connect."""
    has: Mapping[str, Any] = getattr(ccxt.pro, exchange_id)().has
    return has


@functools.cache
def timeframes(exchange_id: str) -> tuple[str, ...]:
    """The candle timeframes of the exchange, in ccxt's names (`1m`, `1h`, `1M`). Does not connect."""
    return tuple(getattr(ccxt.pro, exchange_id)().timeframes or ())


def translated(error: BaseException) -> FeedError:
    """Convert a ccxt or socket error to a FeedError."""
    text = redact(unreached(error) or f"{type(error).__name__}: {error}")
    if isinstance(error, _RATE_LIMITED):
        return RateLimited(text, getattr(error, "retry_after_s", 0.0))
    if isinstance(error, ccxt.InvalidNonce):  # includes ccxt.ChecksumError
        return BookBroken(text)
    symbols: frozenset[str] | None = getattr(error, "symbols_in_frame", None)
    if symbols is not None:
        return Refused(text, symbols)
    if isinstance(error, ccxt.BadSymbol):
        return SymbolError(text)
    sent_by_venue = getattr(error, "sent_by_venue", False)
    if isinstance(error, ccxt.NotSupported) and not sent_by_venue:
        return ChannelError(text)
    handshake = error.args[0] if error.args else None
    if getattr(handshake, "status", None) in _RATE_LIMIT_STATUS:
        return RateLimited(text, _retry_after_s(getattr(handshake, "headers", None)))
    if isinstance(error, ccxt.ExchangeError):
        return Refused(text, frozenset() if sent_by_venue else None)
    return FeedError(text)


def _is_refusal(error: Any) -> bool:
    return isinstance(error, ccxt.BaseError) and not isinstance(error, ccxt.UnsubscribeError)


def _narrowed(exchange_id: str, message: Any, note: Any, missing: list[int], of: int) -> tuple[Any, Any]:
    """Restrict a subscribe request, and ccxt's note of it, to the symbols that are not subscribed yet.

    ccxt requests all symbols again. The exchange would then restart the other books too, or refuse the request.
    """

    def those(listed: Any) -> Any:
        return [listed[place] for place in missing] if isinstance(listed, list) and len(listed) == of else listed

    if exchange_id in BOOKS_OVER_REST and isinstance(note, dict) and "symbols" in note:
        return {**message, "params": those(message["params"])}, {**note, "symbols": those(note["symbols"])}
    return _with_list(message, facts_of(exchange_id).books.listed_in, those), note


def _with_list(request: Any, path: Sequence[str], change: Callable[[Any], Any]) -> Any:
    """The request with the value at `path` changed; unchanged if the path does not exist."""
    if not path or not isinstance(request, dict) or path[0] not in request:
        return request
    inner, rest = request[path[0]], path[1:]
    return {**request, path[0]: _with_list(inner, rest, change) if rest else change(inner)}


def _now_ms() -> int:
    return now_us() // 1000


def _family(args: Sequence[Any]) -> str:
    """The API section that ccxt calls: `public`, `fapiPublic`. ccxt's generated code passes it in a list."""
    api = args[0] if args else ""
    return str(api if isinstance(api, str) else next(iter(api), ""))


def _note_dialled(url: str) -> None:
    urls = dialled_urls.get()
    if urls is not None:
        urls.pop(url, None)
        urls[url] = None


def _now() -> datetime:
    return datetime.now(UTC)


def _retry_after_s(headers: Any) -> float:
    """The Retry-After header in seconds; 0 if absent."""
    said = next((value for name, value in dict(headers or {}).items() if name.lower() == "retry-after"), None)
    return retry_after_s(said, _now())
