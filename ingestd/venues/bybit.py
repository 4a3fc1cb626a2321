"""Bybit v5: the public spot, linear and inverse sockets. https://bybit-exchange.github.io/docs/v5/ws/connect

Liquidations: https://bybit-exchange.github.io/docs/v5/websocket/public/all-liquidation
Mark prices: https://bybit-exchange.github.io/docs/v5/websocket/public/ticker
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ingestd.records import Channel, Liquidation, MarkPrice, Side, Tick, Trade
from ingestd.venues import families
from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.corrections import Corrections
from ingestd.venues.decoding import SIDES, Level, Milliseconds, Text, at, decoded, part
from ingestd.venues.facts import Ccxt, Facts, OpenInterestUnits, Quantities
from ingestd.venues.messages import CONFIRMED, BookChange, Message, Notice, Row
from ingestd.venues.names import VenueNames
from ingestd.venues.requests import chunks
from ingestd.venues.trade_identity import TradeIds
from ingestd.venues.trades import Ids, Marks, Paging, Series, Trades
from ingestd.venues.venue import Asked, BookRule, KeepAlive, Limits, Markets, Venue

EXCHANGE = "bybit"

_TRADES = "publicTrade"
_BEST = "orderbook.1"
_BOOK = "orderbook.50"  # the depth that ccxt subscribes to
_LIQUIDATIONS = "allLiquidation"
_TICKERS = "tickers"
_TOPICS: dict[Channel, str] = {
    "trades": _TRADES,
    "ticks": _BEST,
    "order_book": _BOOK,
    "liquidations": _LIQUIDATIONS,
    "mark_prices": _TICKERS,
}
_NAMED_MARKETS = re.compile(r"\b(?:publicTrade|orderbook\.\d+|allLiquidation|tickers)\.([\w-]+)").findall


class _Trade(msgspec.Struct, gc=False):
    T: Milliseconds
    p: Text
    v: Text
    i: Text
    S: str = ""
    BT: bool | None = None  # a block trade
    RPI: bool | None = None


class _Book(msgspec.Struct, gc=False):
    b: list[Level]
    a: list[Level]
    u: int


class _Frame(msgspec.Struct, gc=False):
    topic: str = ""
    type: str = ""
    ts: int = 0
    data: list[_Trade] | _Book | None = None
    op: str = ""
    success: bool = True
    ret_msg: str = ""


class _Topic(msgspec.Struct, gc=False):
    topic: str


class _Liquidation(msgspec.Struct, gc=False):
    T: Milliseconds
    S: Literal["Buy", "Sell"]
    v: Text
    p: Text


class _Liquidations(msgspec.Struct, gc=False):
    data: list[_Liquidation]


class _Prices(msgspec.Struct, gc=False):
    markPrice: Text | None = None
    indexPrice: Text | None = None


class _Ticker(msgspec.Struct, gc=False):
    type: Literal["snapshot", "delta"]
    ts: Milliseconds
    data: _Prices


# https://bybit-exchange.github.io/docs/v5/websocket/public/trade (BT, RPI)
# https://bybit-exchange.github.io/docs/v5/market/recent-trade (isBlockTrade, isRPITrade)
_MARKS = Marks(flags={"BT": "block", "isBlockTrade": "block", "RPI": "rpi", "isRPITrade": "rpi"})
_FLAGS = _MARKS.flags
_BLOCK, _RPI = _FLAGS["BT"], _FLAGS["RPI"]

_frames = msgspec.json.Decoder(_Frame)
_topics = msgspec.json.Decoder(_Topic)
_liquidations = msgspec.json.Decoder(_Liquidations)
_tickers = msgspec.json.Decoder(_Ticker)
# `S` is the side of the position; the liquidation order has the opposite side.
_CLOSED_BY: dict[str, Side] = {"Buy": "sell", "Sell": "buy"}


_NO_ORDERS: tuple[None, None] = (None, None)


class BybitDecoder:
    """Decodes the frames of one socket."""

    def __init__(self, symbols: Mapping[str, str], start: int) -> None:
        self._symbols = symbols
        self._seq = TradeIds(start).seq
        self._tops: dict[str, tuple[Row | None, Row | None]] = {}  # best bid and ask
        self._prices: dict[str, _Prices] = {}  # state after the last snapshot and the changes since

    def __call__(self, frame: bytes, received_at: int, /) -> Sequence[Message]:
        try:
            message = _frames.decode(frame)
        except (msgspec.ValidationError, RecursionError) as error:
            return self._rare(frame, received_at, error)
        name, _, market_id = message.topic.rpartition(".")
        if not name:
            return _notices(message)
        symbol = self._symbols.get(market_id)
        if symbol is None:
            return ()
        data = message.data
        if name == _TRADES and type(data) is list:
            seq = self._seq
            return [
                Trade(
                    EXCHANGE,
                    symbol,
                    row.T * 1000,
                    received_at,
                    row.i,
                    seq(row.i),
                    SIDES.get(row.S),
                    row.p,
                    row.v,
                    _BLOCK if row.BT else _RPI if row.RPI else None,
                )
                for row in data
            ]
        if name == _BEST and type(data) is _Book:
            return self._tick(symbol, message, data, received_at)
        if name == _BOOK and type(data) is _Book:
            is_snapshot, time = _is_snapshot(message), _time(message)
            return (BookChange(symbol, time, received_at, data.b, data.a, is_snapshot, None, data.u),)
        if name in _TOPICS.values():
            raise ValueError(f"{name} without its data")
        return ()

    def _rare(self, frame: bytes, received_at: int, error: Exception) -> Sequence[Message]:
        """Decode a frame that is neither trades nor a book. Raises `error` if it is a malformed one of these."""
        name, _, market_id = decoded(_topics, frame).topic.rpartition(".")
        if name not in _TOPICS.values():
            return ()
        if name not in (_LIQUIDATIONS, _TICKERS):
            raise error
        symbol = self._symbols.get(market_id)
        if symbol is None:
            return ()
        if name == _TICKERS:
            return self._mark_price(symbol, _tickers.decode(frame), received_at)
        return [
            Liquidation(EXCHANGE, symbol, row.T * 1000, received_at, _CLOSED_BY[row.S], row.p, row.v)
            for row in _liquidations.decode(frame).data
        ]

    def _mark_price(self, symbol: str, ticker: _Ticker, received_at: int) -> Sequence[Message]:
        """Decode a ticker. A field that a delta leaves out has not changed. Most deltas change neither price."""
        new, held = ticker.data, self._prices.get(symbol)
        if ticker.type == "delta":
            if held is None or (new.markPrice is None and new.indexPrice is None):
                return ()
            new = _Prices(new.markPrice or held.markPrice, new.indexPrice or held.indexPrice)
        self._prices[symbol] = new
        if new.markPrice is None:
            return ()
        return (MarkPrice(EXCHANGE, symbol, ticker.ts * 1000, received_at, new.markPrice, new.indexPrice),)

    def _tick(self, symbol: str, message: _Frame, book: _Book, received_at: int) -> Sequence[Message]:
        """Decode the one-level book. A delta holds only the side that changed."""
        time = _time(message)
        if _is_snapshot(message):
            bid, ask = _first(book.b), _first(book.a)
        elif (held := self._tops.get(symbol)) is not None:
            bid, ask = _changed(held[0], book.b), _changed(held[1], book.a)
        else:
            return ()  # a delta without a snapshot before it
        self._tops[symbol] = bid, ask
        if bid is None and ask is None:
            return ()
        bid_price, bid_size, *_ = bid or _NO_ORDERS
        ask_price, ask_size, *_ = ask or _NO_ORDERS
        return (Tick(EXCHANGE, symbol, time, received_at, bid_price, bid_size, ask_price, ask_size),)


def _first(rows: Sequence[Row]) -> Row | None:
    return rows[0] if rows else None


def _changed(held: Row | None, rows: Iterable[Row]) -> Row | None:
    for row in rows:
        if row[1].strip("0."):
            held = row
        elif held is not None and held[0] == row[0]:
            held = None
    return held


def _is_snapshot(message: _Frame) -> bool:
    if message.type not in ("snapshot", "delta"):
        raise ValueError(f"a book's type is {message.type!r}")
    return message.type == "snapshot"


def _time(message: _Frame) -> int:
    if message.ts <= 0:
        raise ValueError("a book without its time")
    return message.ts * 1000


def _notices(message: _Frame) -> Sequence[Message]:
    """Decode the answer to a request. A refusal names the refused topics."""
    if message.op == "pong" or message.ret_msg == "pong":
        return (Notice("heartbeat"),)
    markets = set(_NAMED_MARKETS(message.ret_msg))
    market_id = markets.pop() if len(markets) == 1 else None
    if not message.success and "already subscribed" not in message.ret_msg:
        return (Notice("refused", message.ret_msg, market_id),)
    if message.op in CONFIRMED:
        return (Notice(CONFIRMED[message.op], message.ret_msg, market_id),)
    raise ValueError("neither a topic's data nor an answer")


class BybitBookRule(BookRule):
    """Sequence numbers (`u`) are consecutive. A snapshot starts a new series, with 1 after a restart of the venue."""

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        if sequence is None or change.last is None:
            return False
        return None if change.last <= sequence else change.last == sequence + 1


class Bybit(Venue):
    """Bybit's sockets. No option of the feed chooses another stream."""

    exchange = EXCHANGE
    decoder = BybitDecoder
    channels = frozenset(_TOPICS)
    markets = frozenset({"spot", "linear", "inverse"})  # options have another socket, other topics and depths
    limits = Limits(
        streams_per_socket=500,  # 21,000 characters of topics on a socket, at most 42 each
        streams_per_message=10,  # limit on spot; no limit is documented for the others
        messages_per_s=10.0,
        sockets_per_s=1.6,  # 500 in five minutes
        source="https://bybit-exchange.github.io/docs/v5/ws/connect",
    )
    keep_alive = KeepAlive(20.0, b'{"op":"ping"}')
    book_rule = BybitBookRule()

    def address(self, market: Mapping[str, Any], channel: Channel) -> str:
        kind = "spot" if market.get("spot") else "inverse" if market.get("inverse") else "linear"
        return f"wss://stream.bybit.com/v5/public/{kind}"

    def requests(self, operation: str, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        topics = [f"{_TOPICS[stream.channel]}.{stream.market_id}" for stream in streams]
        groups = enumerate(chunks(topics, self.limits.streams_per_message), request_id)
        return [msgspec.json.encode({"op": operation, "req_id": str(id_), "args": group}) for id_, group in groups]


_OPTION_DASHES = 3  # dashes in an option's id, such as BTC-26DEC25-100000-C


class BybitNames(VenueNames):
    """Renames topics of option trades: ccxt subscribes to `publicTrade.{symbol}`, but Bybit has one
    `publicTrade.{baseCoin}` for all options of a coin. https://bybit-exchange.github.io/docs/v5/websocket/public/trade"""

    def __init__(self, _markets: Callable[[], Markets]) -> None:
        self._asked: set[str] = set()  # subscribed topics that cover several markets

    def sent(self, message: Any) -> Any:
        topics = at(message, "args") if at(message, "op") == "subscribe" else None
        if not isinstance(topics, list) or not any(_option_of(topic) for topic in topics):
            return message
        coins = [f"{_TRADES}.{option.split('-')[0]}" for topic in topics if (option := _option_of(topic))]
        new = [topic for topic in dict.fromkeys(coins) if topic not in self._asked]
        self._asked.update(new)
        args = [topic for topic in topics if not _option_of(topic)] + new
        return {**message, "args": args} if args else None

    def received(self, frame: Any) -> Sequence[Any]:
        if at(frame, "topic") not in self._asked or not isinstance(frame["data"], list):
            return (frame,)
        by_market: dict[str, list[Any]] = {}
        for row in frame["data"]:
            by_market.setdefault(row["s"], []).append(row)
        return [{**frame, "topic": f"{_TRADES}.{name}", "data": rows} for name, rows in by_market.items()]


def _option_of(topic: Any) -> str | None:
    """The option whose trades this topic names; None if it names another channel or market."""
    channel, _, name = topic.partition(".") if isinstance(topic, str) else ("", "", "")
    return name if channel == _TRADES and name.count("-") >= _OPTION_DASHES else None


def _numbered_frames(frame: Any, url: str) -> Iterable[NumberedFrame]:
    """A one-level book has its own series. https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook"""
    data, topic = part(frame, "data"), str(at(frame, "topic"))
    if data and topic.startswith("orderbook.") and not topic.startswith("orderbook.1."):
        market_type = "spot" if "spot" in url else "contract"
        yield NumberedFrame(frame, str(data.get("s")), data, frame.get("type") == "snapshot", market_type)


# "The value is the sum of both sides. The unit of value, e.g., BTCUSD(inverse) is USD, BTCUSDT(linear) is BTC"
# https://bybit-exchange.github.io/docs/v5/market/open-interest
_OPEN_INTEREST = OpenInterestUnits("base", "quote")
_CCXT = Ccxt(
    # spot: at most 10 topics a request (v5 "args size")
    symbols_per_call=10,
    # "Option: Level 25 data … Level 100 data"; ccxt asks for level 1, which is refused:
    # https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook
    ticks_from_books_of=frozenset({"option"}),
    # "Covers: Spot / USDT contract / USDC contract / Inverse contract", and of open interest the same
    # without spot: https://bybit-exchange.github.io/docs/v5/market/kline,
    # https://bybit-exchange.github.io/docs/v5/market/open-interest
    unserved={"option": frozenset({"candles", "open_interest"})},
)

FACTS = (
    Facts(
        exchange="bybit",
        native=Bybit,
        quantities=Quantities(
            # volume: "USDT or USDC contract: unit is base coin (e.g., BTC). Inverse contract: unit is quote coin
            # (e.g., USD)"; ccxt's contractSize is the least order.
            # https://bybit-exchange.github.io/docs/v5/market/kline
            currency={"linear": "base", "inverse": "quote"},
            of_options=True,
            base_by_default=True,
        ),
        open_interest=_OPEN_INTEREST,
        families_by_request=(
            ("=spot", families.SPOT),
            ("=linear", families.LINEAR),
            ("=inverse", families.INVERSE),
            ("=option", families.OPTIONS),
        ),
        corrections=Corrections(names=BybitNames),
        trades=Trades(
            # Only the newest: 60 on spot, 1000 on the others.
            past=Series(
                Paging.RECENT, Ids.OPAQUE, 1000, source="https://bybit-exchange.github.io/docs/v5/market/recent-trade"
            ),
            marks=_MARKS,
        ),
        ccxt=_CCXT,
        books=CcxtBooks(
            numbering=Numbering(("u",), ("u",)),
            numbered_frames=_numbered_frames,
            best_prices=lambda _url, frame: str(at(frame, "topic")).startswith("orderbook.1."),
            kept_when_broken=True,
            streams_path=("args",),
        ),
    ),
    *(
        Facts(
            exchange=name,
            open_interest=_OPEN_INTEREST,
            trades=Trades(marks=_MARKS),
            ccxt=_CCXT,
            corrections=Corrections(names=BybitNames),
        )
        for name in ("bybiteu", "bybitid")
    ),
)
