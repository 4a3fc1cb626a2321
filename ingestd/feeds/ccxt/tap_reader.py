"""Converts the updates that the tap takes from ccxt into records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.config.models import FeedConfig
from ingestd.errors import FeedError
from ingestd.feeds.base import Intake
from ingestd.feeds.books.ladder import BookLadder
from ingestd.feeds.ccxt import records
from ingestd.feeds.ccxt.market_names import book_named_in
from ingestd.feeds.ccxt.subscriptions import Subscriptions
from ingestd.feeds.ccxt.tap_state import Tap
from ingestd.feeds.recording.recorder import Recorder
from ingestd.feeds.streams.ledger import EarlierStreams, Stream
from ingestd.feeds.streams.quarantine import REFUSALS_TO_QUARANTINE
from ingestd.gaps.causes import BOOK_NOT_LOADED
from ingestd.log_limit import LogLimit
from ingestd.records import Candle, Channel, MarketRecord
from ingestd.venues.all import facts_of
from ingestd.venues.trade_identity import TradeIds

log = structlog.get_logger()

_CONVERSION_ERRORS = (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError)

_Convert = Callable[..., MarketRecord | None]  # takes the exchange, the symbol, an update, and when it was received
_BestLevels = tuple[str | None, str | None, str | None, str | None]  # prices and volumes of a tick


class _ChangedBook(NamedTuple):
    """A ccxt book, which ccxt changes in place, with the version at which it was handed over."""

    book: Mapping[str, Any]
    received_at: int
    version: tuple[Any, Any]

    def as_mapping(self) -> Mapping[str, Any]:
        return self.book


class TapReader(Tap):
    """Makes records of the updates of one feed. Outlives the exchange objects, so that gaps and counters survive."""

    def __init__(self, config: FeedConfig, intake: Intake, earlier: EarlierStreams | None = None) -> None:
        super().__init__()
        self.config = config
        self._exchange = config.exchange
        self.recorder = Recorder(config, intake, self, earlier)
        self.ledger = self.recorder.ledger
        self.log_limit = LogLimit()
        self.ticks_from_tickers = False
        self.ticks_from_books: set[str] = set()  # symbols whose ticks are the best levels of their order book
        self.ladder = BookLadder()
        self._subscriptions = Subscriptions()
        self._ids = TradeIds(now_us())
        self._newest_candles: dict[str, Candle] = {}  # held back until the next one begins: then they are final
        self._connected: set[str] = set()
        self._interrupted_trades: set[str] = set()  # symbols with no trade yet since their interruption
        self._broken: set[str] = set()  # symbols whose order book is being rebuilt
        self._best_levels: dict[str, _BestLevels] = {}  # last recorded, for ticks from order books

    def attach(self, subscriptions: Subscriptions, ladder: BookLadder) -> None:
        """Switch to a new exchange object. `ladder`: the escalation by which its order books are requested again."""
        self._subscriptions = subscriptions
        self.ladder = ladder
        self._connected.clear()

    @property
    def connected(self) -> bool:
        """Whether any connection is open."""
        return bool(self._connected)

    async def writable(self) -> None:
        await self.recorder.intake.writable()

    # ---- called by the recorder (`UpdateReader`)

    def forget(self, symbol: str) -> None:
        self._drop_book(symbol)
        self.ladder.whole(symbol)
        self._newest_candles.pop(symbol, None)
        self.ticks_from_books.discard(symbol)
        self._interrupted_trades.discard(symbol)
        self._ids.forget_equal_trades(symbol)

    def discard_pending(self, stream: Stream) -> None:
        if stream.channel == "candles":
            self._newest_candles.pop(stream.symbol, None)
        elif stream.channel == "trades":
            self._interrupted_trades.add(stream.symbol)
        elif stream.channel == "order_book":
            self.recorder.samples.discard(stream.symbol)
            self._broken.discard(stream.symbol)
        elif stream.channel == "ticks" and stream.symbol in self.ticks_from_books:
            self._drop_book(stream.symbol)
            self.ladder.whole(stream.symbol)

    def streams_of_book(self, symbol: str) -> list[Stream]:
        return [] if symbol in self._broken else self._all_of_book(symbol)

    def rebuild_book(self, symbol: str) -> None:
        self.recorder.samples.discard(symbol)
        self._broken.add(symbol)
        self.ladder.broken(symbol)
        self._subscriptions.ask_for_book(symbol)

    def record_book(self, symbol: str, book: _ChangedBook) -> None:
        """Record the order book, unless ccxt has changed it since it was handed over."""
        if _version(book.book) == book.version:
            levels = self.config.order_book_levels
            self._take("order_book", symbol, records.book_record, book.book, book.received_at, levels)

    def _all_of_book(self, symbol: str) -> list[Stream]:
        channels: list[Channel] = ["order_book", "ticks"] if symbol in self.ticks_from_books else ["order_book"]
        streams = self.ledger.streams
        return [streams[channel][symbol] for channel in channels if symbol in streams[channel]]

    def _drop_book(self, symbol: str) -> None:
        self.recorder.samples.discard(symbol)
        self._broken.discard(symbol)
        self._best_levels.pop(symbol, None)

    # ---- updates

    def on_trade(self, symbol: str, trade: Mapping[str, Any], received_at: int) -> None:
        if self._interrupted_trades and symbol in self._interrupted_trades and not self.frame.is_late:
            self._interrupted_trades.discard(symbol)
            self._ids.forget_equal_trades(symbol)
        unit = self.ledger.units.get(symbol)
        self._take("trades", symbol, records.trade_record, trade, received_at, self._ids, unit)

    def on_bid_ask(self, symbol: str, ticker: Mapping[str, Any], received_at: int) -> None:
        if not self.ticks_from_tickers:
            self._take("ticks", symbol, records.tick_record, ticker, received_at)

    def on_ticker(self, symbol: str, ticker: Mapping[str, Any], received_at: int) -> None:
        if self.ticks_from_tickers and symbol not in self.ticks_from_books:
            self._take("ticks", symbol, records.tick_record, ticker, received_at)

    def on_funding(self, symbol: str, rate: Mapping[str, Any], received_at: int) -> None:
        self._take("funding", symbol, records.funding_record, rate, received_at)

    def on_returned(self, channel: Channel, symbols: Sequence[str], result: Any, received_at: int) -> None:
        """Record the result of a `watch_*` or `fetch_*` call whose data cannot be tapped."""
        if channel == "candles":
            for row in result:  # the current state of candles: one is final when the next one begins
                self._take("candles", symbols[0], self._final_candle, row, received_at)
            return
        if channel == "order_book":
            self.on_book(result, received_at)
            return
        for row in records.rows_of(result):
            symbol = row.get("symbol") or (symbols[0] if len(symbols) == 1 else None)
            if symbol is None:
                continue
            if channel == "trades":
                self.on_trade(symbol, row, received_at)
            else:
                self._take(channel, symbol, _CONVERSIONS[channel], row, received_at)

    # ---- order books

    def on_book(self, book: Mapping[str, Any], received_at: int) -> None:
        symbol = book.get("symbol")
        if not isinstance(symbol, str) or not self.follows_book(symbol):
            return
        self._broken.discard(symbol)
        self.ladder.whole(symbol)
        if symbol in self.ticks_from_books:
            self._take_best_levels(symbol, book, received_at)
        stream = self.ledger.streams["order_book"].get(symbol)
        if stream is not None:
            stream.url = self.frame.url or stream.url  # set now: a sample is recorded later, outside a frame
            self.recorder.book_changed(symbol, _ChangedBook(book, received_at, _version(book)))

    def on_book_replaced(self, symbol: str) -> None:
        self.recorder.samples.discard(symbol)
        self._best_levels.pop(symbol, None)

    def on_book_without_snapshot(self, symbol: str) -> None:
        if self.follows_book(symbol):
            self.ladder.not_begun(symbol, monotonic_s())

    def on_book_broken(self, symbol: str) -> None:
        reason = "checksum" if facts_of(self._exchange).books.agrees is not None else "sequence"
        self.recorder.book_broken(symbol, reason, f"its {reason} is wrong")

    def on_book_not_loaded(self, symbol: str, error: FeedError, failures: int) -> None:
        """Open a gap. The snapshot is retried without end; from the third failure on, the status says why."""
        streams = self._all_of_book(symbol)
        if not streams:
            return
        detail = f"the book snapshot over REST failed: {error}"
        if self.log_limit.allows(f"book_not_loaded {symbol}"):
            log.warning(
                "book_not_loaded", feed=self.config.label, symbol=symbol, failures=failures, error=str(error)[:300]
            )
        if failures == 1:
            self.ledger.counts.book_resyncs["not_loaded"] += 1
        self.recorder.interrupted(streams, BOOK_NOT_LOADED, detail)
        for stream in streams if failures >= REFUSALS_TO_QUARANTINE else ():
            stream.quarantined = detail[:300]

    def on_book_given_up(self, symbol: str) -> None:
        if self.follows_book(symbol):
            self.ladder.broken(symbol)
            self._subscriptions.ask_for_book(symbol)

    def follows_book(self, symbol: str) -> bool:
        return symbol in self.ledger.streams["order_book"] or symbol in self.ticks_from_books

    def book_named_in(self, message_hash: str) -> str | None:
        return book_named_in(message_hash, [*self.ledger.streams["order_book"], *self.ticks_from_books])

    # ---- connections

    def on_connected(self, url: str) -> None:
        self._connected.add(url)
        self.recorder.connected(url)

    def on_disconnected(self, url: str, reason: str) -> None:
        was_connected = url in self._connected
        self._connected.discard(url)
        if not self.recorder.closing:
            self.recorder.disconnected(url, self._streams_on(url), reason, was_connected=was_connected)
            self._subscriptions.wake(url)

    def on_stale(self, url: str, detail: str) -> None:
        """Record that a connection has been silent for too long and is about to be closed."""
        self.recorder.stale(url, self._streams_on(url), detail)

    def on_refused(self, url: str, error: FeedError) -> None:
        self.ledger.refused(url, error)
        self._subscriptions.refused(url, error)

    def on_rejected(self, url: str) -> None:
        self._subscriptions.wake(url)

    def on_bad_frame(self, url: str, error: Exception, frame: str) -> None:
        self.ledger.bad_frame(url, error, frame)

    def on_wait_cut(self) -> None:
        self.ledger.counts.waits_cut += 1

    def _streams_on(self, url: str) -> list[Stream]:
        """The streams that this connection delivers, and those subscribed on it that have not delivered yet."""
        waiting = {id(stream) for stream in self._subscriptions.streams_on({url}) if stream.url is None}
        return [stream for stream in self.ledger.all_streams() if stream.url == url or id(stream) in waiting]

    # ---- conversion

    def _take_best_levels(self, symbol: str, book: Mapping[str, Any], received_at: int) -> None:
        """Record a tick if the best prices or volumes differ from the previous tick."""
        tick = records.top_record(self._exchange, symbol, book, received_at)
        stream = self.ledger.streams["ticks"].get(symbol)
        if tick is None or stream is None:
            return
        best = tick.bid_price, tick.bid_volume, tick.ask_price, tick.ask_volume
        if self._best_levels.get(symbol) != best:
            self._best_levels[symbol] = best
            self._record(stream, tick, received_at)

    def _final_candle(self, exchange: str, symbol: str, row: Sequence[Any], received_at: int) -> Candle | None:
        """The previous candle, if this row begins the next one."""
        ahead_ms = facts_of(exchange).corrections.ahead_of_utc_ms
        candle = records.candle_record(exchange, symbol, row, received_at, self.config.candle_timeframe, ahead_ms)
        if candle is None:
            raise ValueError("a candle lacks a price")
        held = self._newest_candles.get(symbol)
        if held is not None and candle.time < held.time:
            return None  # an update of a candle that was handed over
        self._newest_candles[symbol] = candle
        return held if held is not None and candle.time > held.time else None

    def _take(
        self, channel: Channel, symbol: str, convert: _Convert, update: Any, received_at: int, *more: Any
    ) -> None:
        """Convert an update to a record, and hand it to the recorder. `more`: further arguments of `convert`."""
        stream = self.ledger.streams[channel].get(symbol)
        if stream is None:
            self.ledger.counts.unrequested_records += 1
            return
        try:
            record = convert(self._exchange, symbol, update, received_at, *more)
        except _CONVERSION_ERRORS as error:
            # Do not raise into ccxt's code: that would lose the rest of the frame.
            self.ledger.incomplete(stream, repr(error))
            return
        if record is not None:
            self._record(stream, record, received_at)
        elif channel != "candles":
            self.ledger.incomplete(stream, "lacks what the record needs")

    def _record(self, stream: Stream, record: MarketRecord, received_at: int) -> None:
        """Hand a record to the recorder, unless another socket has delivered it already."""
        url = self.frame.url
        if url is not None:
            if stream.is_repeat(url, record):
                return
            stream.url = url
        self.recorder.take(stream, record, received_at, is_late=self.frame.is_late)


_CONVERSIONS: Mapping[Channel, _Convert] = {
    "ticks": records.tick_record,
    "funding": records.funding_record,
    "open_interest": records.open_interest_record,
}


def _version(book: Mapping[str, Any]) -> tuple[Any, Any]:
    """The book's sequence number and time, which change with the book if the exchange states either."""
    return book.get("nonce"), book.get("timestamp")
