"""What the tap hands over becomes records in the intake; keeps each stream's state and the ledger of its gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.config.models import FeedConfig
from ingestd.errors import FeedError
from ingestd.feeds.base import Intake
from ingestd.feeds.books.checksums import CHECKED_HERE
from ingestd.feeds.books.ladder import BookLadder
from ingestd.feeds.books.samples import BookSamples, named_in
from ingestd.feeds.ccxt import records
from ingestd.feeds.markets.listing import Choice
from ingestd.feeds.streams.ledger import Stream, StreamLedger
from ingestd.feeds.url_map import shown_url
from ingestd.gaps.causes import BOOK_BROKEN, BOOK_NOT_LOADED, DISCONNECT, STALE, UNLISTED
from ingestd.log_limit import LogLimit
from ingestd.records import Channel, MarketRecord, StreamId, Trade
from ingestd.status import Earlier
from ingestd.venues.trade_identity import TradeIds

log = structlog.get_logger()

Top = tuple[str | None, str | None, str | None, str | None]  # a tick's prices and volumes

FAILURES_TO_QUARANTINE = 3
_CONVERSION_ERRORS = (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError)


class Recorder:
    """The tap's listener for one feed. Outlives the exchange objects, so that gaps and counts do."""

    def __init__(
        self, config: FeedConfig, intake: Intake, earlier: MutableMapping[StreamId, Earlier] | None = None
    ) -> None:
        """`earlier`: what an earlier process left of the streams; each is taken out by the feed that follows it."""
        self._exchange = config.exchange
        self.config = config
        self._intake = intake
        self._ids = TradeIds(now_us())
        self._finality = records.CandleFinality()
        self._ledger = StreamLedger(config, intake, earlier)
        self.books = BookSamples()
        self.keep_states = self.books.keep_states
        self.keep_no_states = self.books.keep_no_states
        self._resynchronise: Callable[[str], None] = lambda _symbol: None
        self.ladder = BookLadder()  # until an exchange is made
        self._frame_url: Callable[[], str | None] = lambda: None
        self._wake: Callable[[str], None] = lambda _url: None
        self._refused: Callable[[str, FeedError], None] = lambda _url, _error: None
        self._carried: Callable[[str], Iterable[Stream]] = lambda _url: ()
        self._is_late: Callable[[], bool] = lambda: False
        self._connected: set[str] = set()
        self.log_limit = LogLimit()
        self._cut: set[str] = set()  # the symbols whose trades were interrupted, until the next connection brings some
        self._units = self._ledger.units
        self.set_units = self._ledger.set_units
        self.streams = self._ledger.streams
        self.counts = self._ledger.counts
        self.add_stream = self._ledger.add_stream
        self.expect = self._ledger.expect
        self.of_symbols = self._ledger.of_symbols
        self.wants, self.all_streams = self._ledger.wants, self._ledger.all_streams
        self.settle_ids, self.end = self._ledger.settle_ids, self._ledger.end
        self.has_gap = self._ledger.has_gap
        self.taken_over, self.not_subscribed = self._ledger.taken_over, self._ledger.not_subscribed
        self.ticks_from_tickers = False
        self.ticks_from_books: set[str] = set()  # the symbols whose best prices are the top of their book
        self._tops: dict[str, Top] = {}  # the newest of each book, where ticks are from books
        self.closing = False  # what ends now ends on purpose: no gap

    def attach(
        self,
        frame_url: Callable[[], str | None],
        wake: Callable[[str], None],
        carried: Callable[[str], Iterable[Stream]] = lambda _url: (),
        is_late: Callable[[], bool] = lambda: False,
        resynchronise: Callable[[str], None] = lambda _symbol: None,
        refused: Callable[[str, FeedError], None] = lambda _url, _error: None,
        ladder: BookLadder | None = None,
    ) -> None:
        """A new exchange object: where its current frame came from, whom to tell that a socket is gone, which streams
        were asked for on a socket, whether the current frame is of one that had been given up before, whom to tell
        that a symbol's book must be asked for again, and whom to tell that a socket brought an error. `ladder`: how a
        book is asked for again."""
        self.ladder = ladder or BookLadder()
        self._refused = refused
        self._is_late = is_late
        self._resynchronise = resynchronise
        self._frame_url = frame_url
        self._wake = wake
        self._carried = carried
        self._connected.clear()
        self.books.forget_all()

    def remove(self, symbols: Iterable[str]) -> None:
        """These symbols are no longer wanted: what still comes of them is not handed over."""
        gone = list(symbols)
        self._ledger.remove(gone)
        for symbol in gone:
            self.books.interrupted(symbol)
            self.ladder.whole(symbol)
            self._finality.forget(symbol)
            self._tops.pop(symbol, None)
            self.ticks_from_books.discard(symbol)
            self._cut.discard(symbol)
            self._ids.begin_anew(symbol)

    def judge_listing(self, choice: Choice) -> list[Stream]:
        """Open the gaps of what the venue's newest list makes doubtful. The streams that are to be asked for anew,
        since it lists them again and they have not delivered."""
        judgement = self._ledger.judge_listing(choice)
        for symbol, reason in judgement.doubtful.items():
            self._ledger.interrupted(self._ledger.of_symbols({symbol}), UNLISTED, reason)  # its books go on as well
        return [stream for stream in self._ledger.of_symbols(judgement.back) if self._ledger.has_gap(stream)]

    @property
    def connected(self) -> bool:
        """Whether any socket is up."""
        return bool(self._connected)

    @property
    def is_blocked(self) -> bool:
        """Whether no socket is to be read."""
        return self._intake.is_blocked

    async def writable(self) -> None:
        await self._intake.writable()

    def on_trade(self, symbol: str, trade: Mapping[str, Any], received_at: int) -> None:
        if self._cut and symbol in self._cut and not self._is_late():
            self._cut.discard(symbol)
            self._ids.begin_anew(symbol)
        self._take(
            "trades",
            symbol,
            received_at,
            lambda: records.trade_record(
                self._exchange, symbol, trade, received_at, self._ids, self._units.get(symbol)
            ),
        )

    def on_bid_ask(self, symbol: str, ticker: Mapping[str, Any], received_at: int) -> None:
        if not self.ticks_from_tickers:
            self._take_tick(symbol, ticker, received_at)

    def on_ticker(self, symbol: str, ticker: Mapping[str, Any], received_at: int) -> None:
        if self.ticks_from_tickers and symbol not in self.ticks_from_books:
            self._take_tick(symbol, ticker, received_at)

    def on_funding(self, symbol: str, rate: Mapping[str, Any], received_at: int) -> None:
        self._take(
            "funding",
            symbol,
            received_at,
            lambda: records.funding_record(self._exchange, symbol, rate, received_at),
        )

    def on_book(self, book: Mapping[str, Any], received_at: int) -> None:
        symbol = book.get("symbol")
        if not isinstance(symbol, str) or not self.follows_book(symbol):
            return
        self.books.delivered(symbol, book)
        self.ladder.whole(symbol)
        if symbol in self.ticks_from_books:
            self._take_top(symbol, book, received_at)
        stream = self.streams["order_book"].get(symbol)
        if stream is None:
            return
        stream.url = self._frame_url() or stream.url  # a sample is taken later, outside any frame
        if self.config.order_book_interval_ms == 0:
            self._take_book(symbol, book, received_at)
        else:
            self.books.changed(symbol, book, received_at)

    def _take_top(self, symbol: str, book: Mapping[str, Any], received_at: int) -> None:
        """A tick when the best prices or what is offered there are not those of the tick before."""
        tick = records.top_record(self._exchange, symbol, book, received_at)
        if tick is None or symbol not in self.streams["ticks"]:
            return
        top = tick.bid_price, tick.bid_volume, tick.ask_price, tick.ask_volume
        if self._tops.get(symbol) != top:
            self._tops[symbol] = top
            self._take("ticks", symbol, received_at, lambda: tick)

    def on_book_replaced(self, symbol: str) -> None:
        self.books.replaced(symbol)
        self._tops.pop(symbol, None)

    def on_book_without_snapshot(self, symbol: str) -> None:
        if self.follows_book(symbol):
            self.ladder.not_begun(symbol, monotonic_s())

    def on_book_broken(self, symbol: str) -> None:
        reason = "checksum" if self._exchange in CHECKED_HERE else "sequence"
        self.book_broken(symbol, reason, f"its {reason} is wrong")

    def follows_book(self, symbol: str) -> bool:
        return symbol in self.streams["order_book"] or symbol in self.ticks_from_books

    def _of_book(self, symbol: str) -> list[Stream]:
        """What is taken from the symbol's book."""
        channels: list[Channel] = ["order_book", "ticks"] if symbol in self.ticks_from_books else ["order_book"]
        return [self.streams[channel][symbol] for channel in channels if symbol in self.streams[channel]]

    def on_book_not_loaded(self, symbol: str, error: FeedError, failures: int) -> None:
        """A gap with this as its cause. It is tried again for ever, and shown as put aside when it failed often."""
        streams = self._of_book(symbol)
        if not streams:
            return
        detail = f"the book snapshot over REST failed: {error}"
        if self.log_limit.allows(f"book_not_loaded {symbol}"):
            log.warning(
                "book_not_loaded", feed=self.config.label, symbol=symbol, failures=failures, error=str(error)[:300]
            )
        if failures == 1:
            self.counts.book_resyncs["not_loaded"] += 1
        self.interrupted(streams, BOOK_NOT_LOADED, detail)
        for stream in streams if failures >= FAILURES_TO_QUARANTINE else ():
            stream.quarantined = detail[:300]

    def on_book_given_up(self, symbol: str) -> None:
        if self.follows_book(symbol):
            self.ladder.broken(symbol)
            self._resynchronise(symbol)

    def book_named_in(self, message_hash: str) -> str | None:
        return named_in(message_hash, [*self.streams["order_book"], *self.ticks_from_books])

    def book_broken(self, symbol: str, reason: str, detail: str, *, since: int | None = None) -> None:
        """This book is wrong, and that alone: a gap from the last good sample (or `since`), and it is begun anew."""
        streams = self._of_book(symbol)
        if not streams or self.books.is_broken(symbol):
            return
        log.warning("book_broken", feed=self.config.label, symbol=symbol, reason=reason, detail=detail[:300])
        self.counts.book_resyncs[reason] += 1
        self.interrupted(streams, BOOK_BROKEN, detail, since=since)
        self.books.broken(symbol)
        self.ladder.broken(symbol)
        self._resynchronise(symbol)

    def books_in_step(self) -> list[str]:
        """The symbols whose book has been delivered and is not being begun anew."""
        streams = self.streams["order_book"].values()
        return [s.symbol for s in streams if s.received and not self._ledger.has_gap(s)]

    def sample_books(self) -> None:
        """Hand over the books that changed since the last time. A book whose socket is gone is not among them."""
        for symbol, book, received_at in self.books.take():
            self._take_book(symbol, book, received_at)

    def on_open_interest(self, symbol: str, interest: Mapping[str, Any], received_at: int) -> None:
        """An open interest that was polled."""
        self._take(
            "open_interest",
            symbol,
            received_at,
            lambda: records.open_interest_record(self._exchange, symbol, interest, received_at),
        )

    def on_candles(self, symbol: str, rows: Iterable[Sequence[Any]], received_at: int) -> None:
        """Candles as they stand now; a candle becomes a record when the next one begins."""
        for row in rows:
            self._take("candles", symbol, received_at, lambda row=row: self._final_candle(symbol, row, received_at))  # type: ignore[misc]

    def on_returned(self, channel: Channel, symbols: Sequence[str], result: Any, received_at: int) -> None:
        """What a `watch_*` or `fetch_*` call returned, where that is the only way to the data."""
        if channel == "candles":
            self.on_candles(symbols[0], result, received_at)
            return
        if channel == "order_book":
            self.on_book(result, received_at)
            return
        handover = {
            "trades": self.on_trade,
            "ticks": self._take_tick,
            "funding": self.on_funding,
            "open_interest": self.on_open_interest,
        }[channel]
        for row in records.rows_of(result):
            symbol = row.get("symbol") or (symbols[0] if len(symbols) == 1 else None)
            if symbol is not None:
                handover(symbol, row, received_at)

    def on_bad_frame(self, url: str, error: Exception, frame: str) -> None:
        self._ledger.bad_frame(url, error, frame)

    def on_connected(self, url: str) -> None:
        self._connected.add(url)
        self.counts.connects += 1
        log.info("connected", feed=self.config.label, **shown_url(url, self.config.url_map))

    def on_disconnected(self, url: str, reason: str) -> None:
        was_connected = url in self._connected
        self._connected.discard(url)
        if self.closing:
            return
        self.counts.disconnects += was_connected
        # Who asks for the streams again tells of a dial that failed, and when the next one is.
        event, report = ("disconnected", log.warning) if was_connected else ("dial_failed", log.debug)
        report(event, feed=self.config.label, **shown_url(url, self.config.url_map), reason=reason[:300])
        self.interrupted(self._streams_on(url), DISCONNECT, reason)
        self._wake(url)

    def on_rejected(self, url: str) -> None:
        self._wake(url)

    def on_wait_cut(self) -> None:
        self.counts.waits_cut += 1

    def on_refused(self, url: str, error: FeedError) -> None:
        self._ledger.refused(url, error)
        self._refused(url, error)

    def on_stale(self, url: str, detail: str) -> None:
        """A socket is about to be given up for its silence."""
        self.counts.stale_reconnects += 1
        log.warning("stale", feed=self.config.label, url=url, detail=detail)
        self.interrupted(self._streams_on(url), STALE, detail)

    def interrupted(self, streams: Sequence[Stream], cause: str, detail: str, *, since: int | None = None) -> None:
        """Open a gap for each of these streams, and let go what is held of them. `since`: when it began, if known."""
        for stream in streams:
            if stream.channel == "candles":
                self._finality.forget(stream.symbol)
            elif stream.channel == "order_book":
                self.books.interrupted(stream.symbol)
            elif stream.channel == "ticks" and stream.symbol in self.ticks_from_books:
                self.books.interrupted(stream.symbol)
                self._tops.pop(stream.symbol, None)
                self.ladder.whole(stream.symbol)
            elif stream.channel == "trades":
                self._cut.add(stream.symbol)
        self._ledger.interrupted(streams, cause, detail, since=since)

    def _streams_on(self, url: str) -> list[Stream]:
        """Those that socket delivers, and those that were asked for there and have not delivered yet."""
        waiting = {id(stream) for stream in self._carried(url) if stream.url is None}
        return [stream for stream in self.all_streams() if stream.url == url or id(stream) in waiting]

    def _take_tick(self, symbol: str, ticker: Mapping[str, Any], received_at: int) -> None:
        self._take(
            "ticks", symbol, received_at, lambda: records.tick_record(self._exchange, symbol, ticker, received_at)
        )

    def _take_book(self, symbol: str, book: Mapping[str, Any], received_at: int) -> None:
        levels = self.config.order_book_levels
        self._take(
            "order_book",
            symbol,
            received_at,
            lambda: records.book_record(self._exchange, symbol, book, received_at, levels),
        )

    def _final_candle(self, symbol: str, row: Sequence[Any], received_at: int) -> MarketRecord | None:
        timeframe = self.config.candle_timeframe
        candle = records.streamed_candle_record(self._exchange, symbol, timeframe, row, received_at)
        if candle is None:
            raise ValueError("a candle lacks a price")
        return self._finality.accept(candle)

    def _take(
        self, channel: Channel, symbol: str, received_at: int, convert: Callable[[], MarketRecord | None]
    ) -> None:
        stream = self.streams[channel].get(symbol)
        if stream is None:
            self.counts.unrequested_records += 1
            return
        try:
            record = convert()
        except _CONVERSION_ERRORS as error:
            # Raised into the venue's code it would cost the rest of the frame.
            self._ledger.incomplete(stream, repr(error))
            return
        if record is None:
            if channel != "candles":
                self._ledger.incomplete(stream, "lacks what the record needs")
            return
        url = self._frame_url()
        if url is not None and stream.is_repeat(url, record):
            return
        # What a lost socket had still brought is taken, and is no sign that the next one delivers.
        ends = bool(self._ledger.open_gaps) and not self._is_late()
        ended = ends and self._ledger.delivered(stream, at=received_at, time=record.time)
        stream.received += 1
        stream.last_received_at = received_at
        stream.last_time = record.time
        stream.last = record
        stream.url = url or stream.url
        stream.quarantined = None
        self._intake.put(record)
        if type(record) is Trade and record.kind is not None:
            self.counts.trade_kinds[record.kind] += 1
        if stream.ids is not None and type(record) is Trade:
            self._ledger.count_id(stream, stream.ids, record, ended_gap=ended)
