"""Takes records out of decoded messages, and applies book changes to the order books."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from ingestd.channels import CHANNEL_OF
from ingestd.clock import now_us
from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Intake
from ingestd.feeds.native.books import Book, Books
from ingestd.feeds.native.rebuild_queue import RebuildQueue
from ingestd.feeds.recording.recorder import Recorder
from ingestd.feeds.streams.ledger import EarlierStreams, Stream
from ingestd.records import Channel, Trade
from ingestd.venues.messages import BookChange, Message
from ingestd.venues.venue import Venue


class MessageReader:
    """Reads the messages of one feed. Outlives the sockets, so that gaps and counters survive."""

    def __init__(self, config: FeedConfig, venue: Venue, intake: Intake, earlier: EarlierStreams | None = None) -> None:
        self.recorder = Recorder(config, intake, self, earlier)
        self.ledger = self.recorder.ledger
        self.books = Books(venue.book_rule, over_rest=venue.book_over_rest)
        self.rebuilds = RebuildQueue()
        self._config = config
        self._units = self.ledger.units
        self._record = self.recorder.take
        self._streams_of: dict[type, dict[str, Stream]] = {
            record: self.ledger.streams[channel] for record, channel in CHANNEL_OF.items()
        }

    def add_stream(self, channel: Channel, symbol: str) -> Stream:
        if channel == "order_book":
            self.books.follow(symbol)
        return self.ledger.add_stream(channel, symbol)

    def take(self, messages: Sequence[Message], on_other: Callable[[Message], None]) -> bool:
        """Record the messages of one frame in order; pass those about the connection itself to `on_other`.

        Return whether any was data. Raises ValueError for a malformed book change; the messages before it are recorded.
        """
        streams_of, units, take = self._streams_of, self._units, self._record
        had_data = False
        for message in messages:
            kind = type(message)
            streams = streams_of.get(kind)
            if streams is None:
                if kind is BookChange:
                    self._take_change(message)  # type: ignore[arg-type]
                    had_data = True
                else:
                    on_other(message)
                continue
            record: Trade = message  # type: ignore[assignment]  # or another kind of record: they share these fields
            had_data = True
            stream = streams.get(record.symbol)
            if stream is None:
                self.ledger.counts.unrequested_records += 1
                continue
            if units and kind is Trade and (unit := units.get(record.symbol)) is not None:
                record = replace(record, unit=unit)
            take(stream, record, record.received_at)
        return had_data

    def begin_book(self, symbol: str, snapshot: Mapping[str, Any]) -> bool:
        """Start the order book from a REST snapshot. False if the snapshot does not fit the changes: fetch another."""
        if self.books.get(symbol) is None:
            if not self.books.begin(symbol, snapshot, now_us()):
                return False
            self._book_changed(symbol)
        return True

    def book(self, symbol: str) -> Mapping[str, Any] | None:
        """The order book as a ccxt dict; None while it is incomplete or wrong."""
        book = self.books.get(symbol)
        return None if book is None else book.as_mapping()

    # ---- called by the recorder (`UpdateReader`)

    def forget(self, symbol: str) -> None:
        self.books.forget(symbol)
        self.recorder.samples.discard(symbol)

    def discard_pending(self, stream: Stream) -> None:
        """Drop the order book of an interrupted stream, so that it starts from a new snapshot."""
        if stream.channel == "order_book":
            self.books.interrupted(stream.symbol)
            self.recorder.samples.discard(stream.symbol)

    def streams_of_book(self, symbol: str) -> list[Stream]:
        stream = self.ledger.streams["order_book"].get(symbol)
        return [] if stream is None or self.books.get(symbol) is None else [stream]

    def rebuild_book(self, symbol: str) -> None:
        self.rebuilds.broken(symbol)

    def record_book(self, symbol: str, book: Book) -> None:
        stream = self.ledger.streams["order_book"].get(symbol)
        if stream is None:
            return
        record = book.snapshot(self._config.exchange, self._config.order_book_levels)
        if record is None:
            self.ledger.incomplete(stream, "lacks what the record needs")
        else:
            self.recorder.take(stream, record, record.received_at)

    def _take_change(self, change: BookChange) -> None:
        try:
            effect = self.books.take(change)
        except ValueError:
            self.recorder.book_broken(change.symbol, "malformed", "a change of it cannot be read")
            raise
        if effect == "changed":
            self._book_changed(change.symbol)
        elif effect != "nothing":
            self.recorder.book_broken(change.symbol, effect, f"its {effect} is wrong")

    def _book_changed(self, symbol: str) -> None:
        book = self.books.get(symbol)
        if book is not None:
            self.recorder.book_changed(symbol, book)
