"""One ccxt exchange object with its subscriptions and pollers, and the watch for silent sockets."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from ingestd.clock import monotonic_s
from ingestd.config.models import FeedConfig
from ingestd.feeds.books.ladder import BookLadder, Rung
from ingestd.feeds.ccxt.ccxt_errors import translated
from ingestd.feeds.ccxt.channels import Method, groups, method_for, single_method_for, ticks_from_tickers
from ingestd.feeds.ccxt.forget import client_of_book, forget_book, gathers_changes
from ingestd.feeds.ccxt.market_loader import MarketLoader
from ingestd.feeds.ccxt.newest import Newest
from ingestd.feeds.ccxt.poller import Poller
from ingestd.feeds.ccxt.subscription import Subscription, all_fail
from ingestd.feeds.ccxt.subscriptions import LostStreams, Subscriptions
from ingestd.feeds.ccxt.tap import can_forget_books, close_exchange, make_exchange
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.feeds.ccxt.tapped_client import drop_client
from ingestd.feeds.markets import symbols as symbol_names
from ingestd.feeds.markets.cache import MarketCache
from ingestd.feeds.markets.listing import Choice
from ingestd.feeds.recording.supervisor import supervise
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.staleness import Staleness
from ingestd.records import Channel
from ingestd.venues.all import facts_of

log = structlog.get_logger()

RELIST_S = 3600.0
RELIST_SOON_S = 15.0  # first reload after a list failed or lacks a configured symbol; the delay doubles each time

Choose = Callable[[], Choice]  # chooses from the current markets


def take_all(_channel: Channel, _market: Mapping[str, Any]) -> bool:
    return True


class CcxtSession:
    """A `SupervisedSession` of a ccxt feed: `run` it once, then `close`. When `run` returns, the feed makes another."""

    def __init__(
        self,
        config: FeedConfig,
        reader: TapReader,
        cache: MarketCache | None = None,
        takes: Callable[[Channel, Mapping[str, Any]], bool] = take_all,
        known: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """`cache`: stores the markets for the next start. `takes`: whether this feed captures a stream. `known`: the
        markets followed before this session."""
        self._config = config
        self._takes = takes
        self._reader = reader
        self._recorder = reader.recorder
        self.subscriptions = Subscriptions()
        self._stop = Stop()
        self._staleness = defaultdict[str, Staleness](lambda: Staleness(config.stale_after_s))  # by URL
        self._followed: set[str] = set()
        self._choice_changed = asyncio.Event()
        self.exchange = make_exchange(
            config.exchange, reader, options=config.options, url_map=config.url_map, credentials=config.credentials()
        )
        self.exchange.followed = dict(known or {})
        self._incomplete = False
        self.markets = MarketLoader(self.exchange, reader.ledger.counts, cache, self._stop)
        books = self.exchange.book_facts
        stays_subscribed = books.unsubscribed_here or books.kept_when_broken or books.agrees is not None
        self.can_forget_books = can_forget_books(self.exchange)
        self.one_series = facts_of(config.exchange).books.over_rest
        self._lost = LostStreams(self.exchange, self.subscriptions.all, self.watch)
        ladder = BookLadder(stays_subscribed=stays_subscribed, can_unsubscribe=self.can_forget_books)
        reader.attach(self.subscriptions, ladder)

    async def run(self, choose: Choose) -> None:
        """Capture the chosen symbols until the stop, or until every subscription fails."""
        async with asyncio.TaskGroup() as tasks:
            self._follow(tasks, choose())
            tasks.create_task(self._follow_listings(tasks, choose), name=f"{self._config.label} listings")
            tasks.create_task(self._watch_sockets(), name=f"{self._config.label} watchdog")
            tasks.create_task(self._lost.run(self._stop), name=f"{self._config.label} lost streams")
            has_books = "order_book" in self._config.channels and any(
                self._takes("order_book", market) for market in self.exchange.markets.values()
            )
            newest = Newest(self._config, lambda: self.exchange)
            supervision = supervise(self._recorder, self, newest, self._stop, has_books=has_books)
            tasks.create_task(supervision, name=f"{self._config.label} supervisor")

    def choose_again(self) -> None:
        """Choose again: subscribe to new symbols, and drop those no longer wanted."""
        self._choice_changed.set()

    def stop(self) -> None:
        """Make `markets.load` and `run` return."""
        self._stop.set()

    async def close(self) -> None:
        """Close the sockets. No records are handed over afterwards."""
        self._stop.set()
        await close_exchange(self.exchange)

    async def _follow_listings(self, tasks: asyncio.TaskGroup, choose: Choose) -> None:
        """Reload the markets every hour, as a new listing may match; sooner if a list failed or lacks a symbol."""
        listed_s = time.monotonic() - min(RELIST_S, self.markets.age_s())
        soon_s = RELIST_SOON_S
        while not self._stop.is_set():
            wait_s = min(soon_s, RELIST_S) if self._incomplete else RELIST_S
            await self._stop.sleep_or(self._choice_changed, max(0.0, listed_s + wait_s - time.monotonic()))
            if self._stop.is_set():
                return
            if not self._choice_changed.is_set():
                listed_s = time.monotonic()
                was_incomplete, self._incomplete = self._incomplete, True
                soon_s = min(RELIST_S, 2 * soon_s) if was_incomplete else RELIST_SOON_S
                if not await self.markets.load_again():
                    continue
            self._choice_changed.clear()
            self._follow(tasks, choose())

    def _follow(self, tasks: asyncio.TaskGroup, choice: Choice) -> None:
        symbols, ledger = choice.symbols, self._reader.ledger
        new = [symbol for symbol in symbols if symbol not in self._followed]
        gone = self._followed.difference(symbols)
        before, self.exchange.followed = self.exchange.followed, {s: choice.markets[s] for s in symbols}
        self._incomplete = choice.incomplete
        self._followed = set(symbols)
        self._recorder.remove(gone)
        ledger.missing_since = choice.missing_since
        for channel in self._config.channels if new else ():
            self._start_channel(tasks, channel, new)
        renamed = [s for s in symbols if s in before and s not in new and before[s]["id"] != choice.markets[s]["id"]]
        self._reconnect(ledger.judge_listing(choice), "the venue lists its markets again")
        moved = [stream for stream in ledger.all_streams() if stream.symbol in renamed]
        self._reconnect(moved, f"the venue has another id for {', '.join(renamed[:3])}")
        if any(ledger.streams.values()):  # a native feed may leave no stream to ccxt
            log.info("following", feed=self._config.label, symbols=len(symbols), new=len(new), gone=len(gone))

    def _reconnect(self, streams: Sequence[Stream], reason: str) -> None:
        """Reconnect the sockets of these streams, because ccxt believes them subscribed."""
        urls = {stream.url for stream in streams}
        for client in [client for client in (self.exchange.clients or {}).values() if client.url in urls]:
            drop_client(client, reason)

    def _start_channel(self, tasks: asyncio.TaskGroup, channel: Channel, symbols: Sequence[str]) -> None:
        exchange = self.exchange
        by_method: dict[Method | None, list[str]] = {}
        for symbol in symbols:
            market = exchange.markets[symbol]
            if symbol_names.serves(channel, market) and self._takes(channel, market):
                method = method_for(channel, exchange.id, exchange.has, str(market.get("type")))
                by_method.setdefault(method, []).append(symbol)
        for method, alike in by_method.items():
            if method is None:
                log.error("channel_not_offered", feed=self._config.label, channel=channel)
            else:
                self._start_streams(tasks, channel, method, alike)

    def _start_streams(
        self, tasks: asyncio.TaskGroup, channel: Channel, method: Method, symbols: Sequence[str]
    ) -> None:
        if channel == "ticks" and method.of_books:
            self._reader.ticks_from_books.update(symbols)
        elif channel == "ticks":
            self._reader.ticks_from_tickers = ticks_from_tickers(self._config.exchange, method)
        markets = self.exchange.markets
        together = groups(self._config.exchange, symbols, markets) if method.many else ([symbol] for symbol in symbols)
        streams = [[self._reader.ledger.add_stream(channel, symbol) for symbol in group] for group in together]
        if method.polled:
            poller = Poller(
                channel=channel,
                method=method,
                single=single_method_for(channel, self.exchange.has, polled=True),
                groups=streams,
                fetch=lambda name, argument: getattr(self.exchange, name)(argument),
                reader=self._reader,
                interval_s=self._config.poll_interval_s,
            )
            tasks.create_task(poller.run(self._stop), name=f"{self._config.label} poll {channel}")
            return
        for group in streams:
            subscription = Subscription(channel, method, group, watch=self.watch, reader=self._reader)
            self.subscriptions.keep(tasks, subscription, self._stop, self._config.label)

    async def watch(self, method: Method, symbols: Sequence[str]) -> Any:
        """Call this ccxt method for these symbols, of which it may take only one."""
        bound = getattr(self.exchange, method.name)
        if method.of_books:
            await self._prepare_books(symbols)
        if method.name == "watch_ohlcv":
            return await bound(symbols[0], self._config.candle_timeframe)
        return await bound(list(symbols) if method.many else symbols[0])

    async def _prepare_books(self, symbols: Sequence[str]) -> None:
        """Unsubscribe from books that are being rebuilt and must be unsubscribed first."""
        ladder = self._reader.ladder
        for symbol in symbols:
            rung = ladder.asking(symbol)
            if rung is Rung.UNSUBSCRIBE:
                try:
                    await forget_book(self.exchange, symbol)
                except Exception as error:  # noqa: BLE001  # ccxt may raise anything; the ladder has another rung
                    log.info("book_not_unsubscribed", feed=self._config.label, symbol=symbol, error=str(error)[:300])
            if rung is not None:
                ladder.asked(symbol, monotonic_s())
        self.exchange.await_changes(symbols)

    def _climb(self) -> None:
        """Escalate to the next rung for books that were requested again in vain."""
        for symbol, rung in self._reader.ladder.overdue(monotonic_s()):
            if gathers_changes(self.exchange, symbol):
                self._reader.ladder.asked(symbol, monotonic_s())  # the book waits for changes, so for the market
                continue
            log.warning("book_not_begun", feed=self._config.label, symbol=symbol, next=rung.name.lower())
            if rung is not Rung.SOCKET:
                self.subscriptions.ask_for_book(symbol)
            elif (client := client_of_book(self.exchange, symbol)) is not None:
                drop_client(client, f"the venue sends no whole book of {symbol}")

    def open_streams(self) -> list[Stream]:
        clients = (self.exchange.clients or {}).items()
        return self.subscriptions.streams_on({url for url, client in clients if client.url and not client.is_down})

    def resubscribe(self, stream: Stream, attempt: int) -> None:
        """Subscribe to the stream again: on its own socket first, on a new one at some later attempts."""
        self._lost.ask_for(stream, attempt)

    def book(self, symbol: str) -> Mapping[str, Any] | None:
        book: Mapping[str, Any] | None = (self.exchange.orderbooks or {}).get(symbol)
        return book

    async def forget_book(self, symbol: str) -> None:
        await forget_book(self.exchange, symbol)

    async def order_book(self, symbol: str, levels: int | None) -> Mapping[str, Any]:
        try:
            book: Mapping[str, Any] = await self.exchange.fetch_order_book(symbol, levels)
        except Exception as error:  # ccxt may raise anything
            raise translated(error) from error
        return book

    async def _watch_sockets(self) -> None:
        """Close stale sockets, and end the session if every subscription fails."""
        interval_s = min(1.0, self._config.stale_after_s / 4)
        slept_from_s = time.monotonic()
        while await self._stop.sleep(interval_s):
            late_s = time.monotonic() - slept_from_s - interval_s
            slept_from_s = time.monotonic()
            self._climb()
            for client in list((self.exchange.clients or {}).values()):
                if late_s > interval_s:  # the process or its event loop was blocked: received data is still unread
                    client.forgive(late_s)
                if not client.closed() and client.subscriptions:
                    self.check_socket(client, time.monotonic())
            self.subscriptions.close_unneeded(self.exchange.clients or {})
            if all_fail(self.subscriptions.all):
                log.warning("exchange_recreated", feed=self._config.label)
                self._reader.ledger.counts.problem = "nothing can be subscribed; starting afresh"
                self._stop.set()

    def check_socket(self, client: Any, now_s: float) -> None:
        """Close a socket that was silent for longer than the feed's limit, which grows with each silent reconnect."""
        if client.held_back:
            return  # we are not reading
        silent_s = now_s - client.last_data_at
        if self._staleness[client.url].is_stale(silent_s, has_delivered=client.data_frames > 0):
            reason = f"no data for {silent_s:.1f} s"
            self._reader.on_stale(client.url, reason)
            drop_client(client, reason)
