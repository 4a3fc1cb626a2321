"""The reasons for a subscription to repeat its call."""

from __future__ import annotations

import asyncio

from ingestd.errors import BookBroken, FeedError


class Signals:
    """Events since the newest call. Each sets `any`. Those that should end a running call also set `urgent`."""

    def __init__(self) -> None:
        self.any = asyncio.Event()
        self.urgent = asyncio.Event()
        self.broken_books: set[str] = set()
        self.has_lost_socket = False
        self._error: FeedError | None = None

    def clear(self) -> None:
        """Forget all events, because a new call begins."""
        self.any.clear()
        self.urgent.clear()
        self.broken_books.clear()
        self.has_lost_socket = False
        self._error = None

    def lose_socket(self) -> None:
        """Note that a socket is lost, or that ccxt gave up one of its subscriptions."""
        self.has_lost_socket = True
        self.any.set()

    def hear(self, error: FeedError) -> None:
        """Note an error that the exchange sent."""
        self._error = error
        self.any.set()
        self.urgent.set()

    def break_book(self, symbol: str) -> None:
        """Note that this order book must be requested again."""
        self.broken_books.add(symbol)
        self.any.set()
        self.urgent.set()

    @property
    def error(self) -> FeedError | None:
        """The error that the exchange sent; None if the socket is lost, since everything is requested again then."""
        return None if self.has_lost_socket else self._error

    @property
    def reason(self) -> FeedError | None:
        """The reason to call again; None if nothing happened."""
        if self.has_lost_socket:
            return FeedError("its socket is gone, or the library gave it up")
        if self._error is None and self.broken_books:
            return BookBroken(f"a broken book: {', '.join(sorted(self.broken_books))}")
        return self._error
