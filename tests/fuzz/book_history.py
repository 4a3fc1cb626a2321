"""What is played through the books of many venues to see that those stored as valid are the venue's."""

from __future__ import annotations

from collections.abc import Iterator

from ingestd.records import BookSnapshot
from tests.support import book_venues
from tests.support.book_life import Life
from tests.support.book_venues import BOOK_VENUES, ModelBook

# Each message of Upbit's is a whole book, so that nothing is lost with a cut.
VENUES = tuple(venue for venue in BOOK_VENUES if venue.exchange != "upbit")
_PRICES = tuple(f"{100 + step / 4:g}" for step in range(8))


class BookHistory:
    """A venue's book and ours. The venue changes its own whether it is listened to or not."""

    def __init__(self, choice: int) -> None:
        self.life = Life(VENUES[choice % len(VENUES)])
        self.book = ModelBook()
        self.is_begun = False  # a whole one came on this socket
        self.judged = 0  # so many records

    def play(self, data: bytes) -> None:
        """A byte says what happens, the next one how."""
        how = iter(data)
        for what in how:
            self._event(what % 8, how)
            self._judge()

    def _event(self, what: int, how: Iterator[int]) -> None:
        if what == 0 or (what == 1 and not self.is_begun):
            self._whole(next(how, 1), next(how, 16))
        elif what == 5:
            self._cut()
        elif what == 6:  # what the lost socket had still brought
            lost = self.life.wire.client
            self._cut()
            self.life.wire.client, new = lost, self.life.wire.client
            self._change(next(how, 0))
            self.life.wire.client = new
        elif what == 7:  # nobody listens for a while
            self._cut()
            self.book.change("bids" if next(how, 0) & 1 else "asks", _PRICES[next(how, 0) % 8], str(next(how, 0) % 4))
        else:
            self._change(next(how, 0))

    def _whole(self, bids: int, asks: int) -> None:
        """The bits say which prices there are; at least one on each side."""
        self.book = ModelBook()
        for side, bits in (("bids", bids or 1), ("asks", asks or 128)):
            for place, price in enumerate(_PRICES):
                if bits >> place & 1:
                    self.book.change(side, price, f"{place + 1}.5")
        self.life.whole(self.book)
        self.is_begun = True

    def _change(self, how: int) -> None:
        self.life.change(self.book, "bids" if how & 1 else "asks", _PRICES[how >> 1 & 7], str(how >> 4 & 3))

    def _cut(self) -> None:
        self.life.cut()
        self.life.begin()
        self.is_begun = False

    def _judge(self) -> None:
        records = self.life.wire.intake.of(BookSnapshot)
        for record in records[self.judged :]:
            assert self.is_begun, "a book of changes alone, or of another socket"
            crossed = record.bids and record.asks and float(record.bids[0][0]) >= float(record.asks[0][0])
            assert record.valid is not bool(crossed)
            assert book_venues.stored(record) == self.book.as_numbers()
        self.judged = len(records)
        assert self.life.wire.ledger.counts.malformed_frames == 0
