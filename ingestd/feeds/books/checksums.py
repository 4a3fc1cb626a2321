"""Compares the checksum that the exchange sends with that of the book we keep. Pure."""

from __future__ import annotations

from typing import Any

from ingestd.venues.all import facts_of
from ingestd.venues.ccxt_books import Book

_IN_A_ROW = 2  # mismatches, each after a fresh snapshot; after more of them we distrust our computation, not the book


class Agreements:
    """Decides which markets' checksums to trust.

    A market whose checksum has never matched is not judged by it: we may compute it wrongly. Nor is a market whose
    checksum contradicts one fresh snapshot after another.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._contradicted: dict[str, int] = {}

    def contradicted(self, symbol: str, *, agrees: bool) -> bool:
        """Count one comparison. Return whether it proves the book wrong."""
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
    """Verifies the checksums of the exchange library's books."""

    def __init__(self, exchange: str) -> None:
        """`exchange`: the id of the exchange in the exchange library."""
        self._agrees = facts_of(exchange).books.agrees
        self._agreements = Agreements()

    def contradict(self, symbol: str, book: Book, frame: Any) -> bool:
        """Whether the checksum in this frame proves the book wrong. `book` already contains the frame's changes."""
        agrees = None if self._agrees is None else self._agrees(book, frame)
        return agrees is not None and self._agreements.contradicted(symbol, agrees=agrees)
