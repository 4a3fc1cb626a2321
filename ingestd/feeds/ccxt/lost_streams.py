"""Asks again, one at a time, for the streams that a socket of the exchange library has stopped to deliver."""

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
    """`subscriptions` are those of the exchange object as they are now; `watch(method)` is the call one of them makes.

    A call is made beside the subscription's own, which may still wait for its first answer.
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
        """On its own socket first; at the second, fourth, eighth … attempt that one is dialled again, with all that it
        carries: the others miss something then, for one that may never come again."""
        if attempt == 1 or attempt & (attempt - 1):
            self._lost[id(stream)] = stream
            self._is_any.set()
            return
        carrying = next((s.urls for s in self._subscriptions if any(one is stream for one in s.streams)), {})
        urls = carrying if stream.url is None else {stream.url}  # None: it has never delivered
        for client in list((self._exchange.clients or {}).values()):
            if client.url in urls:
                drop_client(client, f"{stream.channel} {stream.symbol} does not come, however often it is asked for")

    async def run(self, stop: Stop) -> None:
        """Until the stop."""
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
        # Where a call asks for what is missing only, one for this stream alone would go to another socket.
        together = exchange.code_name in ASKED_FOR_WHAT_IS_MISSING
        with contextlib.suppress(TimeoutError):  # it was asked for; one that is seldom traded takes longer to answer
            async with asyncio.timeout(_ASKED_ALONE_S):
                await self._watch(subscription.method)(subscription.symbols if together else [stream.symbol])
