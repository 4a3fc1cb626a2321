"""The queue of order books to rebuild, each with a due time."""

from __future__ import annotations

import asyncio

from ingestd.clock import monotonic_s
from ingestd.feeds.books.ladder import BookLadder
from ingestd.feeds.stopping import Stop
from ingestd.retry import Backoff, Backoffs


class RebuildQueue:
    """Order books to rebuild. Each book has its own delays, so that a book that breaks often does not delay others."""

    def __init__(self) -> None:
        self.ladder = BookLadder(stays_subscribed=True)
        self._due_s: dict[str, float] = {}
        self._delays = Backoffs(Backoff)
        self._paused_until_s = 0.0
        self._added = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether no book waits for a rebuild."""
        return not self._due_s

    def add(self, symbol: str, in_s: float = 0.0) -> None:
        """Rebuild the book in `in_s` seconds; a book in the queue keeps its due time."""
        self._due_s.setdefault(symbol, monotonic_s() + in_s)
        self._added.set()

    def broken(self, symbol: str) -> None:
        """Rebuild a wrong book after a delay."""
        self.ladder.broken(symbol)
        self.retry(symbol)

    def retry(self, symbol: str) -> None:
        """Rebuild the book after a delay that grows with each call."""
        now_s = monotonic_s()
        self._due_s[symbol] = now_s + self._delays.next_s(symbol, now_s)
        self._added.set()

    def pause(self, seconds: float) -> None:
        """Rebuild no book for this many seconds."""
        self._paused_until_s = monotonic_s() + seconds

    async def next(self, stop: Stop) -> str | None:
        """Wait until a book is due and take it off the queue; None at the stop."""
        while not stop.is_set():
            now_s = monotonic_s()
            symbol, due_s = min(self._due_s.items(), key=lambda item: item[1], default=(None, now_s + 3600.0))
            wait_s = max(due_s, self._paused_until_s) - now_s
            if symbol is not None and wait_s <= 0:
                del self._due_s[symbol]
                return symbol
            self._added.clear()
            await stop.sleep_or(self._added, max(0.001, wait_s))
        return None
