"""ccxt as the oracle of the native decoders: the same frames through both, and the first difference said readably.

Trades, ticks and funding must be equal field by field, frame by frame. A book's changes are judged by what they do to a
plain dict of levels: after each frame it must be ccxt's book, text by text, with its time, sequence and validity.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec

from ingestd.channels import CHANNEL_OF
from ingestd.feeds.ccxt.channels import is_offered_by_any, method_for, ticks_from_tickers
from ingestd.records import BookSnapshot, Channel, FeedGap, Funding, Level, MarketRecord, Tick, Trade
from ingestd.venues.exact import ExactFloat
from ingestd.venues.messages import BookChange, Decoder, FrameNumber, Message, Notice
from ingestd.venues.venue import BookRule
from tests.unit.feeds.doubles import Wire

START = 1_800_000_000_000_000
"""Where both sides begin to count arrivals."""

_NOT_OF_CCXT = tuple(kind for kind, channel in CHANNEL_OF.items() if not is_offered_by_any(channel))
_TAKEN: tuple[type[MarketRecord], ...] = (Trade, Tick, Funding)
_SHOWN = 700

Markets = Mapping[str, Mapping[str, Any]]
Records = dict[tuple[Channel, str], list[MarketRecord]]
MakeDecoder = Callable[[Mapping[str, str], int], Decoder]
Prepare = Callable[[Any, Any], None]


class Frame(NamedTuple):
    """A frame as it came; `received_at` in microseconds."""

    url: str
    received_at: int
    data: str


@dataclass(slots=True)
class Compared:
    """What was equal on both sides, and what only the native decoder says."""

    records: Counter[Channel] = field(default_factory=Counter)
    books: dict[str, BookSnapshot] = field(default_factory=dict)  # as they stood at the end
    notices: list[Notice] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    refused: list[Frame] = field(default_factory=list)  # the decoder raised ValueError, and ccxt took nothing either


def numbered_frames(url: str, frames: Iterable[str], *, first_at: int = START, step_us: int = 1_000) -> list[Frame]:
    """Frames without a recorded time of arrival, `step_us` apart."""
    return [Frame(url, first_at + step_us * number, data) for number, data in enumerate(frames)]


async def compare(
    exchange: str,
    markets: Markets,
    frames: Sequence[Frame],
    make_decoder: MakeDecoder,
    *,
    followed: Iterable[str] | None = None,
    symbols: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    prepare: Prepare = lambda _exchange, _client: None,
    books: Mapping[str, Mapping[str, Any]] | None = None,
    book_rule: BookRule | None = None,
    levels: int = 400,
    channels: Sequence[Channel] = ("trades", "ticks", "order_book", "funding"),
) -> Compared:
    """Raises AssertionError at the first difference. Frames of different URLs are compared apart: a decoder is a
    socket's.

    `markets`: all that ccxt knows, by unified symbol. `followed`: those that were asked for (default: all), on every
    URL. `symbols`: what the decoder is given, when that is not the market ids of `followed`. `prepare`: brings ccxt's
    exchange and client where a subscription would have. `books`: REST snapshots that both sides begin with (`bids`,
    `asks` as texts, `nonce`). `book_rule`: without one every change is applied. `levels`: how deep books are compared.
    `channels`: those that ccxt was asked for.
    """
    wanted = list(markets if followed is None else followed)
    named = {str(markets[symbol]["id"]): symbol for symbol in wanted} if symbols is None else dict(symbols)
    by_url: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_url[frame.url].append(frame)
    outcome = Compared()
    for url, of_url in by_url.items():
        native = _Native(exchange, make_decoder(named, START), book_rule, dict(books or {}), levels)
        oracle = _Ccxt(exchange, url, markets, wanted, dict(options or {}), levels, channels)
        try:
            oracle.begin(prepare, dict(books or {}))
            for number, frame in enumerate(of_url):
                _compare_frame(f"frame {number} of {url}", frame, oracle.take(frame), native, outcome)
        finally:
            await oracle.close()
        outcome.books.update({symbol: book for symbol in wanted if (book := native.book(symbol)) is not None})
        outcome.notices += native.notices
        outcome.numbers += native.numbers
    return outcome


def adapted(make_decoder: MakeDecoder, adapt: Callable[[Message], Message]) -> MakeDecoder:
    """The same decoder with each message as ccxt would have it, where a test shows that ccxt says less."""

    def make(symbols: Mapping[str, str], start: int) -> Decoder:
        decode = make_decoder(symbols, start)
        return lambda frame, received_at: [adapt(message) for message in decode(frame, received_at)]

    return make


def _compare_frame(place: str, frame: Frame, expected: Records, native: _Native, outcome: Compared) -> None:
    try:
        actual = native.take(frame)
    except ValueError as error:
        if expected:
            raise AssertionError(f"{place}: ccxt takes {expected}\n{frame.data[:_SHOWN]}") from error
        outcome.refused.append(frame)
        return
    for key in {**expected, **actual}:
        channel, symbol = key
        theirs, ours = expected.get(key, []), actual.get(key, [])
        if channel == "order_book":
            theirs, ours = theirs[-1:], ours[-1:]  # where a frame changes a book several times, the last is sampled
            if theirs and not ours:
                ours = _unchanged(native.book(symbol), theirs[0])
        assert theirs == ours, f"{place}: {channel} of {symbol}\n{_difference(theirs, ours)}\n{frame.data[:_SHOWN]}"
        outcome.records[channel] += len(theirs)


def _unchanged(book: BookSnapshot | None, theirs: MarketRecord) -> list[MarketRecord]:
    """ccxt says that a book has changed when a frame of its channel came; its levels are to be those we hold."""
    if book is None:
        return []
    assert isinstance(theirs, BookSnapshot)
    return [
        msgspec.structs.replace(book, time=theirs.time, received_at=theirs.received_at, sequence=theirs.sequence),
    ]


def _difference(theirs: Sequence[MarketRecord], ours: Sequence[MarketRecord]) -> str:
    if len(theirs) != len(ours):
        return f"ccxt has {len(theirs)}: {theirs!r}\nnative has {len(ours)}: {ours!r}"[: 2 * _SHOWN]
    return "\n".join(
        f"{number}.{name}: ccxt {getattr(their, name)!r}, native {getattr(our, name)!r}"[:_SHOWN]
        if name not in ("bids", "asks")
        else f"{number}.{name}: {_first_level(getattr(their, name), getattr(our, name))}"
        for number, (their, our) in enumerate(zip(theirs, ours, strict=True))
        for name in type(their).__struct_fields__
        if getattr(their, name) != getattr(our, name, None)
    )


def _first_level(theirs: Sequence[Level], ours: Sequence[Level]) -> str:
    for depth in range(max(len(theirs), len(ours))):
        their, our = theirs[depth : depth + 1], ours[depth : depth + 1]
        if their != our:
            return f"level {depth}: ccxt {their!r} of {len(theirs)}, native {our!r} of {len(ours)}"
    return "equal"


class _Ccxt:
    """The ccxt feed's own path, without a network: the tapped exchange, the recorder and a list."""

    def __init__(
        self,
        exchange: str,
        url: str,
        markets: Markets,
        followed: list[str],
        options: dict[str, Any],
        levels: int,
        channels: Sequence[Channel],
    ) -> None:
        with patch("ingestd.feeds.ccxt.tap_reader.now_us", lambda: START):
            ids = {symbol: str(markets[symbol]["id"]) for symbol in followed}
            self._wire = Wire(exchange, ids, url, options=options, order_book_levels=levels, order_book_interval_ms=0)
        for channel, streams in self._wire.ledger.streams.items():
            if channel not in channels:
                streams.clear()
        self._wire.exchange.set_markets([dict(market) for market in markets.values()])
        method = method_for("ticks", self._wire.exchange.id, self._wire.exchange.has)
        assert method is not None
        self._wire.reader.ticks_from_tickers = ticks_from_tickers(exchange, method)

    def begin(self, prepare: Prepare, books: Mapping[str, Mapping[str, Any]]) -> None:
        prepare(self._wire.exchange, self._wire.client)
        for symbol, book in books.items():
            begun = self._wire.exchange.order_book({})
            begun.reset({**book, "symbol": symbol, **{side: _exact(book[side]) for side in ("bids", "asks")}})
            self._wire.exchange.orderbooks[symbol] = begun

    def take(self, frame: Frame) -> Records:
        """The records of this frame."""
        records = self._wire.intake.records
        before = len(records)
        with patch("ingestd.feeds.ccxt.tap_state.now_us", lambda: frame.received_at):
            self._wire.frames(frame.data)
        return _by_stream(record for record in records[before:] if not isinstance(record, FeedGap))

    async def close(self) -> None:
        await self._wire.close()


