"""The mixin that taps a ccxt.pro exchange class: its stores, sockets, background tasks, requests and servers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import ccxt
import ccxt.pro
import structlog

from ingestd.feeds.books.checksums import Checksums
from ingestd.feeds.ccxt.bounded_http import ReplyRefused, bounded_session
from ingestd.feeds.ccxt.ccxt_errors import RATE_LIMIT_ERRORS, retry_after_in
from ingestd.feeds.ccxt.market_names import MarketNames
from ingestd.feeds.ccxt.tap_state import Tap, dialled_urls, force_subscribe, started_for
from ingestd.feeds.ccxt.tapped_books import TappedBooks
from ingestd.feeds.ccxt.tapped_client import TappedClient
from ingestd.feeds.ccxt.tapped_markets import TappedMarkets
from ingestd.feeds.ccxt.tapped_stores import BookStore, TappedStore
from ingestd.feeds.ccxt.venue_hosts import addresses, why_not_the_venues
from ingestd.feeds.markets.symbols import namesakes
from ingestd.feeds.urls import mapped_url
from ingestd.retry import cut
from ingestd.venues.all import facts_of
from ingestd.venues.exact import ExactFloat, ExactReaders, multiplied

log = structlog.get_logger()

_NO_SERVERS = ("doc", "fees", "logo", "referral")  # keys of ccxt's `urls` that hold web pages, on any host


class TappedExchange(TappedMarkets, TappedBooks, ExactReaders, ccxt.pro.Exchange):  # type: ignore[misc]  # no types
    """Mixin that precedes the exchange's own class. `tap.tapped_class` adds a property for each store."""

    session: Any
    number = ExactFloat
    _bounded: Any = None  # the session that limits the size of replies

    def __init__(self, tap: Tap, url_map: Mapping[str, str], config: dict[str, Any]) -> None:
        self._tap = tap
        self.url_map = url_map
        # Markets that share a symbol with another market; they are left out of `markets`.
        self.namesakes: dict[str, list[Mapping[str, Any]]] = {}
        self.followed: Mapping[str, Mapping[str, Any]] = {}  # stay in `markets` even if the exchange stops listing them
        self.lacking: frozenset[str] = frozenset()  # followed, but missing from the newest list
        self.listed: frozenset[str] = frozenset()
        self.checksums = Checksums(self.code_name)
        self.background: set[asyncio.Task[Any]] = set()  # started by ccxt and never awaited
        self._market_names = MarketNames({})
        super().__init__(config)

    def set_markets(self, markets: Any, currencies: Any = None) -> Any:
        listed = self.sound_markets(self.to_array(markets), self.followed)
        if not listed and self.markets:
            raise ccxt.ExchangeNotAvailable(f"{self.id} lists no market at all")
        self.namesakes = namesakes(listed)
        unique = [market for market in listed if market["symbol"] not in self.namesakes]
        self.listed = frozenset(market["symbol"] for market in unique)
        kept = [market for symbol, market in self.followed.items() if symbol not in self.listed]
        self.lacking = frozenset(market["symbol"] for market in kept)
        return super().set_markets([*unique, *kept], currencies)

    def is_market(self, symbol: str) -> bool:
        """Whether a market has this symbol."""
        return symbol in (self.markets or ())

    def client(self, url: str) -> Any:
        if url not in (self.clients or {}):  # checked before the dial, so that ccxt asks for another server
            why_not = why_not_the_venues(url, mapped_url(url, self.url_map), self.own_addresses(), self.url_map)
            if why_not is not None:
                raise ccxt.NetworkError(f"{self.id}: {why_not}")
        client = super().client(url)
        if not isinstance(client, TappedClient):
            client.__class__ = TappedClient
            client.begin(self, self._tap)
            client.throttle.looper = self._in_background(client.throttle.looper)
        return client

    def init_throttler(self, cost: Any = None) -> None:
        super().init_throttler(cost)
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
        named = map(self.books_named_in, about) if "order_book" in name else ()
        symbols = next(filter(None, named), None)
        if symbols:
            self.books_not_loaded(symbols, error)
        else:
            log.info("task_failed", exchange=self.id, task=name, error=repr(error)[:300])

    def names_in(self, text: str) -> frozenset[str]:
        """The symbols of the markets that a text names."""
        if self._market_names.markets is not (self.markets or {}):
            self._market_names = MarketNames(self.markets)
        return self._market_names.named_in(text)

    def books_named_in(self, said: Any) -> set[str]:
        """The symbols of the followed books that a text names, such as ccxt's message hash."""
        return {symbol for symbol in self.names_in(str(said)) if self._tap.follows_book(symbol)}

    def watch(
        self, url: str, message_hash: Any, message: Any = None, subscribe_hash: Any = None, subscription: Any = None
    ) -> Any:
        _note_dialled(url)
        if force_subscribe.get():
            self.client(url).subscriptions.pop(subscribe_hash, None)
        return super().watch(url, message_hash, message, subscribe_hash, subscription)

    def watch_multiple(
        self, url: str, message_hashes: Any, message: Any = None, subscribe_hashes: Any = None, subscription: Any = None
    ) -> Any:
        _note_dialled(url)
        if subscribe_hashes:
            held = self.client(url).subscriptions
            for name in subscribe_hashes if force_subscribe.get() else ():
                held.pop(name, None)
            missing = [place for place, name in enumerate(subscribe_hashes) if name not in held]
            if 0 < len(missing) < len(subscribe_hashes):
                message, subscription = self._narrowed(message, subscription, missing, len(subscribe_hashes))
        return super().watch_multiple(url, message_hashes, message, subscribe_hashes, subscription)

    def _narrowed(self, message: Any, note: Any, missing: list[int], of: int) -> tuple[Any, Any]:
        """Restrict a subscribe request, and ccxt's note of it, to the symbols that are not subscribed yet.

        ccxt requests all symbols again. The exchange would then restart the other books too, or refuse the request.
        """

        def those(listed: Any) -> Any:
            return [listed[place] for place in missing] if isinstance(listed, list) and len(listed) == of else listed

        if self.book_facts.over_rest and isinstance(note, dict) and "symbols" in note:
            return {**message, "params": those(message["params"])}, {**note, "symbols": those(note["symbols"])}
        return _with_list(message, self.book_facts.streams_path, those), note

    def on_connected(self, client: Any, message: Any = None) -> None:
        super().on_connected(client, message)
        client.last_data_at = time.monotonic()
        self._tap.on_connected(client.url)

    def on_error(self, client: Any, error: Any) -> None:
        super().on_error(client, error)
        self._down(client, str(error))

    def on_close(self, client: Any, error: Any) -> None:
        super().on_close(client, error)
        ours = f"closed here: {client.error}"
        self._down(client, ours if client.error is not None else f"closed by the venue, code {error}")

    def _down(self, client: Any, reason: str) -> None:
        if not client.is_down:  # ccxt reports an error and then a close for the same socket
            client.is_down = True
            for task in client.tasks - {asyncio.current_task()}:
                task.cancel()
            self._drop_books(client)
            self._tap.on_disconnected(client.url, reason)

    def _drop_books(self, client: Any) -> None:
        """Drop the books that a lost socket carried: they do not continue on the next one."""
        books: BookStore = self.__dict__[_private("orderbooks")]
        for symbol in books.carried_by(client):
            books.pop(symbol).is_whole = False  # a ccxt task may still refer to the book

    def sign(self, path: str, *args: Any, **named: Any) -> Any:
        """Sign as ccxt does, but send a request without a key where none is configured and the endpoint needs none."""
        if (_family(args), path) not in facts_of(self.id).ccxt.needs_no_key or getattr(self, "apiKey", None):
            return super().sign(path, *args, **named)
        open_path = "trades"  # takes the same parameters, and ccxt does not sign it
        request = super().sign(open_path, *args, **named)
        before, _, after = request["url"].partition(f"/{open_path}?")
        return {**request, "url": f"{before}/{path}?{after}"}

    def calculate_rate_limiter_cost(self, api: Any, method: Any, path: Any, *args: Any) -> Any:
        cost = facts_of(self.id).ccxt.costs.get((_family((api,)), path))
        return super().calculate_rate_limiter_cost(api, method, path, *args) if cost is None else cost

    def own_addresses(self) -> list[str]:
        """The addresses at which ccxt reaches this exchange."""
        urls = {name: of_kind for name, of_kind in self.urls.items() if name not in _NO_SERVERS}
        return [*map(self.implode_hostname, addresses(urls)), *facts_of(self.id).ccxt.servers]

    def open(self, lazy: bool = False) -> None:
        super().open(lazy)
        if self.session is not None and self.session is not self._bounded:
            self.session.detach()
            self.session = self._bounded = bounded_session(
                self.tcp_connector, trust_env=self.aiohttp_trust_env, on_long_wait=self._on_long_wait
            )

    def _on_long_wait(self, url: str, asked_s: float) -> None:
        log.warning("wait_cut", exchange=self.id, url=url, asked_s=asked_s, waits_s=cut(asked_s))
        self._tap.on_wait_cut()

    async def fetch(self, url: str, *args: Any, **named: Any) -> Any:
        try:
            return await super().fetch(mapped_url(url, self.url_map), *args, **named)
        except ccxt.BaseError as error:
            if isinstance(error.__cause__, ReplyRefused):
                # ccxt's own message would be only the URL, with any secrets in it.
                raise ccxt.ExchangeNotAvailable(f"{self.id}: {error.__cause__}") from error.__cause__
            error.sent_by_venue = True
            if isinstance(error, RATE_LIMIT_ERRORS):
                error.retry_after_s = retry_after_in(getattr(self, "last_response_headers", None))
            raise

    async def fetch_currencies(self, params: Any = None) -> Any:
        """Fetch currencies. Return {} on failure, since no record needs them; raise a rate limit, and any error if
        market names depend on currencies."""
        try:
            return await super().fetch_currencies(params or {})
        except RATE_LIMIT_ERRORS:
            raise
        except Exception:  # ccxt may raise anything for a list that it cannot parse
            if facts_of(self.id).ccxt.needs_currencies:
                raise
            return {}

    def convert_from_raw_quantity(self, symbol: str, raw: Any) -> Any:
        """Convert Bitrue's number of contracts to the base currency as ccxt does, but without float rounding."""
        market = self.market(symbol)
        exact = multiplied(raw, market.get("contractSize")) if market.get("contract") else None
        return raw if exact is None else exact

    async def fetch_open_interest(self, symbol: str, params: Any = None) -> Any:
        """Fetch as ccxt does, or from the market's ticker where ccxt requests the wrong one."""
        in_ticker = facts_of(self.id).ccxt.needs_ticker_for_open_interest
        if in_ticker is None or not in_ticker(market := self.market(symbol)):
            return await super().fetch_open_interest(symbol, params or {})
        ticker = await self.fetch_ticker(symbol, params or {})
        return self.parse_open_interest(ticker["info"], market)

    @staticmethod
    def json(data: Any, _params: Any = None) -> str:
        return json.dumps(data, separators=(",", ":"), default=str)  # orjson rejects subclasses of float


