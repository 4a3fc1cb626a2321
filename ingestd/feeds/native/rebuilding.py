"""Rebuilds order books: with a REST snapshot, or by subscribing to their stream again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

import structlog

from ingestd.clock import monotonic_s
from ingestd.errors import RateLimited
from ingestd.feeds.books import ladder
from ingestd.feeds.books.ladder import Rung
from ingestd.feeds.native.message_reader import MessageReader
from ingestd.feeds.stopping import Stop, failure_of
from ingestd.venues.exact import decimal_text

log = structlog.get_logger()

SNAPSHOT_LEVELS = 1000
REPLY_WITHIN_S = 60.0  # including the wait for ccxt's rate limiter
_WORKERS = 4  # most books that wait for a snapshot at the same time, buffering changes meanwhile

Fetch = Callable[[str, int | None], Coroutine[Any, Any, Mapping[str, Any]]]


class BookStreams(Protocol):
    """The streams of order books, and their sockets."""

    def ask_for_book_again(self, symbol: str) -> None:
        """Unsubscribe from the book's stream and subscribe again."""

    def give_up_socket_of_book(self, symbol: str) -> None:
        """Close the socket that carries the book's stream: all streams of the socket move to its successor."""


class Rebuilding:
    """Workers that rebuild the books in the reader's queue.

    `fetch(symbol, levels)` fetches the exchange's book over REST as a ccxt dict; None if the stream delivers snapshots.
    """

    def __init__(self, reader: MessageReader, streams: BookStreams, fetch: Fetch | None, *, label: str) -> None:
        self._reader = reader
        self._queue = reader.rebuilds
        self._streams = streams
        self._fetch = fetch
        self._label = label
        self.workers = _WORKERS if fetch is not None else 1

    async def run(self, stop: Stop) -> None:
        """Run one worker until the stop."""
        while (symbol := await self._queue.next(stop)) is not None:
            if self._fetch is None:
                self._ask(symbol)
            elif self._reader.books.needs_snapshot(symbol):
                await self._from_rest(symbol, self._fetch, stop)

    def _ask(self, symbol: str) -> None:
        """Subscribe to the book's stream again, and check later whether that delivered a snapshot."""
        steps = self._queue.ladder
        if self._reader.book(symbol) is not None or symbol not in self._reader.ledger.streams["order_book"]:
            steps.whole(symbol)
            return
        now_s = monotonic_s()
        rung = steps.asking(symbol) or dict(steps.overdue(now_s)).get(symbol)
        if rung is not None:
            log.info("book_asked_for", feed=self._label, symbol=symbol, how=rung.name.lower())
            if rung is Rung.SOCKET:
                self._streams.give_up_socket_of_book(symbol)
            else:
                self._streams.ask_for_book_again(symbol)
            steps.asked(symbol, now_s)
        self._queue.add(symbol, in_s=ladder.SNAPSHOT_WITHIN_S)

    async def _from_rest(self, symbol: str, fetch: Fetch, stop: Stop) -> None:
        books = self._reader.books
        books.asked(symbol)
        work = asyncio.wait_for(fetch(symbol, SNAPSHOT_LEVELS), REPLY_WITHIN_S)
        task = await stop.run(work, name=f"book {symbol}")
        if stop.is_set():
            return
        raised = failure_of(task)
        if raised is None:
            if not self._reader.begin_book(symbol, _as_texts(task.result())):
                log.info("book_snapshot_did_not_fit", feed=self._label, symbol=symbol)
                self._queue.retry(symbol)
            return
        books.given_up(symbol)
        log.warning("book_snapshot_failed", feed=self._label, symbol=symbol, error=str(raised)[:300])
        if isinstance(raised, RateLimited):
            self._queue.pause(raised.pause_s)
        self._queue.retry(symbol)


def _as_texts(book: Mapping[str, Any]) -> Mapping[str, Any]:
    """The book with ccxt's numbers converted to the texts in which they were sent."""
    return {
        **book,
        "bids": [(decimal_text(price) or "", decimal_text(amount) or "") for price, amount, *_ in book["bids"]],
        "asks": [(decimal_text(price) or "", decimal_text(amount) or "") for price, amount, *_ in book["asks"]],
    }
