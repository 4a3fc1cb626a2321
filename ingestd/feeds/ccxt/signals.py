"""What happens to a subscription between two calls: the reasons to call again."""

from __future__ import annotations

import asyncio

from ingestd.errors import BookBroken, FeedError


class Signals:
    """Since the newest call. `any` is set with each; `urgent` with those that a call under way need not wait for."""

    def __init__(self) -> None:
        self.any = asyncio.Event()
        self.urgent = asyncio.Event()
        self.broken_books: set[str] = set()
        self.has_lost_socket = False
        self._error: FeedError | None = None

    def clear(self) -> None:
        """A new call begins."""
        self.any.clear()
        self.urgent.clear()
        self.broken_books.clear()
        self.has_lost_socket = False
        self._error = None

    def lose_socket(self) -> None:
        """A socket is gone, or the exchange library has given it up."""
        self.has_lost_socket = True
        self.any.set()

    def hear(self, error: FeedError) -> None:
        """The venue sent an error."""
        self._error = error
        self.any.set()
        self.urgent.set()

    def break_book(self, symbol: str) -> None:
        """This book must be asked for again."""
        self.broken_books.add(symbol)
        self.any.set()
        self.urgent.set()

    @property
    def error(self) -> FeedError | None:
        """What the venue sent, unless its socket is gone: then everything is asked for again in any case."""
        return None if self.has_lost_socket else self._error

    @property
    def reason(self) -> FeedError | None:
        """Why to call again; None if nothing happened."""
        if self.has_lost_socket:
            return FeedError("its socket is gone, or the library gave it up")
        if self._error is None and self.broken_books:
            return BookBroken(f"a broken book: {', '.join(sorted(self.broken_books))}")
        return self._error
