"""Kraken spot, WebSocket v2. https://docs.kraken.com/api/docs/websocket-v2/

Messages name a market by Kraken's own name (`BTC/USD`), which is not REST's id (`XXBTZUSD`), and not always ccxt's
symbol. The channel `instrument` lists the names of all markets; on each connection we look for ours in this list.
A book has the requested depth. Kraken sends no removal of a level that falls below this depth, so the client must drop
the level.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ingestd.clock import now_us
from ingestd.records import Channel, Tick, Trade
from ingestd.venues.ccxt_books import Book, CcxtBooks, Levels, as_sent
from ingestd.venues.corrections import Corrections
from ingestd.venues.decoding import Counter, at, decoded
from ingestd.venues.facts import Ccxt, Facts
from ingestd.venues.messages import CONFIRMED, BookChange, Message, Notice
from ingestd.venues.names import VenueNames
from ingestd.venues.numbers import Number, PricedLevel, as_int, best_price, level_texts, number_text, optional_number
from ingestd.venues.requests import by_channel, named_market, option
from ingestd.venues.times import rfc3339_or, rfc3339_us
from ingestd.venues.trades import Ids, NewestAnswer, NewestRequest, Paging, Series, Trades
from ingestd.venues.venue import Asked, BestLevels, BookRule, KeepAlive, Limits, Markets, Venue

EXCHANGE = "kraken"

_NAMES: Mapping[Channel, str] = {"trades": "trade", "ticks": "ticker", "order_book": "book"}
_DEPTHS = (10, 25, 100, 500, 1000)
_CHECKED_LEVELS = 10
_NEWER = {"XBT": "BTC", "XDG": "DOGE"}


class _Trade(msgspec.Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: Number
    qty: Number
    trade_id: Counter
    timestamp: str


class _Trades(msgspec.Struct, tag_field="channel", tag="trade", gc=False):
    data: list[_Trade]


class _Ticker(msgspec.Struct, gc=False):
    symbol: str
    bid: Number = None
    bid_qty: Number = None
    ask: Number = None
    ask_qty: Number = None
    timestamp: str | None = None


class _Tickers(msgspec.Struct, tag_field="channel", tag="ticker", gc=False):
    data: list[_Ticker]


class _Book(msgspec.Struct, gc=False):
    symbol: str
    bids: list[PricedLevel] = []
    asks: list[PricedLevel] = []
    checksum: int | None = None
    timestamp: str | None = None


class _Books(msgspec.Struct, tag_field="channel", tag="book", gc=False):
    type: Literal["snapshot", "update"]
    data: list[_Book]


class _Heartbeat(msgspec.Struct, tag_field="channel", tag="heartbeat", gc=False):
    pass


class _System(msgspec.Struct):
    system: str = ""


class _Status(msgspec.Struct, tag_field="channel", tag="status"):
    data: list[_System]


class _Pair(msgspec.Struct):
    symbol: str


class _Pairs(msgspec.Struct):
    pairs: list[_Pair] = []


class _Instruments(msgspec.Struct, tag_field="channel", tag="instrument"):
    type: str
    data: _Pairs


class _Result(msgspec.Struct):
    channel: str = ""
    symbol: str = ""


class _Answer(msgspec.Struct):
    """An answer to one of our requests."""

    method: str = ""
    success: bool | None = None
    error: str = ""
    too_many: str = msgspec.field(default="", name="Error")  # "Exceeded msg rate"
    symbol: str = ""
    channel: str = ""
    result: _Result | None = None
    req_id: int | None = None


_decode = msgspec.json.Decoder(_Trades | _Tickers | _Books | _Heartbeat | _Status | _Instruments, float_hook=str).decode
_answer = msgspec.json.Decoder(_Answer)
_GREETING = 0  # request number of the greeting; subscriptions start with 1
_UNLISTED = "the venue's channel instrument lists no market of this name"
_KNOWN = frozenset({"trade", "ticker", "book", "heartbeat", "status", "instrument"})


class _Decoder:
    def __init__(self, symbols: Mapping[str, str], start: int) -> None:
        self._symbols = symbols
        self._listed: frozenset[str] | None = None  # names of the markets on the socket; None until they arrive

    def __call__(self, frame: bytes, received_at: int, /) -> Sequence[Message]:
        try:
            message = _decode(frame)
        except (msgspec.ValidationError, RecursionError):
            return self._rare(frame)
        kind = type(message)
        if kind is _Books:
            return self._books(message, received_at)
        if kind is _Trades:
            return self._trades(message, received_at)
        if kind is _Tickers:
            return self._ticks(message, received_at)
        if kind is _Status:
            return [  # Kraken closes every socket before a maintenance
                Notice("restarting" if status.system == "maintenance" else "heartbeat", f"system {status.system}")
                for status in message.data
            ]
        return self._instruments(message) if kind is _Instruments else (Notice("heartbeat"),)

    def _trades(self, message: _Trades, received_at: int) -> Sequence[Message]:
        found = []
        for trade in message.data:
            symbol = self._symbols.get(trade.symbol)
            if symbol is None:
                continue
            time, number = rfc3339_us(trade.timestamp) or received_at, trade.trade_id
            price, size = number_text(trade.price), number_text(trade.qty)
            found.append(Trade(EXCHANGE, symbol, time, received_at, str(number), number, trade.side, price, size))
        return found

    def _ticks(self, message: _Tickers, received_at: int) -> Sequence[Message]:
        found = []
        for ticker in message.data:
            symbol = self._symbols.get(ticker.symbol)
            if symbol is None:
                continue
            bid, ask = best_price(optional_number(ticker.bid)), best_price(optional_number(ticker.ask))
            if bid is None and ask is None:
                continue
            time = rfc3339_or(ticker.timestamp, received_at)
            sizes = optional_number(ticker.bid_qty), optional_number(ticker.ask_qty)
            found.append(Tick(EXCHANGE, symbol, time, received_at, bid, sizes[0], ask, sizes[1]))
        return found

    def _books(self, message: _Books, received_at: int) -> Sequence[Message]:
        found = []
        for book in message.data:
            symbol = self._symbols.get(book.symbol)
            if symbol is None:
                continue
            time, is_snapshot = rfc3339_or(book.timestamp, received_at), message.type == "snapshot"
            bids, asks = level_texts(book.bids), level_texts(book.asks)
            found.append(BookChange(symbol, time, received_at, bids, asks, is_snapshot, checksum=book.checksum))
        return found

    def _rare(self, frame: bytes) -> Sequence[Message]:
        """Decode the answer to a request, or a frame of a channel that we do not use."""
        answer = decoded(_answer, frame)
        if answer.req_id == _GREETING:
            return ()
        error = answer.error or answer.too_many
        if answer.channel in _KNOWN or not (answer.channel or answer.method or error):
            raise ValueError(f"a malformed frame of channel {answer.channel!r}")
        if error:
            market = answer.symbol or named_market(error, self._symbols)
            return (Notice("subscribed" if error.startswith("Already subscribed") else "refused", error, market),)
        if answer.method == "pong":
            return (Notice("heartbeat"),)
        result = answer.result
        if result is None or answer.method not in CONFIRMED:
            return ()
        if answer.method == "subscribe" and self._is_unlisted(result.symbol):
            return (Notice("refused", _UNLISTED, result.symbol),)
        return (Notice(CONFIRMED[answer.method], result.channel, result.symbol or None),)

    def _instruments(self, message: _Instruments) -> Sequence[Message]:
        """Compare Kraken's list of markets with ours: a market of ours that is not in the list counts as refused."""
        if message.type != "snapshot":
            return ()
        self._listed = frozenset(pair.symbol for pair in message.data.pairs)
        return [Notice("refused", _UNLISTED, name) for name in self._symbols if self._is_unlisted(name)]

    def _is_unlisted(self, name: str) -> bool:
        return bool(self._listed) and name in self._symbols and name not in (self._listed or ())