def tapped_property(name: str) -> property:
    """A property whose store stays tapped when ccxt assigns a new dict (`clean_ws_data`, unsubscribing)."""
    private = _private(name)
    is_books = name == "orderbooks"

    def get(exchange: Any) -> TappedStore | None:
        if is_books and exchange._tap.frame.aside is not None:
            aside: BookStore = exchange._tap.frame.aside
            return aside
        store: TappedStore | None = exchange.__dict__.get(private)
        return store

    def assign(exchange: Any, content: Any) -> None:
        if content is None:
            return
        store = exchange._tap.store(name, exchange.is_market)
        exchange.__dict__[private] = store
        store.update(content)

    return property(get, assign)


def _private(store: str) -> str:
    return f"_tapped_{store}"


def _with_list(request: Any, path: Sequence[str], change: Callable[[Any], Any]) -> Any:
    """The request with the value at `path` changed; unchanged if the path does not exist."""
    if not path or not isinstance(request, dict) or path[0] not in request:
        return request
    inner, rest = request[path[0]], path[1:]
    return {**request, path[0]: _with_list(inner, rest, change) if rest else change(inner)}


def _family(args: Sequence[Any]) -> str:
    """The API section that ccxt calls: `public`, `fapiPublic`. ccxt's generated code passes it in a list."""
    api = args[0] if args else ""
    return str(api if isinstance(api, str) else next(iter(api), ""))


def _note_dialled(url: str) -> None:
    urls = dialled_urls.get()
    if urls is not None:
        urls.pop(url, None)
        urls[url] = None
