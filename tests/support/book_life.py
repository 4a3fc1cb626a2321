"""One book of a venue over the lives of its sockets, without a network."""

from __future__ import annotations

from ingestd.records import BookSnapshot
from tests.support.book_venues import BookVenue, ModelBook, Numbers
from tests.unit.feeds.doubles import Wire


class Life:
    """A feed of one book, and the venue's side of each of its sockets."""

    def __init__(self, venue: BookVenue) -> None:
        self.venue = venue
        self.numbers = Numbers()
        self.wire = Wire(venue.exchange, {venue.symbol: venue.market_id}, venue.url, order_book_interval_ms=0)
        self.begin()

    def begin(self) -> None:
        self.numbers.socket()
        self.wire.client.subscriptions.update(self.venue.noted)
        self.wire.frames(*self.venue.begun(self.numbers))

    def whole(self, book: ModelBook) -> None:
        self.wire.frames(self.venue.whole(book, self.numbers))

    def change(self, book: ModelBook, side: str, price: str, amount: str) -> None:
        book.change(side, price, amount)
        self.wire.frames(self.venue.change((side, price, amount), book, self.numbers))

    def cut(self) -> None:
        self.wire.client.on_close(1006)
        self.wire.client = self.wire.exchange.client(self.venue.url)

    def valid(self) -> list[BookSnapshot]:
        return [book for book in self.wire.intake.of(BookSnapshot) if book.valid]
