"""Subscribes again, one at a time, to streams that a ccxt socket has stopped delivering."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Any

import structlog

from ingestd.feeds.ccxt.channels import ASKED_FOR_WHAT_IS_MISSING, Method
from ingestd.feeds.ccxt.forget import forget_book, forget_stream
from ingestd.feeds.ccxt.subscription import Subscription, Watch
from ingestd.feeds.ccxt.tap import can_forget_books, drop_client
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream

log = structlog.get_logger()

_ASKED_ALONE_S = 5.0


class LostStreams:
    """The queue of streams to subscribe to again. `subscriptions`: the current ones of the exchange object.

    `watch(method)` returns the function that a subscription calls. The calls made here run beside the subscription's
    own call, which may still be waiting for its first answer.
    """

    def __init__(
        self, exchange: Any, subscriptions: Collection[Subscription], watch: Callable[[Method], Watch]
    ) -> None:
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
        carrying = next((s.urls for s in self._subscriptions if any(one is stream for one in s.streams)), {})
        urls = carrying if stream.url is None else {stream.url}  # None: the stream has never delivered
        for client in list((self._exchange.clients or {}).values()):
            if client.url in urls:
                drop_client(client, f"{stream.channel} {stream.symbol} does not come, however often it is asked for")

    async def run(self, stop: Stop) -> None:
        """Subscribe to queued streams until the stop."""
        while not stop.is_set():
            await stop.sleep_or(self._is_any, 3600.0)
            self._is_any.clear()
            while self._lost and not stop.is_set():
                stream = self._lost.pop(next(iter(self._lost)))
                task = await stop.run(self._ask(stream), name=f"ask for {stream.channel} {stream.symbol}")
                error = None if task.cancelled() else task.exception()
                if error is not None:
                    log.info("stream_not_asked_for", symbol=stream.symbol, error=str(error)[:300])

    async def _ask(self, stream: Stream) -> None:
        exchange = self._exchange
        subscription = next((s for s in self._subscriptions if any(one is stream for one in s.streams)), None)
        if subscription is None:
            return
        if subscription.channel == "order_book" and can_forget_books(exchange):
            await forget_book(exchange, stream.symbol)
        elif not forget_stream(exchange, stream.channel, stream.symbol):
            log.info("stream_not_known", exchange=exchange.id, channel=stream.channel, symbol=stream.symbol)
            return
        # Where calls request only missing symbols, repeat the whole call: one for this symbol would use another socket.
        together = exchange.code_name in ASKED_FOR_WHAT_IS_MISSING
        with contextlib.suppress(TimeoutError):  # the request was sent; a rarely traded market takes longer to deliver
            async with asyncio.timeout(_ASKED_ALONE_S):
                await self._watch(subscription.method)(subscription.symbols if together else [stream.symbol])
