"""What the decoders say becomes records in the intake; the books, and what is to be said of their gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import structlog
from msgspec.structs import replace

from ingestd.channels import CHANNEL_OF
from ingestd.clock import now_us
from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Intake
from ingestd.feeds.books.states import BookState
from ingestd.feeds.markets.listing import Choice
from ingestd.feeds.native.books import Book, Books
from ingestd.feeds.streams.ledger import Stream, StreamLedger
from ingestd.feeds.url_map import shown_url
from ingestd.gaps.causes import BOOK_BROKEN, DISCONNECT, STALE, UNLISTED
from ingestd.records import Channel, StreamId, Trade
from ingestd.status import Earlier
from ingestd.venues.messages import BookChange, Message
from ingestd.venues.venue import Venue

log = structlog.get_logger()


class NativeRecorder:
    """One feed's. Outlives its sockets, so that gaps and counts do."""

    def __init__(
        self,
        config: FeedConfig,
        venue: Venue,
        intake: Intake,
        earlier: MutableMapping[StreamId, Earlier] | None = None,
    ) -> None:
        """`earlier`: what an earlier process left of the streams; each is taken out by the feed that follows it."""
        self._config = config
        self._exchange = config.exchange
        self._put = intake.put
        self._ledger = StreamLedger(config, intake, earlier)
        self._books = Books(venue.book_rule, over_rest=venue.book_over_rest)
        self._every_change = config.order_book_interval_ms == 0
        self._begin_anew: Callable[[str], None] = lambda _symbol: None
        self._open_gaps = self._ledger.open_gaps
        self._units = self._ledger.units
        self.set_units = self._ledger.set_units
        self.streams = self._ledger.streams
        self.counts = self._ledger.counts
        self.all_streams = self._ledger.all_streams
        self.expect = self._ledger.expect
        self.wants = self._ledger.wants
        self.settle_ids = self._ledger.settle_ids
        self.end = self._ledger.end
        self.has_gap = self._ledger.has_gap
        self.taken_over = self._ledger.taken_over
        self.not_subscribed = self._ledger.not_subscribed
        self.bad_frame = self._ledger.bad_frame
        self.closing = False  # what ends now ends on purpose: no gap
        self._streams_of: dict[type, dict[str, Stream]] = {
            record: self.streams[channel] for record, channel in CHANNEL_OF.items()
        }

    def attach(self, begin_anew: Callable[[str], None]) -> None:
        """Whom to tell that a symbol's book has to be asked for again."""
        self._begin_anew = begin_anew

    def add_stream(self, channel: Channel, symbol: str) -> Stream:
        """The stream, made when it is new."""
        if channel == "order_book":
            self._books.follow(symbol)
        return self._ledger.add_stream(channel, symbol)

    def remove(self, symbols: Iterable[str]) -> None:
        """These symbols are no longer wanted."""
        gone = list(symbols)
        self._ledger.remove(gone)
        for symbol in gone:
            self._books.forget(symbol)

    def judge_listing(self, choice: Choice) -> list[Stream]:
        """Open the gaps of what the venue's newest list makes doubtful. The streams that are to be asked for anew,
        since it lists them again and they have not delivered."""
        judgement = self._ledger.judge_listing(choice)
        for symbol, reason in judgement.doubtful.items():
            self._ledger.interrupted(self._ledger.of_symbols({symbol}), UNLISTED, reason)  # its books go on as well
        return [stream for stream in self._ledger.of_symbols(judgement.back) if self._ledger.has_gap(stream)]

    def take(self, messages: Sequence[Message], on_other: Callable[[Message], None]) -> bool:
        """What one frame says, in its order; `on_other` is told what is of the connection itself.

        Whether any of it was data. Raises ValueError on a book's row that is none: what came before it is taken.
        """
        streams_of, put, gaps, units = self._streams_of, self._put, self._open_gaps, self._units
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
                self.counts.unrequested_records += 1
                continue
            ended = bool(gaps) and self._ledger.delivered(stream, at=record.received_at, time=record.time)
            stream.received += 1
            stream.last = record
            stream.last_received_at = record.received_at
            stream.last_time = record.time
            if stream.quarantined is not None:
                stream.quarantined = None
            if units and kind is Trade and (unit := units.get(record.symbol)) is not None:
                record = replace(record, unit=unit)
            put(record)
            if kind is Trade and record.kind is not None:
                self.counts.trade_kinds[record.kind] += 1
            ids = stream.ids
            if ids is not None and (ended or not ids.follows(record)):
                self._ledger.count_id(stream, ids, record, ended_gap=ended)
        return had_data

    # ---- books

    def sample_books(self) -> None:
        """Hand over the books that changed since the last time."""
        for book in self._books.take_changed():
            self._take_book(book)

    def needs_snapshot(self, symbol: str) -> bool:
        """Whether the symbol's book waits for a REST snapshot nobody has asked for."""
        return self._books.needs_snapshot(symbol)

    def snapshot_asked(self, symbol: str) -> None:
        """It is being asked for."""
        self._books.asked(symbol)

    def snapshot_failed(self, symbol: str) -> None:
        """It did not come."""
        self._books.given_up(symbol)

    def begin_book(self, symbol: str, snapshot: Mapping[str, Any]) -> bool:
        """The REST snapshot. False: it does not fit what the socket brought, and another one is needed."""
        if not self._books.begin(symbol, snapshot, now_us()):
            return False
        if self._every_change:
            self.sample_books()
        return True

    def books_in_step(self) -> list[str]:
        """The symbols whose book has been delivered and is not being begun anew."""
        streams = self.streams["order_book"].values()
        return [s.symbol for s in streams if s.received and not self._ledger.has_gap(s) and self._books.get(s.symbol)]

    def book(self, symbol: str) -> Mapping[str, Any] | None:
        """The book as it is, in the exchange library's form, if it is the venue's."""
        book = self._books.get(symbol)
        return None if book is None else book.as_mapping()

    def keep_states(self, symbol: str, now: Mapping[str, Any]) -> Sequence[BookState]:
        return self._books.keep_states(symbol, now)

    def keep_no_states(self) -> None:
        self._books.keep_no_states()

    def book_broken(self, symbol: str, reason: str, detail: str, *, since: int | None = None) -> None:
        """This book is wrong, and that alone: a gap from the last good sample (or `since`), and it is begun anew."""
        stream = self.streams["order_book"].get(symbol)
        if stream is None or self._books.get(symbol) is None:
            return
        log.warning("book_broken", feed=self._config.label, symbol=symbol, reason=reason, detail=detail[:300])
        self.counts.book_resyncs[reason] += 1
        self.interrupted([stream], BOOK_BROKEN, detail, since=since)
        self._begin_anew(symbol)

    # ---- sockets

    def connected(self, url: str) -> None:
        """A socket is up."""
        self.counts.connects += 1
        log.info("connected", feed=self._config.label, **shown_url(url, self._config.url_map))

    def disconnected(
        self, url: str, streams: Sequence[Stream], reason: str, *, was_connected: bool, retry_in_s: float
    ) -> None:
        """A socket is gone, or could not be dialled."""
        if self.closing:
            return
        self.counts.disconnects += was_connected
        event = "disconnected" if was_connected else "dial_failed"
        log.warning(
            event,
            feed=self._config.label,
            **shown_url(url, self._config.url_map),
            reason=reason[:300],
            retry_in_s=round(retry_in_s, 1),
        )
        self.interrupted(streams, DISCONNECT, reason)

    def stale(self, url: str, streams: Sequence[Stream], detail: str) -> None:
        """A socket is about to be given up for its silence."""
        self.counts.stale_reconnects += 1
        log.warning("stale", feed=self._config.label, url=url, detail=detail)
        self.interrupted(streams, STALE, detail)

    def interrupted(self, streams: Sequence[Stream], cause: str, detail: str, *, since: int | None = None) -> None:
        """Open a gap for each of these streams; their books begin anew."""
        for stream in streams:
            if stream.channel == "order_book":
                self._books.interrupted(stream.symbol)
        self._ledger.interrupted(streams, cause, detail, since=since)

    def _take_change(self, change: BookChange) -> None:
        try:
            effect = self._books.take(change)
        except ValueError:
            self.book_broken(change.symbol, "malformed", "a change of it cannot be read")
            raise
        if effect == "changed":
            if self._every_change:
                self.sample_books()
        elif effect != "nothing":
            self.book_broken(change.symbol, effect, f"its {effect} is wrong")

    def _take_book(self, book: Book) -> None:
        stream = self.streams["order_book"].get(book.symbol)
        if stream is None:
            return
        record = book.snapshot(self._exchange, self._config.order_book_levels)
        if record is None:
            self._ledger.incomplete(stream, "lacks what the record needs")
            return
        if self._open_gaps:
            self._ledger.delivered(stream, at=record.received_at, time=record.time)
        stream.received += 1
        stream.last_received_at = record.received_at
        stream.last_time = record.time
        stream.last = record
        stream.quarantined = None
        self._put(record)
