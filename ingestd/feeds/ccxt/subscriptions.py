"""The subscriptions of one ccxt exchange object: forwards events to them, closes connections that none needs, and
subscribes again to streams that a socket has stopped delivering."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from typing import Any

import structlog

from ingestd.errors import FeedError
from ingestd.feeds.ccxt.forget import forget_book, forget_stream
from ingestd.feeds.ccxt.subscription import Subscription, Watch
from ingestd.feeds.ccxt.tap import can_forget_books
from ingestd.feeds.ccxt.tapped_client import drop_client
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream

log = structlog.get_logger()

_ASKED_ALONE_S = 5.0


class Subscriptions:
    """Keeps each subscription alive, and replaces a split subscription by its parts."""

    def __init__(self) -> None:
        self.all: set[Subscription] = set()

    def keep(self, tasks: asyncio.TaskGroup, subscription: Subscription, stop: Stop, label: str) -> None:
        """Run this subscription, then its replacements."""
        self.all.add(subscription)

        async def keep() -> None:
            replacements = await subscription.run(stop)
            self.all.discard(subscription)
            for replacement in replacements:
                self.keep(tasks, replacement, stop, label)

        tasks.create_task(keep(), name=f"{label} {subscription.name}")

    def wake(self, url: str) -> None:
        """Tell the subscriptions that a connection is lost, or that ccxt gave up one of its streams."""
        for subscription in list(self.all):
            subscription.wake(url)

    def refused(self, url: str, error: FeedError) -> None:
        """Tell the subscriptions that the exchange sent an error over this connection."""
        for subscription in list(self.all):
            subscription.refused(url, error)

    def ask_for_book(self, symbol: str) -> None:
        """Request this order book again."""
        for subscription in list(self.all):
            subscription.wake_for(symbol)

    def streams_on(self, urls: Collection[str]) -> list[Stream]:
        """The streams of all subscriptions on any of these connections."""
        asked = [subscription for subscription in self.all if any(url in urls for url in subscription.urls)]
        return [stream for subscription in asked for stream in subscription.streams]

    def problem(self) -> str | None:
        """A sentence about subscriptions refused with an error that names no symbol; None if there are none."""
        refused = [(s, error) for s in self.all if (error := s.refused_without_a_name) is not None]
        if not refused:
            return None
        named = ", ".join(sorted(subscription.name for subscription, _ in refused)[:3])
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        return (
            f"the venue answers with an error that names no symbol, and no data arrives for {named}{more}: "
            f"{refused[0][1][:200]}"
        )

    def close_unneeded(self, clients: Mapping[str, Any]) -> None:
        """Close connections that no subscription needs, because their streams have moved to others."""
        needed = {url for subscription in self.all for url in subscription.urls}
        given_up: set[str] = set()
        for subscription in self.all:
            if not subscription.has_moved():
                continue
            for url in subscription.sockets.left - needed:
                if not any(url in other.sockets.left and not other.has_moved() for other in self.all):
                    given_up.add(url)
            if not (subscription.sockets.left - needed - given_up):
                subscription.settle_move()
        for url in given_up:
            client = clients.get(url)
            if client is not None:
                client.leave("its streams have moved to another socket")


class LostStreams:
    """The queue of streams to subscribe to again. `subscriptions`: the current ones of the exchange object.

    The calls made here run beside the subscription's own call, which may still be waiting for its first answer.
    """

    def __init__(self, exchange: Any, subscriptions: Collection[Subscription], watch: Watch) -> None:
        self._exchange = exchange
        self._subscriptions = subscriptions
        self._watch = watch
        self._lost: dict[int, Stream] = {}
        self._is_any = asyncio.Event()

    def ask_for(self, stream: Stream, attempt: int) -> None:
        """Subscribe again on the same socket. On the second, fourth, eighth … attempt reconnect the socket instead;
        rarely, because its other streams lose data meanwhile, and this one may never return."""
        if attempt == 1 or attempt & (attempt - 1):
            self._lost[id(stream)] = stream
            self._is_any.set()
            return
        subscription = self._subscription_of(stream)
        carrying = () if subscription is None else subscription.urls
        urls = carrying if stream.url is None else {stream.url}  # None: the stream has never delivered
        for client in list((self._exchange.clients or {}).values()):
            if client.url in urls:
                drop_client(client, f"{stream.channel} {stream.symbol} does not come, however often it is asked for")

    async def run(self, stop: Stop) -> None:
        """Subscribe to queued streams until the stop."""
        while await stop.wait_for(self._is_any):
            while self._lost and not stop.is_set():
                stream = self._lost.pop(next(iter(self._lost)))
                task = await stop.run(self._ask(stream), name=f"ask for {stream.channel} {stream.symbol}")
                error = None if task.cancelled() else task.exception()
                if error is not None:
                    log.info("stream_not_asked_for", symbol=stream.symbol, error=str(error)[:300])

    async def _ask(self, stream: Stream) -> None:
        exchange = self._exchange
        subscription = self._subscription_of(stream)
        if subscription is None:
            return
        if subscription.channel == "order_book" and can_forget_books(exchange):
            await forget_book(exchange, stream.symbol)
        elif not forget_stream(exchange, stream.channel, stream.symbol):
            log.info("stream_not_known", exchange=exchange.id, channel=stream.channel, symbol=stream.symbol)
            return
        # Where calls request only missing symbols, repeat the whole call: one for this symbol would use another socket.
        books = exchange.book_facts
        together = books.over_rest or books.streams_path or books.asks_only_for_new
        with contextlib.suppress(TimeoutError):  # the request was sent; a rarely traded market takes longer to deliver
            async with asyncio.timeout(_ASKED_ALONE_S):
                await self._watch(subscription.method, subscription.symbols if together else [stream.symbol])

    def _subscription_of(self, stream: Stream) -> Subscription | None:
        return next((s for s in self._subscriptions if any(one is stream for one in s.streams)), None)
