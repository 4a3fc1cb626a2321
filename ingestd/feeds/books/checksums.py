"""Whether a book's checksum, as its exchange states it, is that of the book we keep. Pure."""

from __future__ import annotations

from typing import Any

from ingestd.venues.all import FACTS, facts_of
from ingestd.venues.checksums import Book

CHECKED_HERE = frozenset(exchange for exchange, facts in FACTS.items() if facts.books.agrees is not None)
_IN_A_ROW = 2  # contradictions, each of a book that was begun anew: it is not the book then


class Agreements:
    """Which markets are judged by their checksum. One whose checksum has never agreed yet is not: of such a one we do
    not know how to compute it. Nor is one that contradicts book after book."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._contradicted: dict[str, int] = {}

    def contradicted(self, symbol: str, *, agrees: bool) -> bool:
        """Whether what a frame's checksum says of the book is that it is wrong."""
        if agrees:
            self._known.add(symbol)
            self._contradicted.pop(symbol, None)
        if agrees or symbol not in self._known:
            return False
        count = self._contradicted[symbol] = self._contradicted.get(symbol, 0) + 1
        if count > _IN_A_ROW:
            self._known.discard(symbol)
        return count <= _IN_A_ROW


class Checksums:
    """Whether each book agrees with its frame, of the exchange library's books."""

    def __init__(self, exchange: str) -> None:
        """`exchange`: the name its code has in the exchange library."""
        self._agrees = facts_of(exchange).books.agrees
        self._agreements = Agreements()

    def contradict(self, symbol: str, book: Book, frame: Any) -> bool:
        """Whether this frame says that the book, as it is after it, is wrong."""
        agrees = None if self._agrees is None else self._agrees(book, frame)
        return agrees is not None and self._agreements.contradicted(symbol, agrees=agrees)
