"""Which books have changed since they were last sampled, which are broken, and one book's recent states. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ingestd.feeds.books.states import AUDITED_LEVELS, BookState, book_state

_KEPT_STATES = 1000

Book = Mapping[str, Any]
Stamp = tuple[Any, Any]


class BookSamples:
    """Between the exchange library, whose books change in place, and the samples of them that become records."""

    def __init__(self) -> None:
        self._changed: dict[str, tuple[Book, int, Stamp]] = {}
        self._broken: set[str] = set()
        self._kept: tuple[str, deque[BookState]] | None = None

    def delivered(self, symbol: str, book: Book) -> None:
        """The book is as the venue has it now."""
        self._broken.discard(symbol)
        if self._kept is not None and self._kept[0] == symbol:
            self._kept[1].append(book_state(book, AUDITED_LEVELS))

    def changed(self, symbol: str, book: Book, received_at: int) -> None:
        """The book is to be sampled."""
        self._changed[symbol] = book, received_at, _stamp(book)

    def take(self) -> Iterator[tuple[str, Book, int]]:
        """The books to sample, each once. One that has changed again and was not handed over since is left out."""
        changed, self._changed = self._changed, {}
        for symbol, (book, received_at, stamp) in changed.items():
            if _stamp(book) == stamp:
                yield symbol, book, received_at

    def replaced(self, symbol: str) -> None:
        """The symbol has another book now, or none."""
        self._changed.pop(symbol, None)
        if self._kept is not None and self._kept[0] == symbol:
            self._kept[1].clear()

    def interrupted(self, symbol: str) -> None:
        """The stream of the book is interrupted."""
        self._changed.pop(symbol, None)
        self._broken.discard(symbol)

    def is_broken(self, symbol: str) -> bool:
        """Whether the book is wrong and has not been delivered since."""
        return symbol in self._broken

    def broken(self, symbol: str) -> None:
        """The book is wrong until it is `delivered` again."""
        self.replaced(symbol)
        self._broken.add(symbol)

    def forget_all(self) -> None:
        """Every book belonged to an exchange object that is gone."""
        self._changed.clear()
        self._broken.clear()

    def keep_states(self, symbol: str, now: Book) -> Sequence[BookState]:
        """The states of this one book from now on, the oldest first; of many those after the newest thousand updates.

        Emptied when the book is begun anew.
        """
        self._kept = symbol, deque([book_state(now, AUDITED_LEVELS)], maxlen=_KEPT_STATES)
        return self._kept[1]

    def keep_no_states(self) -> None:
        """Keep the states of no book."""
        self._kept = None


def named_in(message_hash: str, symbols: Iterable[str]) -> str | None:
    """The symbol of `orderbook:BTC/USDT`, `books:BTC/USDT:USDT` or `orderbook@BTC/USDT`, if it is one of these."""
    ending = [symbol for symbol in symbols if message_hash.endswith((f":{symbol}", f"@{symbol}"))]
    return max(ending, key=len, default=None)


def _stamp(book: Book) -> Stamp:
    """What differs whenever the venue's code has touched the book."""
    return book.get("nonce"), book.get("timestamp")
