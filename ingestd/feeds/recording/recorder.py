"""The recorder of one feed: hands its records to the intake, keeps each stream's state, opens and ends gaps."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import structlog

from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Intake
from ingestd.feeds.books.states import AUDITED_LEVELS, BookState, book_state
from ingestd.feeds.streams.ledger import EarlierStreams, Stream, StreamLedger
from ingestd.feeds.urls import url_fields
from ingestd.gaps.causes import BOOK_BROKEN, DISCONNECT, STALE
from ingestd.records import MarketRecord, Trade

log = structlog.get_logger()

_KEPT_STATES = 1000


class SampledBook(Protocol):
    """An order book that a feed keeps."""

    def as_mapping(self) -> Mapping[str, Any]:
        """The book in the exchange library's form, down to the depth of an audit."""


class UpdateReader(Protocol):
    """Makes records of what an exchange sends. Each kind of feed has its own."""

    def forget(self, symbol: str) -> None:
        """The symbol is no longer followed: drop what is kept for it."""

    def discard_pending(self, stream: Stream) -> None:
        """The stream is interrupted: drop what was received of it and is not a record yet."""

    def streams_of_book(self, symbol: str) -> list[Stream]:
        """The streams that are recorded from this order book; none while the book is being rebuilt."""

    def rebuild_book(self, symbol: str) -> None:
        """The order book is wrong: ask the exchange for it again."""

    def record_book(self, symbol: str, book: Any) -> None:
        """Record one order book that is due to be sampled."""


class BookSamples:
    """The order books that changed since they were last sampled, and recent states of the audited one."""

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


class Recorder:
    """Outlives the connections of its feed, so that gaps and counts do."""

    def __init__(
        self, config: FeedConfig, intake: Intake, reader: UpdateReader, earlier: EarlierStreams | None = None
    ) -> None:
        self.config = config
        self.intake = intake
        self.ledger = StreamLedger(config, intake, earlier)
        self.samples = BookSamples()
        self.closing = False  # connections end on purpose now: that is no gap
        self._reader = reader
        self._open_gaps = self.ledger.open_gaps
        self._put = intake.put
        self._every_book_change = config.order_book_interval_ms == 0

    def take(self, stream: Stream, record: MarketRecord, received_at: int, is_late: bool = False) -> None:
        """Hand one record to the intake. `is_late`: it came over a connection that was given up before.

        A late record ends no gap: it does not show that the next connection delivers.
        """
        ended_gap = False
        if self._open_gaps and not is_late:
            ended_gap = self.ledger.delivered(stream, at=received_at, time=record.time)
        stream.received += 1
        stream.last = record
        stream.last_received_at = received_at
        stream.last_time = record.time
        if stream.quarantined is not None:
            stream.quarantined = None
        self._put(record)
        if type(record) is Trade:
            if record.kind is not None:
                self.ledger.counts.trade_kinds[record.kind] += 1
            ids = stream.ids
            if ids is not None and (ended_gap or not ids.follows(record)):
                self.ledger.count_id(stream, ids, record, ended_gap=ended_gap)

    def remove(self, symbols: Collection[str]) -> None:
        """These symbols are no longer followed: updates that still arrive for them are not recorded."""
        self.ledger.remove(symbols)
        for symbol in symbols:
            self._reader.forget(symbol)

    # ---- connections

    def connected(self, url: str) -> None:
        self.ledger.counts.connects += 1
        log.info("connected", feed=self.config.label, **url_fields(url, self.config.url_map))

    def disconnected(
        self, url: str, streams: Sequence[Stream], reason: str, *, was_connected: bool, retry_in_s: float | None = None
    ) -> None:
        """A connection is lost, or could not be opened. `retry_in_s`: None where the subscriptions log that."""
        if self.closing:
            return
        self.ledger.counts.disconnects += was_connected
        event = "disconnected" if was_connected else "dial_failed"
        report = log.warning if was_connected or retry_in_s is not None else log.debug
        retry = {} if retry_in_s is None else {"retry_in_s": round(retry_in_s, 1)}
        where = url_fields(url, self.config.url_map)
        report(event, feed=self.config.label, **where, reason=reason[:300], **retry)
        self.interrupted(streams, DISCONNECT, reason)

    def stale(self, url: str, streams: Sequence[Stream], detail: str) -> None:
        """A connection brought no data for too long and is about to be closed."""
        self.ledger.counts.stale_reconnects += 1
        log.warning("stale", feed=self.config.label, url=url, detail=detail)
        self.interrupted(streams, STALE, detail)

    def interrupted(self, streams: Sequence[Stream], cause: str, detail: str, *, since: int | None = None) -> None:
        """Open a gap for each of these streams. `since`: when it began, where that is known."""
        for stream in streams:
            self._reader.discard_pending(stream)
        self.ledger.interrupted(streams, cause, detail, since=since)

    # ---- order books

    def book_changed(self, symbol: str, book: SampledBook) -> None:
        """The order book has changed: sample it, at once where every change is recorded."""
        self.samples.changed(symbol, book)
        if self._every_book_change:
            self.sample_books()

    def sample_books(self) -> None:
        """Record the order books that changed since the last call."""
        for symbol, book in self.samples.take().items():
            self._reader.record_book(symbol, book)

    def synced_books(self) -> list[str]:
        """The symbols whose order book has been recorded and is not being rebuilt."""
        streams = self.ledger.streams["order_book"].values()
        return [stream.symbol for stream in streams if stream.received and not self.ledger.has_gap(stream)]

    def book_broken(self, symbol: str, reason: str, detail: str, *, since: int | None = None) -> None:
        """The order book is wrong, since then if known: open a gap for its streams alone, and rebuild it."""
        streams = self._reader.streams_of_book(symbol)
        if not streams:
            return
        log.warning("book_broken", feed=self.config.label, symbol=symbol, reason=reason, detail=detail[:300])
        self.ledger.counts.book_resyncs[reason] += 1
        self.interrupted(streams, BOOK_BROKEN, detail, since=since)
        self._reader.rebuild_book(symbol)
