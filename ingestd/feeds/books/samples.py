"""The order books that changed since they were last sampled, and recent states of the audited book. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ingestd.feeds.books.states import AUDITED_LEVELS, BookState, book_state

_KEPT_STATES = 1000


class SampledBook(Protocol):
    """An order book that a feed keeps."""

    def as_mapping(self) -> Mapping[str, Any]:
        """The book in the exchange library's form, down to the depth of an audit."""


class BookSamples:
    """The books of one feed that are due to be sampled."""

    def __init__(self) -> None:
        self._changed: dict[str, SampledBook] = {}
        self._audited: str | None = None
        self._states: deque[BookState] = deque()

    def changed(self, symbol: str, book: SampledBook) -> None:
        """Note that the book changed and is due to be sampled."""
        self._changed[symbol] = book
        if symbol == self._audited:
            self._states.append(book_state(book.as_mapping(), AUDITED_LEVELS))

    def take(self) -> Mapping[str, SampledBook]:
        """Take the books that are due, by symbol, each once."""
        changed, self._changed = self._changed, {}
        return changed

    def discard(self, symbol: str) -> None:
        """Drop a book that no longer equals the exchange's: it is being rebuilt, or is no longer followed."""
        self._changed.pop(symbol, None)
        if symbol == self._audited:
            self._states.clear()

    def keep_states(self, symbol: str, now: Mapping[str, Any]) -> Sequence[BookState]:
        """Start to keep the states of this book, and return them as a live sequence, oldest first.

        It holds the newest thousand, and is cleared when the book is discarded.
        """
        self._audited = symbol
        self._states = deque([book_state(now, AUDITED_LEVELS)], maxlen=_KEPT_STATES)
        return self._states

    def keep_no_states(self) -> None:
        self._audited = None