def _exact(rows: Iterable[Sequence[Any]]) -> list[list[ExactFloat]]:
    return [[ExactFloat(row[0]), ExactFloat(row[1])] for row in rows]


class _Native:
    """A decoder and plain books."""

    def __init__(
        self,
        exchange: str,
        decoder: Decoder,
        rule: BookRule | None,
        books: Mapping[str, Mapping[str, Any]],
        levels: int,
    ) -> None:
        self._exchange = exchange
        self._decoder = decoder
        self._rule = rule
        self._levels = levels
        self._books = {
            symbol: PlainBook(book["bids"], book["asks"], book.get("nonce")) for symbol, book in books.items()
        }
        self.notices: list[Notice] = []
        self.numbers: list[int] = []

    def take(self, frame: Frame) -> Records:
        """The records of this frame. Raises ValueError as the decoder does."""
        records: list[MarketRecord] = []
        for message in self._decoder(frame.data.encode(), frame.received_at):
            records += self._records(message)
        return _by_stream(records)

    def _records(self, message: Message) -> list[MarketRecord]:
        if isinstance(message, BookChange):
            book = self._changed(message)
            return [] if book is None else [book]
        if isinstance(message, Notice):
            self.notices.append(message)
        elif isinstance(message, FrameNumber):
            self.numbers.append(message.number)
        elif isinstance(message, _NOT_OF_CCXT):
            assert message.exchange == self._exchange  # its channel has tests of its own: there is no oracle
        else:
            assert isinstance(message, _TAKEN), f"{message!r} is no message of a decoder"
            assert message.exchange == self._exchange
            return [message]
        return []

    def _changed(self, change: BookChange) -> BookSnapshot | None:
        if change.is_snapshot:
            self._books[change.symbol] = PlainBook()
        book = self._books.get(change.symbol)
        if book is None:
            return None
        if self._rule is not None and not change.is_snapshot:
            follows = self._rule.follows(change, book.sequence)
            if follows is None:
                return None
            if not follows:
                del self._books[change.symbol]
                return None
        book.apply(change)
        depth = getattr(self._rule, "depth", None)
        if depth is not None:
            book.forget_below(depth)
        return self.book(change.symbol)

    def book(self, symbol: str) -> BookSnapshot | None:
        """As it stands; None when there is none, or nothing in it."""
        book = self._books.get(symbol)
        return None if book is None else book.snapshot(self._exchange, symbol, self._levels)


