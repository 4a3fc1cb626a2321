"""Order books, kept up to date from the changes that an exchange sends. Pure.

A side is a dictionary by price, sorted only when it is sampled: measured on 2,000 levels and messages of 40 rows, a
change costs 0.4 µs a row so, 0.75 with a sorted list beside it and 1.2 in a sorted dictionary, and a sample 25 µs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Literal

from ingestd.feeds.books.checksums import Agreements
from ingestd.feeds.books.states import AUDITED_LEVELS
from ingestd.records import BookSnapshot, Level
from ingestd.venues.messages import BookChange, Row
from ingestd.venues.venue import BookChecks, BookRule

MOST_WAITING = 5_000  # changes of one book that wait for its REST snapshot; then it is begun anew
_MOST_LEVELS = 10_000  # of a side; then the worst half goes
_SEQUENCE_LIMIT = 2**63

Effect = Literal["changed", "nothing", "sequence", "checksum"]
"""What a change did to the book. "sequence", "checksum": it shows that the book is wrong."""


class Side:
    """The levels of one side by price, of bids by the negative price, so that the best is always the lowest."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._levels: dict[float, Level] = {}
        self._order: list[float] | None = []

    def parsed(self, rows: Sequence[Row]) -> list[tuple[float, float, Level]]:
        """Rows as (key, amount, level). Raises ValueError when a row is not a price and an amount."""
        sign = self._sign
        try:
            parsed = [(sign * float(row[0]), float(row[1]), (row[0], row[1])) for row in rows]
        except (IndexError, TypeError) as error:
            raise ValueError(f"a book's row is no price and amount: {error}") from error
        if not all([isfinite(key) and amount >= 0.0 for key, amount, _ in parsed]):  # noqa: C419 - half the time
            raise ValueError("a book's row has a number that is none")
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
            else:  # a level keeps the text its price first came with
                levels[key] = level if held[0] == level[0] else (held[0], level[1])
        if len(levels) > _MOST_LEVELS:
            self.keep_best(_MOST_LEVELS // 2)

    def replace(self, parsed: Sequence[tuple[float, float, Level]]) -> None:
        """Replace every level by these."""
        self._levels.clear()
        self._order = None
        self.put(parsed)

    def keep_best(self, count: int) -> None:
        """Remove all but the best levels."""
        if len(self._levels) > count:
            best = self._sorted()[:count]
            self._levels = {key: self._levels[key] for key in best}
            self._order = best

    def best(self, count: int) -> tuple[Level, ...]:
        """The best levels, best first."""
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
        self.time = 0  # of the exchange; 0: it stated none
        self.received_at = 0
        self.in_step = False  # whether it is the exchange's
        self.waiting: list[BookChange] | None = None  # for the REST snapshot; None: none was asked for
        self._depth = depth

    def replace(self, bids: Sequence[Row], asks: Sequence[Row]) -> None:
        """Replace the book by a snapshot. Raises ValueError and leaves the book as it was."""
        parsed_bids, parsed_asks = self.bids.parsed(bids), self.asks.parsed(asks)
        self.bids.replace(parsed_bids)
        self.asks.replace(parsed_asks)
        self._cut()

    def change(self, bids: Sequence[Row], asks: Sequence[Row]) -> None:
        """Apply changes. Raises ValueError and leaves the book as it was."""
        parsed_bids, parsed_asks = self.bids.parsed(bids), self.asks.parsed(asks)
        self.bids.put(parsed_bids)
        self.asks.put(parsed_asks)
        self._cut()

    def snapshot(self, exchange: str, levels: int) -> BookSnapshot | None:
        """The best levels as a record; None when there are none. It is not `valid` when the sides cross."""
        bids, asks = self.bids.best(levels), self.asks.best(levels)
        if not bids and not asks:
            return None
        valid = not (bids and asks and float(bids[0][0]) >= float(asks[0][0]))
        sequence = self.sequence if self.sequence is not None and self.sequence < _SEQUENCE_LIMIT else None
        time = self.time or self.received_at
        return BookSnapshot(exchange, self.symbol, time, self.received_at, bids, asks, sequence, valid)

    def as_mapping(self) -> Mapping[str, Any]:
        """In the exchange library's form, as far down as an audit looks."""
        return {
            "bids": self.bids.best(AUDITED_LEVELS),
            "asks": self.asks.best(AUDITED_LEVELS),
            "nonce": self.sequence,
        }

    def _cut(self) -> None:
        """Remove levels beyond a fixed depth: the exchange does not say that a level has left it."""
        if self._depth is not None:
            self.bids.keep_best(self._depth)
            self.asks.keep_best(self._depth)


class Books:
    """Every order book of a feed. `over_rest`: books begin with a REST snapshot; otherwise the stream brings one."""

    def __init__(self, rule: BookRule, *, over_rest: bool) -> None:
        self._rule = rule
        self._checks = rule if isinstance(rule, BookChecks) else None
        self._depth = self._checks.depth if self._checks is not None else None
        self._over_rest = over_rest
        self._books: dict[str, Book] = {}
        self._agreements = Agreements()

    def follow(self, symbol: str) -> None:
        """Keep the book of this symbol from now on."""
        if symbol not in self._books:
            self._books[symbol] = Book(symbol, self._depth)

    def forget(self, symbol: str) -> None:
        """Stop keeping the book of this symbol."""
        self._books.pop(symbol, None)

    def get(self, symbol: str) -> Book | None:
        """The book; None while it is not the exchange's."""
        book = self._books.get(symbol)
        return book if book is not None and book.in_step else None

    def interrupted(self, symbol: str) -> None:
        """The book is no longer the exchange's: it begins anew."""
        if symbol in self._books:
            self._books[symbol] = Book(symbol, self._depth)

    def take(self, change: BookChange) -> Effect:
        """Apply one message. Raises ValueError and applies nothing of it."""
        book = self._books.get(change.symbol)
        if book is None:
            return "nothing"
        if change.is_snapshot:
            book.replace(change.bids, change.asks)
            book.in_step = True
        elif not book.in_step:
            self._wait(book, change)
            return "nothing"
        else:
            follows = self._rule.follows(change, book.sequence)
            if not follows:
                return "sequence" if follows is False else "nothing"
            book.change(change.bids, change.asks)
        return self._taken(book, change)

    def needs_snapshot(self, symbol: str) -> bool:
        """Whether a REST snapshot must be asked for."""
        book = self._books.get(symbol)
        return self._over_rest and book is not None and not book.in_step and book.waiting is None

    def asked(self, symbol: str) -> None:
        """A REST snapshot is being asked for: keep changes until it comes."""
        book = self._books.get(symbol)
        if book is not None and not book.in_step:
            book.waiting = []

    def given_up(self, symbol: str) -> None:
        """The REST snapshot did not come."""
        book = self._books.get(symbol)
        if book is not None:
            book.waiting = None

    def begin(self, symbol: str, snapshot: Mapping[str, Any], received_at: int) -> bool:
        """Begin the book with a REST snapshot, in the exchange library's form with texts, and the changes that waited.

        False: a change is missing between the two, or something is malformed, and another snapshot is needed.
        """
        book = self._books.get(symbol)
        if book is None or book.in_step or book.waiting is None:
            return True
        waited, book.waiting = book.waiting, None
        try:
            book.replace(snapshot["bids"], snapshot["asks"])
            book.sequence = snapshot["nonce"]
            for change in waited:
                follows = self._rule.follows(change, book.sequence)
                if follows is False:
                    return False
                if follows:
                    book.change(change.bids, change.asks)
                    self._note(book, change)
        except (ValueError, KeyError, TypeError):
            return False
        if not book.time:
            book.time = int(snapshot.get("timestamp") or 0) * 1000
        book.received_at = received_at
        book.in_step = True
        return True

    def _wait(self, book: Book, change: BookChange) -> None:
        if book.waiting is not None:
            book.waiting.append(change)
            if len(book.waiting) > MOST_WAITING:
                book.waiting = None

    def _taken(self, book: Book, change: BookChange) -> Effect:
        self._note(book, change)
        checks = self._checks
        if checks is not None and change.checksum is not None:
            agrees = checks.agrees(change, book.bids.best, book.asks.best)
            if self._agreements.contradicted(book.symbol, agrees=agrees):
                return "checksum"
        return "changed"

    def _note(self, book: Book, change: BookChange) -> None:
        book.sequence = change.last
        book.time = change.time
        book.received_at = change.received_at
