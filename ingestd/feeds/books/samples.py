"""Which order books have changed since they were last sampled, and the recent states of the one being audited. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from ingestd.feeds.books.states import AUDITED_LEVELS, BookState, book_state

_KEPT_STATES = 1000


class SampledBook(Protocol):
    """An order book that a feed keeps."""

    def as_mapping(self) -> Mapping[str, Any]:
        """The book in the exchange library's form, as far down as an audit looks."""


Book = TypeVar("Book", bound=SampledBook)


class BookSamples(Generic[Book]):
    """The books of one feed. A book is discarded when it is no longer the exchange's."""

    def __init__(self) -> None:
        self._changed: dict[str, Book] = {}
        self._audited: str | None = None
        self._states: deque[BookState] = deque()

    def changed(self, symbol: str, book: Book) -> None:
        """The book is to be sampled."""
        self._changed[symbol] = book
        if symbol == self._audited:
            self._states.append(book_state(book.as_mapping(), AUDITED_LEVELS))

    def take(self) -> Iterator[tuple[str, Book]]:
        """The books to sample, each once."""
        changed, self._changed = self._changed, {}
        return iter(changed.items())

    def discard(self, symbol: str) -> None:
        """The book is no longer the exchange's: it is rebuilt, or not followed any more."""
        self._changed.pop(symbol, None)
        if symbol == self._audited:
            self._states.clear()

    def keep_states(self, symbol: str, now: Mapping[str, Any]) -> Sequence[BookState]:
        """The states of this one book from now on, oldest first, at most the newest thousand.

        They are cleared when the book is discarded.
        """
        self._audited = symbol
        self._states = deque([book_state(now, AUDITED_LEVELS)], maxlen=_KEPT_STATES)
        return self._states

    def keep_no_states(self) -> None:
        """Keep the states of no book."""
        self._audited = None
