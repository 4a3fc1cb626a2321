"""One exchange object and all that runs on it: subscriptions, pollers, book sampling, the watch over silent sockets."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.config.models import FeedConfig
from ingestd.errors import FeedError
from ingestd.feeds.books.audit import BookAuditor
from ingestd.feeds.books.checksums import CHECKED_HERE
from ingestd.feeds.books.ladder import BookLadder, Rung
from ingestd.feeds.ccxt.channels import (
    BOOKS_LEFT_STANDING,
    BOOKS_OVER_REST,
    BOOKS_UNSUBSCRIBED_HERE,
    Method,
    groups,
    method_for,
    single_method_for,
    ticks_from_tickers,
)
from ingestd.feeds.ccxt.forget import client_of_book, forget_book, gathers_changes
from ingestd.feeds.ccxt.lost_streams import LostStreams
from ingestd.feeds.ccxt.market_loader import MarketLoader
from ingestd.feeds.ccxt.newest import Newest
from ingestd.feeds.ccxt.poller import Poller
from ingestd.feeds.ccxt.recorder import Recorder
from ingestd.feeds.ccxt.subscription import Subscription, all_fail
from ingestd.feeds.ccxt.tap import can_forget_books, close_exchange, drop_client, make_exchange, translated
from ingestd.feeds.ccxt.tap_state import Tap
from ingestd.feeds.markets import symbols as symbol_names
from ingestd.feeds.markets.cache import MarketCache
from ingestd.feeds.markets.listing import Choice
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.silence_watch import SilenceWatch
from ingestd.feeds.streams.staleness import Staleness
from ingestd.records import Channel

log = structlog.get_logger()

RELIST_S = 3600.0
RELIST_SOON_S = 15.0  # at first, then twice as long each time: a list failed, or lacks what is configured
_IDS_SETTLE_US = 1_000_000

Choose = Callable[[], Choice]  # from the venue's markets as they are now


class CcxtSession:
    """Made, run once, closed. The feed makes the next one when this one gives up."""

    def __init__(
        self,
        config: FeedConfig,
        recorder: Recorder,
        cache: MarketCache | None = None,
        takes: Callable[[Channel, Mapping[str, Any]], bool] = lambda _channel, _market: True,
        known: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """`cache`: where the markets are kept for the next start; `takes`: which streams of a market are asked for
        here; `known`: the markets followed before this session."""
        self._config = config
        self._takes = takes
        self._recorder = recorder
        self._tap = Tap(recorder)
        self._subscriptions: set[Subscription] = set()
        self._stop = Stop()
        self._staleness = defaultdict[str, Staleness](lambda: Staleness(config.stale_after_s))  # by URL
        self._followed: set[str] = set()
        self._choice_changed = asyncio.Event()
        self.exchange = make_exchange(
            config.exchange,
            self._tap,
            options=config.options,
            url_map=config.url_map,
            credentials=config.credentials(),
        )
        self.exchange.followed = dict(known or {})
        self._incomplete = False
        self.markets = MarketLoader(self.exchange, recorder.counts, cache, self._stop)
        stands = self.exchange.code_name in BOOKS_UNSUBSCRIBED_HERE | BOOKS_LEFT_STANDING | CHECKED_HERE
        self._lost = LostStreams(self.exchange, self._subscriptions, self._watch)
        recorder.attach(
            lambda: self._tap.url,
            self._wake,
            self._carried,
            lambda: self._tap.frame_is_late,
            self._resynchronise,
            self._refused,
            BookLadder(stands=stands, can_unsubscribe=can_forget_books(self.exchange)),
        )

    async def run(self, choose: Choose) -> None:
        """Subscribe to the chosen symbols and keep at it until the stop, or until nothing works any more."""
        async with asyncio.TaskGroup() as tasks:
            self._follow(tasks, choose())
            tasks.create_task(self._follow_listings(tasks, choose), name=f"{self._config.label} listings")
            tasks.create_task(self._watch_sockets(), name=f"{self._config.label} watchdog")
            tasks.create_task(self._silence_watch().run(self._stop), name=f"{self._config.label} silence")
            tasks.create_task(self._lost.run(self._stop), name=f"{self._config.label} lost streams")
            books = "order_book" in self._config.channels and any(
                self._takes("order_book", market) for market in self.exchange.markets.values()
            )
            if books and self._config.order_book_interval_ms:
                tasks.create_task(self._sample_books(), name=f"{self._config.label} books")
            if books and self._config.book_audit_interval_s:
                tasks.create_task(self._auditor().run(self._stop), name=f"{self._config.label} book audit")

    def problem(self) -> str | None:
        """What the venue refuses without saying what, as a sentence; None: nothing."""
        refused = [(s, error) for s in self._subscriptions if (error := s.refused_without_a_name) is not None]
        if not refused:
            return None
        named = ", ".join(sorted(subscription.name for subscription, _ in refused)[:3])
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        return (
            f"the venue answers with an error that names no symbol, and nothing comes of {named}{more}: "
            f"{refused[0][1][:200]}"
        )

    def choose_again(self) -> None:
        """The choice of symbols has changed: subscribe to what is new, let go what is no longer wanted."""
        self._choice_changed.set()

    def stop(self) -> None:
        """Let `markets.load` and `run` return."""
        self._stop.set()

    async def close(self) -> None:
        """Close the sockets; nothing is handed over afterwards."""
        self._stop.set()
        await close_exchange(self.exchange)

    async def _follow_listings(self, tasks: asyncio.TaskGroup, choose: Choose) -> None:
        """Load the markets again every hour: a new listing may match. Sooner where a list fails or lacks something."""
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
        symbols = choice.symbols
        new = [symbol for symbol in symbols if symbol not in self._followed]
        gone = self._followed.difference(symbols)
        before, self.exchange.followed = self.exchange.followed, {s: choice.markets[s] for s in symbols}
        self._incomplete = choice.incomplete
        self._followed = set(symbols)
        self._recorder.remove(gone)
        self._recorder.expect(choice)
        for channel in self._config.channels if new else ():
            self._start_channel(tasks, channel, new)
        renamed = [s for s in symbols if s in before and s not in new and before[s]["id"] != choice.markets[s]["id"]]
        self._ask_anew(self._recorder.judge_listing(choice), "the venue lists again what it carried")
        self._ask_anew(self._recorder.of_symbols(renamed), f"the venue has another id for {', '.join(renamed[:3])}")
        if any(self._recorder.streams.values()):  # a native feed may leave it none
            log.info("following", feed=self._config.label, symbols=len(symbols), new=len(new), gone=len(gone))

    def _ask_anew(self, streams: Sequence[Stream], reason: str) -> None:
        """Dial their sockets anew: the library takes them for subscribed."""
        urls = {stream.url for stream in streams}
        for client in [client for client in (self.exchange.clients or {}).values() if client.url in urls]:
            drop_client(client, reason)

    def _start_channel(self, tasks: asyncio.TaskGroup, channel: Channel, symbols: Sequence[str]) -> None:
        markets = self.exchange.markets
        served = [
            symbol
            for symbol in symbols
            if symbol_names.serves(channel, markets[symbol]) and self._takes(channel, markets[symbol])
        ]
        by_method: dict[Method | None, list[str]] = {}
        for symbol in served:
            market_type = str(markets[symbol].get("type"))
            method = method_for(channel, self._config.exchange, self.exchange.has, market_type)
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
            self._recorder.ticks_from_books.update(symbols)
        elif channel == "ticks":
            self._recorder.ticks_from_tickers = ticks_from_tickers(self._config.exchange, method)
        markets = self.exchange.markets
        together = groups(self._config.exchange, symbols, markets) if method.many else ([symbol] for symbol in symbols)
        streams = [[self._recorder.add_stream(channel, symbol) for symbol in group] for group in together]
        if method.polled:
            self._start_poller(tasks, channel, method, streams)
            return
        for group in streams:
            self._keep(tasks, Subscription(channel, method, group, watch=self._watch(method), recorder=self._recorder))

    def _start_poller(
        self, tasks: asyncio.TaskGroup, channel: Channel, method: Method, streams: Sequence[Sequence[Stream]]
    ) -> None:
        poller = Poller(
            channel,
            method,
            single_method_for(channel, self.exchange.has, polled=True),
            streams,
            fetch=lambda name, argument: getattr(self.exchange, name)(argument),
            recorder=self._recorder,
            interval_s=self._config.poll_interval_s,
        )
        tasks.create_task(poller.run(self._stop), name=f"{self._config.label} poll {channel}")

    def _watch(self, method: Method) -> Any:
        async def watch(symbols: Sequence[str]) -> Any:
            bound = getattr(self.exchange, method.name)
            if method.of_books:
                await self._before_asking_for_books(symbols)
            if method.name == "watch_ohlcv":
                return await bound(symbols[0], self._config.candle_timeframe)
            return await bound(list(symbols) if method.many else symbols[0])

        return watch

    def _keep(self, tasks: asyncio.TaskGroup, subscription: Subscription) -> None:
        self._subscriptions.add(subscription)

        async def keep() -> None:
            replacements = await subscription.run(self._stop)
            self._subscriptions.discard(subscription)
            for replacement in replacements:
                self._keep(tasks, replacement)

        tasks.create_task(keep(), name=f"{self._config.label} {subscription.name}")

    def _wake(self, url: str) -> None:
        for subscription in list(self._subscriptions):
            subscription.wake(url)

    async def _before_asking_for_books(self, symbols: Sequence[str]) -> None:
        """Of the books that are being begun anew, end the streams that have to be ended first."""
        ladder = self._recorder.ladder
        for symbol in symbols:
            rung = ladder.asking(symbol)
            if rung is Rung.UNSUBSCRIBE:
                try:
                    await forget_book(self.exchange, symbol)
                except Exception as error:  # noqa: BLE001  # the venue's code may raise anything; a rung is left
                    log.info("book_not_unsubscribed", feed=self._config.label, symbol=symbol, error=str(error)[:300])
            if rung is not None:
                ladder.asked(symbol, monotonic_s())
        self.exchange.await_changes(symbols)

    def _climb(self) -> None:
        """Books that were asked for again in vain: the next rung."""
        for symbol, rung in self._recorder.ladder.overdue(monotonic_s()):
            if gathers_changes(self.exchange, symbol):
                self._recorder.ladder.asked(symbol, monotonic_s())  # it waits for changes, and those for the market
                continue
            log.warning("book_not_begun", feed=self._config.label, symbol=symbol, next=rung.name.lower())
            if rung is not Rung.SOCKET:
                self._resynchronise(symbol)
            elif (client := client_of_book(self.exchange, symbol)) is not None:
                drop_client(client, f"the venue sends no whole book of {symbol}")

    def _refused(self, url: str, error: FeedError) -> None:
        for subscription in list(self._subscriptions):
            subscription.refused(url, error)

    def _silence_watch(self) -> SilenceWatch:
        return SilenceWatch(
            Newest(self._config, lambda: self.exchange),
            self._recorder,
            streams=self._speaking,
            ask_anew=self._lost.ask_for,
            blocked=lambda: self._recorder.is_blocked,
            stale_after_s=self._config.stale_after_s,
            book_interval_s=self._config.order_book_interval_ms / 1000,
        )

    def _speaking(self) -> list[Stream]:
        """The streams that a socket which is up should bring."""
        up = {url for url, client in (self.exchange.clients or {}).items() if client.url and not client.is_down}
        return [
            stream
            for subscription in self._subscriptions
            if not up.isdisjoint(subscription.urls)
            for stream in subscription.streams
        ]

    async def order_book(self, symbol: str, levels: int | None) -> Mapping[str, Any]:
        """The venue's own book over REST. Raises FeedError."""
        try:
            book: Mapping[str, Any] = await self.exchange.fetch_order_book(symbol, levels)
        except Exception as error:  # the venue's code may raise anything; here it becomes one of ours
            raise translated(error) from error
        return book

    def _resynchronise(self, symbol: str) -> None:
        for subscription in list(self._subscriptions):
            subscription.wake_for(symbol)

    def _auditor(self) -> BookAuditor:
        return BookAuditor(
            fetch=self.order_book,
            forget=(lambda symbol: forget_book(self.exchange, symbol)) if can_forget_books(self.exchange) else None,
            book=lambda symbol: (self.exchange.orderbooks or {}).get(symbol),
            recorder=self._recorder,
            interval_s=self._config.book_audit_interval_s,
            one_series=self._config.exchange in BOOKS_OVER_REST,
        )

    def _carried(self, url: str) -> list[Stream]:
        """The streams of every subscription that was asked for on that socket."""
        asked = [subscription for subscription in self._subscriptions if url in subscription.urls]
        return [stream for subscription in asked for stream in subscription.streams]

    async def _sample_books(self) -> None:
        interval_s = self._config.order_book_interval_ms / 1000
        due = time.monotonic() + interval_s
        while await self._stop.sleep(max(0.0, due - time.monotonic())):
            self._recorder.sample_books()
            due = max(due + interval_s, time.monotonic())

    async def _watch_sockets(self) -> None:
        """Give up sockets that have fallen silent, and the exchange object when nothing works."""
        interval_s = min(1.0, self._config.stale_after_s / 4)
        slept_from_s = time.monotonic()
        while await self._stop.sleep(interval_s):
            late_s = time.monotonic() - slept_from_s - interval_s
            slept_from_s = time.monotonic()
            self._recorder.settle_ids(now_us() - _IDS_SETTLE_US)
            self._climb()
            for client in list((self.exchange.clients or {}).values()):
                if late_s > interval_s:  # the process was stopped, or its loop held up: what came is not read yet
                    client.forgive(late_s)
                if not client.closed() and client.subscriptions:
                    self.check_socket(client, time.monotonic())
            self._close_left()
            if all_fail(self._subscriptions):
                log.warning("exchange_recreated", feed=self._config.label)
                self._recorder.counts.problem = "nothing can be subscribed; starting afresh"
                self._stop.set()

    def _close_left(self) -> None:
        """Close the sockets that nothing needs any more: what they carried has been asked for on others."""
        needed = {url for subscription in self._subscriptions for url in subscription.urls}
        given_up: set[str] = set()
        for subscription in self._subscriptions:
            if not subscription.has_moved():
                continue
            for url in subscription.left_urls - needed:
                if not any(url in other.left_urls and not other.has_moved() for other in self._subscriptions):
                    given_up.add(url)
            if not (subscription.left_urls - needed - given_up):
                subscription.settle_move()
        for url in given_up:
            client = (self.exchange.clients or {}).get(url)
            if client is not None:
                client.leave("all that it carried is asked for on another")

    def check_socket(self, client: Any, now_s: float) -> None:
        """Drop the socket when it has carried no data for the feed's limit (longer after each silent re-dial)."""
        if client.held_back:
            return  # it is we who do not read
        silent_s = now_s - client.last_data_at
        if self._staleness[client.url].is_stale(silent_s, has_delivered=client.data_frames > 0):
            reason = f"no data for {silent_s:.1f} s"
            self._recorder.on_stale(client.url, reason)
            drop_client(client, reason)