class PlainBook:
    """A book as a dict of levels a side."""

    def __init__(
        self, bids: Iterable[Sequence[str]] = (), asks: Iterable[Sequence[str]] = (), sequence: int | None = None
    ) -> None:
        self._bids: dict[Decimal, Level] = {}
        self._asks: dict[Decimal, Level] = {}
        _apply(self._bids, bids)
        _apply(self._asks, asks)
        self.sequence = sequence
        self._time = self._received_at = 0

    def apply(self, change: BookChange) -> None:
        """Do what the change says, wherever it belongs."""
        _apply(self._bids, change.bids)
        _apply(self._asks, change.asks)
        self.sequence = change.last
        self._time, self._received_at = change.time, change.received_at

    def forget_below(self, depth: int) -> None:
        """Keep so many levels a side: the venue does not say what becomes of the others."""
        for side, is_bids in ((self._bids, True), (self._asks, False)):
            for price in sorted(side, reverse=is_bids)[depth:]:
                del side[price]

    def snapshot(self, exchange: str, symbol: str, levels: int) -> BookSnapshot | None:
        """Its best levels; None when there are none."""
        if not self._bids and not self._asks:
            return None
        bids = tuple(self._bids[price] for price in sorted(self._bids, reverse=True)[:levels])
        asks = tuple(self._asks[price] for price in sorted(self._asks)[:levels])
        crossed = bool(bids and asks and Decimal(bids[0][0]) >= Decimal(asks[0][0]))
        return BookSnapshot(exchange, symbol, self._time, self._received_at, bids, asks, self.sequence, not crossed)


def _apply(side: dict[Decimal, Level], rows: Iterable[Sequence[str]]) -> None:
    for price, amount, *_ in rows:
        at = Decimal(price)
        if Decimal(amount) == 0:
            side.pop(at, None)
        else:  # a level keeps the text its price first came with
            side[at] = (side[at][0] if at in side else price, amount)


def _by_stream(records: Iterable[MarketRecord]) -> Records:
    found: Records = {}
    for record in records:
        found.setdefault((CHANNEL_OF[type(record)], record.symbol), []).append(record)
    return found
