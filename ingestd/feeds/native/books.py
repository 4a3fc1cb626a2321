"""Order books, updated from the changes that an exchange sends. Pure.

A side is a dictionary by price that is sorted only when it is sampled. Measured with 2,000 levels and messages of 40
rows, a change takes 0.4 µs per row, against 0.75 µs with an additional sorted list and 1.2 µs with a sorted
dictionary. A sample takes 25 µs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Literal

from ingestd.feeds.books.checksums import Agreements
from ingestd.feeds.books.states import AUDITED_LEVELS
from ingestd.records import BookSnapshot, Level
from ingestd.venues.messages import BookChange, Row
from ingestd.venues.venue import BookRule

MOST_WAITING = 5_000  # changes buffered for one book's REST snapshot; beyond that the snapshot is requested again
_MOST_LEVELS = 10_000  # per side; beyond that the worst half is dropped
_SEQUENCE_LIMIT = 2**63

Effect = Literal["changed", "nothing", "sequence", "checksum"]
"""The effect of a change on the book. "sequence" and "checksum" mean that the book is wrong."""


class Side:
    """The levels of one side, keyed by price; bids by negative price, so that the best level has the lowest key."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._levels: dict[float, Level] = {}
        self._order: list[float] | None = []

    def parsed(self, rows: Sequence[Row]) -> list[tuple[float, float, Level]]:
        """Rows as (key, amount, level). Raises ValueError if a row is not a price and an amount."""
        sign = self._sign
        try:
            parsed = [(sign * float(row[0]), float(row[1]), (row[0], row[1])) for row in rows]
        except (IndexError, TypeError) as error:
            raise ValueError(f"a book's row is no price and amount: {error}") from error
        if not all([isfinite(key) and amount >= 0.0 for key, amount, _ in parsed]):  # noqa: C419 - half the time
            raise ValueError("a book's row has a value that is not a valid number")
        return parsed

    def put(self, parsed: Sequence[tuple[float, float, Level]]) -> None:
        """Set the amounts at these prices; zero removes the price."""
        levels = self._levels
        for key, amount, level in parsed:
            if amount == 0.0:
                if levels.pop(key, None) is not None:
                    self._order = None
                continue
            held = levels.get(key)
            if held is None:
                self._order = None
                levels[key] = level
            else:  # keep the text with which the price was first sent
                levels[key] = level if held[0] == level[0] else (held[0], level[1])
        if len(levels) > _MOST_LEVELS:
            self.keep_best(_MOST_LEVELS // 2)

    def clear(self) -> None:
        self._levels.clear()
        self._order = None

    def keep_best(self, count: int) -> None:
        if len(self._levels) > count:
            best = self._sorted()[:count]
            self._levels = {key: self._levels[key] for key in best}
            self._order = best

    def best(self, count: int) -> tuple[Level, ...]:
        levels = self._levels
        return tuple([levels[key] for key in self._sorted()[:count]])

    def _sorted(self) -> list[float]:
        if self._order is None:
            self._order = sorted(self._levels)
        return self._order


class Book:
    """The order book of one symbol."""

    def __init__(self, symbol: str, depth: int | None) -> None:
        self.symbol = symbol
        self.bids, self.asks = Side(-1), Side(1)
        self.sequence: int | None = None
        self.time = 0  # stated by the exchange, in microseconds; 0: not stated
        self.received_at = 0
        self.is_synced = False  # whether the book matches the exchange's
        self.waiting: list[BookChange] | None = None  # changes buffered for the REST snapshot; None: none requested
        self._depth = depth

    def change(self, bids: Sequence[Row], asks: Sequence[Row], *, is_snapshot: bool) -> None:
        """Apply changes, or replace the book by a snapshot. A bad row raises ValueError and changes nothing."""
        parsed_bids, parsed_asks = self.bids.parsed(bids), self.asks.parsed(asks)
        if is_snapshot:
            self.bids.clear()
            self.asks.clear()
        self.bids.put(parsed_bids)
        self.asks.put(parsed_asks)
        if self._depth is not None:  # the exchange does not report that a level has left a fixed depth
            self.bids.keep_best(self._depth)
            self.asks.keep_best(self._depth)

    def snapshot(self, exchange: str, levels: int) -> BookSnapshot | None:
        """The best levels as a record; None if both sides are empty. `valid` is False if the sides cross."""
        bids, asks = self.bids.best(levels), self.asks.best(levels)
        if not bids and not asks:
            return None
        valid = not (bids and asks and float(bids[0][0]) >= float(asks[0][0]))
        sequence = self.sequence if self.sequence is not None and self.sequence < _SEQUENCE_LIMIT else None
        time = self.time or self.received_at
        return BookSnapshot(exchange, self.symbol, time, self.received_at, bids, asks, sequence, valid)

    def as_mapping(self) -> Mapping[str, Any]:
        """The book as a ccxt dict, with as many levels as an audit compares."""
        bids, asks = self.bids.best(AUDITED_LEVELS), self.asks.best(AUDITED_LEVELS)
        return {"bids": bids, "asks": asks, "nonce": self.sequence}

    def note(self, change: BookChange) -> None:
        """Note the sequence number and the times of a change that was applied."""
        self.sequence = change.last
        self.time = change.time
        self.received_at = change.received_at


class Books:
    """All order books of a feed. `over_rest`: books start from a REST snapshot instead of one in the stream."""

    def __init__(self, rule: BookRule, *, over_rest: bool) -> None:
        self._rule = rule
        self._over_rest = over_rest
        self._books: dict[str, Book] = {}
        self._agreements = Agreements()

    def follow(self, symbol: str) -> None:
        if symbol not in self._books:
            self._books[symbol] = Book(symbol, self._rule.depth)

    def forget(self, symbol: str) -> None:
        self._books.pop(symbol, None)

    def get(self, symbol: str) -> Book | None:
        """The book; None while it is incomplete or wrong."""
        book = self._books.get(symbol)
        return book if book is not None and book.is_synced else None

    def interrupted(self, symbol: str) -> None:
        """Drop an interrupted book; it starts from the next snapshot."""
        if symbol in self._books:
            self._books[symbol] = Book(symbol, self._rule.depth)

    def take(self, change: BookChange) -> Effect:
        """Apply one message. Raises ValueError for a malformed one, and applies nothing of it."""
        book = self._books.get(change.symbol)
        if book is None:
            return "nothing"
        if not change.is_snapshot:
            if not book.is_synced:
                if book.waiting is not None:
                    book.waiting.append(change)
                    if len(book.waiting) > MOST_WAITING:
                        book.waiting = None
                return "nothing"
            follows = self._rule.follows(change, book.sequence)
            if not follows:
                return "sequence" if follows is False else "nothing"
        book.change(change.bids, change.asks, is_snapshot=change.is_snapshot)
        book.is_synced = True
        book.note(change)
        if change.checksum is not None:
            agrees = self._rule.agrees(change, book.bids.best, book.asks.best)
            if self._agreements.contradicted(book.symbol, agrees=agrees):
                return "checksum"
        return "changed"

    def needs_snapshot(self, symbol: str) -> bool:
        """Whether a REST snapshot must be requested."""
        book = self._books.get(symbol)
        return self._over_rest and book is not None and not book.is_synced and book.waiting is None

    def asked(self, symbol: str) -> None:
        """Buffer changes from now on, because a REST snapshot is being requested."""
        book = self._books.get(symbol)
        if book is not None and not book.is_synced:
            book.waiting = []

    def given_up(self, symbol: str) -> None:
        """Stop buffering changes, because the request for the REST snapshot failed."""
        book = self._books.get(symbol)
        if book is not None:
            book.waiting = None

    def begin(self, symbol: str, snapshot: Mapping[str, Any], received_at: int) -> bool:
        """Start the book from a REST snapshot, a ccxt dict with numbers as texts, and the buffered changes.

        False if a change between the two is missing or anything is malformed, so that another snapshot is needed.
        """
        book = self._books.get(symbol)
        if book is None or book.is_synced or book.waiting is None:
            return True
        waited, book.waiting = book.waiting, None
        try:
            book.change(snapshot["bids"], snapshot["asks"], is_snapshot=True)
            book.sequence = snapshot["nonce"]
            for change in waited:
                follows = self._rule.follows(change, book.sequence)
                if follows is False:
                    return False
                if follows:
                    book.change(change.bids, change.asks, is_snapshot=False)
                    book.note(change)
        except (ValueError, KeyError, TypeError):
            return False
        if not book.time:
            book.time = int(snapshot.get("timestamp") or 0) * 1000
        book.received_at = received_at
        book.is_synced = True
        return True