class KrakenBookRule(BookRule):
    """Books have a checksum, and the requested depth."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def agrees(self, change: BookChange, bids: BestLevels, asks: BestLevels) -> bool:
        return change.checksum == kraken_checksum(bids(_CHECKED_LEVELS), asks(_CHECKED_LEVELS))


class Kraken(Venue):
    """Kraken's socket. `options`: `watchOrderBook = { depth = 100 }` requests deeper books than ccxt's 10 levels."""

    exchange = EXCHANGE
    decoder = _Decoder
    channels = frozenset(_NAMES)
    markets = frozenset({"spot"})
    limits = Limits(
        streams_per_message=50,
        messages_per_s=5.0,  # the venue says "dynamic", without a number
        sockets_per_s=0.25,  # "approximately 150" in ten minutes
        source="https://docs.kraken.com/api/docs/guides/spot-ws-intro and …/guides/spot-ratelimits",
    )
    url = "wss://ws.kraken.com/v2"
    keep_alive = KeepAlive(30.0, b'{"method":"ping"}')

    def __init__(self, options: Mapping[str, Any]) -> None:
        depth = option(options, "watchOrderBook", "depth", None)
        self._depth: int = depth if depth in _DEPTHS else _DEPTHS[0]
        self.book_rule = KrakenBookRule(self._depth)

    def market_id(self, market: Mapping[str, Any]) -> str:
        """The market's name on the socket."""
        return kraken_name(market)

    def greeting(self) -> list[bytes]:
        """Subscribe to the list of markets, so that we can check our subscriptions against it."""
        asked = {"method": "subscribe", "params": {"channel": "instrument"}, "req_id": _GREETING}
        return [msgspec.json.encode(asked)]

    def requests(self, operation: str, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        extra: Mapping[str, Any] = {"ticks": {"event_trigger": "bbo"}, "order_book": {"depth": self._depth}}
        asked = (
            {"channel": _NAMES[channel], "symbol": ids, **extra.get(channel, {})}
            for channel, ids in by_channel(streams, self.limits.streams_per_message)
        )
        return [msgspec.json.encode({"method": operation, "params": params, "req_id": request_id}) for params in asked]


def kraken_name(market: Mapping[str, Any]) -> str:
    """The market's name in Kraken's WebSocket v2. `market`: ccxt's dict.

    REST's `wsname` is the name in v1; v2 differs only in BTC and DOGE instead of XBT and XDG:
    https://docs.kraken.com/exchange/guides/websockets/introduction. A market without `wsname` is named by
    the venue's ids of its assets; if v2 does not know that name, it refuses the subscription.
    """
    info = market.get("info") or {}
    name = info.get("wsname")
    if not name and info.get("base"):
        name = f"{info['base']}/{info['quote']}"
    return "/".join(_NEWER.get(asset, asset) for asset in str(name or market["symbol"]).split("/"))


def _by_its_own_assets(market: Mapping[str, Any], code_of: Callable[[str], str]) -> Mapping[str, Any]:
    """Name a market by the two assets in its `wsname`. `code_of`: ccxt's code of an asset.

    ccxt itself takes the codes from REST's list of assets. While that list cannot be loaded, ccxt calls `XREP` REP,
    which is its code of another asset.
    """
    base, _, quote = str(at(market, "info", "wsname") or "").partition("/")
    if not quote or market["symbol"] == market["id"]:
        return market
    base, quote = code_of(base), code_of(quote)
    return {**market, "symbol": f"{base}/{quote}", "base": base, "quote": quote}


class KrakenNames(VenueNames):
    """Translates `symbol` in messages: in `params`, `result`, the rows of `data`, and errors."""

    def __init__(self, markets: Callable[[], Markets]) -> None:
        self._markets = markets
        self._known: Markets = {}
        self._theirs: dict[str, str] = {}  # Kraken's names, by unified symbol
        self._unified: dict[str, str] = {}

    def sent(self, message: Any) -> Any:
        symbols = at(message, "params", "symbol")
        if not isinstance(symbols, list):
            return message
        self._look()
        names = [self._theirs.get(symbol, symbol) for symbol in symbols]
        return {**message, "params": {**message["params"], "symbol": names}}

    def received(self, frame: Any) -> Sequence[Any]:
        self._look()
        data = at(frame, "data")
        for row in (frame, at(frame, "result"), *(data if isinstance(data, list) else ())):
            name = at(row, "symbol")
            if isinstance(name, str):
                if name not in self._unified and name in self._theirs:
                    return ()  # a market that REST does not list, whose name is ccxt's symbol of another market
                row["symbol"] = self._unified.get(name, name)
        return (frame,)

    def _look(self) -> None:
        markets = self._markets()
        if markets is not self._known:
            self._known = markets
            self._theirs = {symbol: kraken_name(market) for symbol, market in markets.items()}
            self._unified = {name: symbol for symbol, name in self._theirs.items()}


def kraken_checksum(bids: Levels, asks: Levels) -> int:
    """CRC32 of the digits of the ten best asks, then bids, without points and leading zeros.

    https://docs.kraken.com/exchange/guides/websockets/book-checksum-v2
    """
    levels = [*asks[:_CHECKED_LEVELS], *bids[:_CHECKED_LEVELS]]
    return zlib.crc32("".join(_digits(level[0]) + _digits(level[1]) for level in levels).encode())


def _digits(number: Any) -> str:
    return as_sent(number).replace(".", "").lstrip("0")


def _agrees(book: Book, frame: Any) -> bool | None:
    """Whether the checksum matches; None if the frame has none."""
    stated = at(frame, "data", 0, "checksum") if at(frame, "channel") == "book" else None
    return None if stated is None else stated == kraken_checksum(book["bids"], book["asks"])


_PAST_DOCS = "https://docs.kraken.com/api/docs/rest-api/get-recent-trades"
_FEW = 20  # up to this many markets are requested by name


def _count(row: Mapping[str, Any]) -> NewestAnswer | None:
    """Read the number of a market's trades today: `t` in the answer of `Ticker`."""
    today = as_int(at(row, "t", 0))
    # The number restarts at midnight, so each day is a separate series.
    return None if today is None else NewestAnswer((f"trades of day {now_us() // 86_400_000_000}", today))


def _unsubscription(exchange: Any, market: Any, name: str) -> dict[str, Any] | None:
    """Make the request that ends the subscription to a book. https://docs.kraken.com/api/docs/websocket-v2/book"""
    if "book" not in name or not name.endswith((f":{market['symbol']}", f"@{market['symbol']}")):
        return None
    params = {"channel": "book", "symbol": [market["symbol"]]}
    return {"method": "unsubscribe", "params": params, "req_id": exchange.request_id()}


FACTS = Facts(
    exchange="kraken",
    native=Kraken,
    example_market="BTC/USD",
    trades=Trades(
        newest=NewestRequest(
            "publicGetTicker",
            lambda reply: reply["result"],
            _count,
            lambda _kind, ids: {"pair": ",".join(ids)} if len(ids) <= _FEW else {},
        ),
        # WebSocket v2: "Sequence number unique per trading book"
        consecutive_ids="all",
        # Trade ids are a sequence per book: https://docs.kraken.com/api/docs/websocket-v2/trade
        past=Series(Paging.FROM_TIME, Ids.CONSECUTIVE, 1000, source=_PAST_DOCS),
    ),
    ccxt=Ccxt(bids_asks_in_tickers=True),
    books=CcxtBooks(agrees=_agrees, unsubscription=_unsubscription, streams_path=("params", "symbol")),
    corrections=Corrections(
        names=KrakenNames,
        market=_by_its_own_assets,
        # a text with microseconds: https://docs.kraken.com/api/docs/websocket-v2/ticker
        ticker_time="timestamp",
        # a text with microseconds; ccxt does not keep the time of a snapshot
        book_times=(("data", 0, "timestamp"),),
    ),
)
