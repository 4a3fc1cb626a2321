"""Kraken Futures. https://docs.kraken.com/api/docs/futures-api/websocket/

`ticker_lite` has the best prices only. `{"watchBidsAsks": {"name": "ticker"}}` in the feed's options chooses `ticker`
instead, which also has sizes and a time. Both are sent once a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from ingestd.clock import from_datetime
from ingestd.records import Channel, Tick, Trade
from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.decoding import Counter, Milliseconds, at, decoded
from ingestd.venues.facts import QUANTITIES_AS_IN_CCXT, Facts
from ingestd.venues.messages import BookChange, Message, Notice, NoticeKind
from ingestd.venues.numbers import Number, PricedLevel, best_price, level_texts, number_text, optional_number
from ingestd.venues.requests import by_channel, named_market, option
from ingestd.venues.trade_identity import TradeIds
from ingestd.venues.trades import Labels, Marks, NewestAnswer, NewestRequest, Trades, rows_by
from ingestd.venues.venue import Asked, BookRule, KeepAlive, Limits, Venue

EXCHANGE = "krakenfutures"

_NAMES: Mapping[Channel, str] = {"trades": "trade", "ticks": "ticker_lite", "order_book": "book"}


class _Trade(msgspec.Struct, tag_field="feed", tag="trade", gc=False):
    product_id: str
    side: Literal["buy", "sell"]
    time: Milliseconds
    qty: Number
    price: Number
    uid: str = ""
    type: str | None = None


class _Trades(msgspec.Struct, tag_field="feed", tag="trade_snapshot", gc=False):
    product_id: str
    trades: list[_Trade]


class _TickerLite(msgspec.Struct, tag_field="feed", tag="ticker_lite", gc=False):
    product_id: str
    bid: Number = None
    ask: Number = None
    bid_size: Number = None
    ask_size: Number = None
    time: Milliseconds | None = None


class _Ticker(_TickerLite, tag_field="feed", tag="ticker", gc=False):
    pass


class _Book(msgspec.Struct, tag_field="feed", tag="book_snapshot", gc=False):
    product_id: str
    timestamp: Milliseconds
    seq: Counter
    bids: list[PricedLevel]
    asks: list[PricedLevel]


class _Change(msgspec.Struct, tag_field="feed", tag="book", gc=False):
    product_id: str
    side: Literal["buy", "sell"]
    seq: Counter
    price: Number
    qty: Number
    timestamp: Milliseconds


class _Heartbeat(msgspec.Struct, tag_field="feed", tag="heartbeat", gc=False):
    pass


class _Event(msgspec.Struct):
    event: str = ""
    feed: str = ""
    message: str = ""
    product_ids: list[str] = []


_decode = msgspec.json.Decoder(
    _Change | _Trade | _TickerLite | _Ticker | _Book | _Trades | _Heartbeat, float_hook=str
).decode
_event = msgspec.json.Decoder(_Event)
# "liquidation if it is a result of a user being liquidated …, termination if it is a result of a user being terminated,
# or block"; `assignment` occurs only in trades over REST. Other pages, not those of the feed, say that a termination
# closes other traders' positions.
# https://docs.kraken.com/exchange/api-reference/futures-websocket/trade
_TYPES: Labels = {
    "fill": None,
    "liquidation": "liquidation",
    "assignment": "liquidation",
    "termination": "adl",
    "block": "block",
}
_MARKS = Marks({"type": _TYPES})
_LABELS = _MARKS.kinds_of("type")
_KINDS: Mapping[str, NoticeKind] = {
    "subscribed": "subscribed",
    "unsubscribed": "unsubscribed",
    "subscribed_failed": "refused",
    "unsubscribed_failed": "refused",
}


class _Decoder:
    def __init__(self, symbols: Mapping[str, str], start: int) -> None:
        self._symbols = symbols
        self._ids = TradeIds(start)

    def __call__(self, frame: bytes, received_at: int, /) -> Sequence[Message]:
        try:
            message = _decode(frame)
        except (msgspec.ValidationError, RecursionError):
            return self._rare(frame)
        kind = type(message)
        if kind is _Heartbeat:
            return (Notice("heartbeat"),)
        symbol = self._symbols.get(message.product_id)
        if symbol is None:
            return ()
        if kind is _Change:
            return (_change(message, symbol, received_at),)
        if kind is _Trade:
            return (self._trade(message, symbol, received_at),)
        if kind is _Book:
            return (_book(message, symbol, received_at),)
        if kind is _Trades:
            return self._trades(message, received_at)
        return _tick(message, symbol, received_at)

    def _trade(self, trade: _Trade, symbol: str, received_at: int) -> Trade:
        price, size = number_text(trade.price), number_text(trade.qty)
        time = trade.time * 1000
        name = trade.uid or self._ids.synthetic(symbol, time // 1000, price, size, trade.side, received_at)
        kind = _LABELS.get(trade.type, "other")
        return Trade(EXCHANGE, symbol, time, received_at, name, self._ids.seq(name), trade.side, price, size, kind)

    def _trades(self, message: _Trades, received_at: int) -> Sequence[Trade]:
        symbols = self._symbols
        return [
            self._trade(trade, symbol, received_at)
            for trade in reversed(message.trades)  # the newest is first
            if (symbol := symbols.get(trade.product_id)) is not None
        ]

    def _rare(self, frame: bytes) -> Sequence[Message]:
        """Decode a frame about the connection or a request."""
        event = decoded(_event, frame)
        kind = _KINDS.get(event.event)
        if kind is not None:
            return [Notice(kind, event.feed, product) for product in event.product_ids]
        if event.event in ("alert", "error"):
            if "Already subscribed" in event.message:
                return (Notice("subscribed", event.message),)
            return (Notice("refused", event.message, named_market(event.message, self._symbols)),)
        if event.event == "pong":
            return (Notice("heartbeat"),)
        if event.event == "info":
            return ()
        raise ValueError(f"a malformed frame of feed {event.feed!r}")


def _change(change: _Change, symbol: str, received_at: int) -> BookChange:
    rows, seq = ((number_text(change.price), number_text(change.qty)),), change.seq
    time = change.timestamp * 1000
    if change.side == "buy":
        return BookChange(symbol, time, received_at, rows, (), False, seq, seq)
    return BookChange(symbol, time, received_at, (), rows, False, seq, seq)


def _book(book: _Book, symbol: str, received_at: int) -> BookChange:
    time = book.timestamp * 1000
    return BookChange(symbol, time, received_at, level_texts(book.bids), level_texts(book.asks), True, None, book.seq)


def _tick(ticker: _TickerLite, symbol: str, received_at: int) -> Sequence[Tick]:
    bid, ask = best_price(optional_number(ticker.bid)), best_price(optional_number(ticker.ask))
    if bid is None and ask is None:
        return ()
    time = ticker.time * 1000 if ticker.time else received_at
    sizes = optional_number(ticker.bid_size), optional_number(ticker.ask_size)
    return (Tick(EXCHANGE, symbol, time, received_at, bid, sizes[0], ask, sizes[1]),)


class OneByOne(BookRule):
    """Sequence numbers of a book are consecutive: 7,014 of 7,014 recorded steps are 1."""

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        if sequence is None or change.last is None or change.last == sequence + 1:
            return True
        return None if change.last <= sequence else False


class KrakenFutures(Venue):
    """Kraken Futures' socket. `options`: `watchBidsAsks = { name = "ticker" }`, as above."""

    exchange = EXCHANGE
    decoder = _Decoder  # its state orders trades, because their ids are random
    channels = frozenset(_NAMES)
    markets = frozenset({"linear", "inverse"})
    limits = Limits(
        streams_per_message=50,
        messages_per_s=90.0,  # 100 are allowed
        sockets_per_s=2.0,  # at most 100 at once
        source="https://docs.kraken.com/exchange/guides/futures/ratelimits",
    )
    url = "wss://futures.kraken.com/ws/v1"
    keep_alive = KeepAlive(30.0)  # Kraken wants one within 60 s
    book_rule = OneByOne()

    def __init__(self, options: Mapping[str, Any]) -> None:
        ticker = option(options, "watchBidsAsks", "name", "ticker_lite")
        self._names: Mapping[Channel, str] = {**_NAMES, "ticks": "ticker" if ticker == "ticker" else "ticker_lite"}

    def requests(self, operation: str, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        return [
            msgspec.json.encode({"event": operation, "feed": self._names[channel], "product_ids": ids})
            for channel, ids in by_channel(streams, self.limits.streams_per_message)
        ]


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """Read books: https://docs.kraken.com/api/docs/futures-api/websocket/book"""
    if at(frame, "feed") in ("book", "book_snapshot") and "seq" in frame:
        yield NumberedFrame(frame, str(frame.get("product_id")), frame, frame["feed"] == "book_snapshot")


def _last_time(row: Mapping[str, Any]) -> NewestAnswer | None:
    """Read `lastTime` in a row of `tickers`, the time of the last trade; None without one."""
    text = row.get("lastTime")
    if not isinstance(text, str):
        return None
    return NewestAnswer(("last time", text), time=from_datetime(datetime.fromisoformat(text)))


def _unsubscription(_exchange: Any, market: Any, name: str) -> dict[str, Any] | None:
    """Make the request: https://docs.kraken.com/api/docs/futures-api/websocket/book"""
    if name != f"orderbook:{market['symbol']}":
        return None
    return {"event": "unsubscribe", "feed": "book", "product_ids": [market["id"]]}


FACTS = Facts(
    exchange="krakenfutures",
    native=KrakenFutures,
    example_market="BTC/USD:USD",
    quantities=QUANTITIES_AS_IN_CCXT,
    contracts_only=True,
    trades=Trades(
        newest=NewestRequest("publicGetTickers", lambda reply: rows_by("symbol", reply["tickers"]), _last_time),
        marks=_MARKS,
    ),
    books=CcxtBooks(
        numbering=Numbering(("seq",), ("seq",)),
        numbered_frames=_numbered_frames,
        unsubscription=_unsubscription,
        asks_only_for_new=True,
    ),
)
