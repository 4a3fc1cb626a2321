"""Books that have to be begun: with a REST snapshot, or by asking for the stream again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog

from ingestd.clock import monotonic_s
from ingestd.errors import FeedError, RateLimited
from ingestd.feeds.books import ladder
from ingestd.feeds.books.ladder import BookLadder, Rung
from ingestd.feeds.native.recorder import NativeRecorder
from ingestd.feeds.stopping import Stop
from ingestd.retry import Backoff
from ingestd.venues.exact import decimal_text

log = structlog.get_logger()

SNAPSHOT_LEVELS = 1000
SETTLED_S = 30.0  # a book that has stood so long starts its delays over
REPLY_WITHIN_S = 60.0  # the library's pace included
_WORKERS = 4  # no more books than this wait for a reply, and gather changes meanwhile

Fetch = Callable[[str, int | None], Coroutine[Any, Any, Mapping[str, Any]]]


class Rebuilding:
    """A queue of books with a worker or several; each book has delays of its own, so that one that breaks often holds
    no other up.

    `fetch(symbol, levels)` is the venue's book over REST, in the exchange library's form (None: the stream brings it);
    `ask_again(symbol)` ends the stream and asks for it anew; when that brings no whole book, `give_up(symbol)` gives
    its socket up.
    """

    def __init__(
        self,
        recorder: NativeRecorder,
        fetch: Fetch | None,
        *,
        ask_again: Callable[[str], None],
        give_up: Callable[[str], None],
        label: str,
    ) -> None:
        self._recorder = recorder
        self._fetch = fetch
        self._ask_again = ask_again
        self._give_up = give_up
        self._ladder = BookLadder(stands=True)
        self._label = label
        self._due_s: dict[str, float] = {}
        self._delays: dict[str, tuple[Backoff, float]] = {}  # and when it was last begun
        self._some = asyncio.Event()
        self._paused_until_s = 0.0
        self.workers = _WORKERS if fetch is not None else 1

    def begin(self, symbol: str) -> None:
        """Its changes come, or are about to."""
        self._due_s.setdefault(symbol, monotonic_s())
        self._some.set()

    def broken(self, symbol: str) -> None:
        """It is wrong: begin it anew, after a while."""
        self._ladder.broken(symbol)
        self._later(symbol)

    async def run(self, stop: Stop) -> None:
        """One worker, until the stop."""
        while not stop.is_set():
            symbol = self._next()
            if symbol is None:
                self._some.clear()
                await stop.sleep_or(self._some, self._wait_s())
            elif self._fetch is None:
                self._ask(symbol)
            elif self._recorder.needs_snapshot(symbol):
                await self._from_rest(symbol, self._fetch, stop)

    def _ask(self, symbol: str) -> None:
        """Ask for its stream, and look later whether that brought a whole book."""
        if self._recorder.book(symbol) is not None or symbol not in self._recorder.streams["order_book"]:
            self._ladder.whole(symbol)
            return
        now_s = monotonic_s()
        rung = self._ladder.asking(symbol) or dict(self._ladder.overdue(now_s)).get(symbol)
        if rung is not None:
            log.info("book_asked_for", feed=self._label, symbol=symbol, how=rung.name.lower())
            ask = self._give_up if rung is Rung.SOCKET else self._ask_again
            ask(symbol)
            self._ladder.asked(symbol, now_s)
        self._due_s.setdefault(symbol, now_s + ladder.SNAPSHOT_WITHIN_S)

    def _next(self) -> str | None:
        now_s = monotonic_s()
        if now_s < self._paused_until_s:
            return None
        symbol = next((symbol for symbol, due_s in self._due_s.items() if due_s <= now_s), None)
        if symbol is not None:
            del self._due_s[symbol]
        return symbol

    def _wait_s(self) -> float:
        now_s = monotonic_s()
        until_s = max(min(self._due_s.values(), default=now_s + 3600.0), self._paused_until_s)
        return max(0.001, until_s - now_s)

    async def _from_rest(self, symbol: str, fetch: Fetch, stop: Stop) -> None:
        self._recorder.snapshot_asked(symbol)
        task = await stop.run(_within(fetch(symbol, SNAPSHOT_LEVELS)), name=f"book {symbol}")
        if stop.is_set():
            return
        raised = FeedError("given up by the exchange library") if task.cancelled() else task.exception()
        if raised is None:
            if not self._recorder.begin_book(symbol, _as_texts(task.result())):
                log.info("book_snapshot_did_not_fit", feed=self._label, symbol=symbol)
                self._later(symbol)
            return
        self._recorder.snapshot_failed(symbol)
        log.warning("book_snapshot_failed", feed=self._label, symbol=symbol, error=str(raised)[:300])
        if isinstance(raised, RateLimited):
            self._paused_until_s = monotonic_s() + raised.pause_s
        self._later(symbol)

    def _later(self, symbol: str) -> None:
        now_s = monotonic_s()
        backoff, last_s = self._delays.get(symbol, (Backoff(), now_s))
        if now_s - last_s >= SETTLED_S:
            backoff.settled()
        self._delays[symbol] = backoff, now_s
        self._due_s[symbol] = now_s + backoff.next_s()
        self._some.set()


async def _within(work: Coroutine[Any, Any, Any]) -> Any:
    async with asyncio.timeout(REPLY_WITHIN_S):
        return await work


def _as_texts(book: Mapping[str, Any]) -> Mapping[str, Any]:
    """The library's numbers as the texts they were sent in."""
    return {
        **book,
        "bids": [(decimal_text(price) or "", decimal_text(amount) or "") for price, amount, *_ in book["bids"]],
        "asks": [(decimal_text(price) or "", decimal_text(amount) or "") for price, amount, *_ in book["asks"]],
    }
