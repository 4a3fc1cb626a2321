"""Kraken spot, WebSocket v2. https://docs.kraken.com/api/docs/websocket-v2/

Messages name a market by Kraken's own name (`BTC/USD`), which is not REST's id (`XXBTZUSD`), and not always ccxt's
symbol. The channel `instrument` lists these names; we compare them on each connection. Books have the requested depth:
Kraken does not remove a level that falls below it, so the client must drop it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from ingestd.clock import now_us
from ingestd.records import Channel, Tick, Trade
from ingestd.venues.checksums import Book, Levels, at
from ingestd.venues.exact import decimal_text
from ingestd.venues.facts import Ccxt, CcxtBooks, Corrections, Facts, Trades
from ingestd.venues.messages import BookChange, Decoder, Message, Notice, Row
from ingestd.venues.names import AsDialled
from ingestd.venues.newest import Bulk, Word, whole
from ingestd.venues.numbers import best_price, number_text, optional_number
from ingestd.venues.past import Ids, Paging, Series
from ingestd.venues.requests import by_channel, named_market
from ingestd.venues.seldom import NESTED, decoded
from ingestd.venues.times import epoch_us
from ingestd.venues.unnumbered import Unnumbered
from ingestd.venues.venue import Asked, KeepAlive, Limits, Markets

EXCHANGE = "kraken"

_URL = "wss://ws.kraken.com/v2"
_NAMES: Mapping[Channel, str] = {"trades": "trade", "ticks": "ticker", "order_book": "book"}
_DEPTHS = (10, 25, 100, 500, 1000)
_CHECKED_LEVELS = 10
_STREAMS_PER_MESSAGE = 50
_Best = Callable[[int], Sequence[Row]]  # returns the n best levels of a side, best first
_ALREADY = "Already subscribed"

_Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Number = Any  # a JSON number; a text if it has a fraction


_NEWER = {"XBT": "BTC", "XDG": "DOGE"}


class _Trade(msgspec.Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: _Number
    qty: _Number
    trade_id: _Id
    timestamp: str


class _Trades(msgspec.Struct, tag_field="channel", tag="trade", gc=False):
    data: list[_Trade]


class _Ticker(msgspec.Struct, gc=False):
    symbol: str
    bid: _Number = None
    bid_qty: _Number = None
    ask: _Number = None
    ask_qty: _Number = None
    timestamp: str | None = None


class _Tickers(msgspec.Struct, tag_field="channel", tag="ticker", gc=False):
    data: list[_Ticker]


class _Level(msgspec.Struct, gc=False):
    price: _Number
    qty: _Number


class _Book(msgspec.Struct, gc=False):
    symbol: str
    bids: list[_Level] = []
    asks: list[_Level] = []
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


class _Instruments(msgspec.Struct):
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


_decode = msgspec.json.Decoder(_Trades | _Tickers | _Books | _Heartbeat | _Status, float_hook=str).decode
_answer = msgspec.json.Decoder(_Answer)
_instruments = msgspec.json.Decoder(_Instruments)
_INSTRUMENT = "instrument"
_GREETING = 0  # request number of the greeting; subscriptions start with 1
_UNLISTED = "the venue's channel instrument lists no market of this name"
_KNOWN = frozenset({"trade", "ticker", "book", "heartbeat", "status"})


class _Decoder:
    def __init__(self, symbols: Mapping[str, str]) -> None:
        self._symbols = symbols
        self._listed: frozenset[str] | None = None  # names of the markets on the socket; None until they arrive

    def __call__(self, frame: bytes, received_at: int, /) -> Sequence[Message]:
        try:
            message = _decode(frame)
        except msgspec.ValidationError:
            return self._seldom(frame)
        except RecursionError as error:
            raise ValueError(NESTED) from error
        kind = type(message)
        if kind is _Books:
            return self._books(message, received_at)
        if kind is _Trades:
            return self._trades(message, received_at)
        if kind is _Tickers:
            return self._ticks(message, received_at)
        if kind is _Status:
            return [_status(system.system) for system in message.data]
        return (Notice("heartbeat"),)

    def _trades(self, message: _Trades, received_at: int) -> Sequence[Message]:
        found = []
        for trade in message.data:
            symbol = self._symbols.get(trade.symbol)
            if symbol is None:
                continue
            time, number = epoch_us(trade.timestamp) or received_at, trade.trade_id
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
            time = _time(ticker.timestamp, received_at)
            sizes = optional_number(ticker.bid_qty), optional_number(ticker.ask_qty)
            found.append(Tick(EXCHANGE, symbol, time, received_at, bid, sizes[0], ask, sizes[1]))
        return found

    def _books(self, message: _Books, received_at: int) -> Sequence[Message]:
        is_snapshot = message.type == "snapshot"
        return [
            BookChange(
                symbol,
                _time(book.timestamp, received_at),
                received_at,
                _rows(book.bids),
                _rows(book.asks),
                is_snapshot,
                checksum=book.checksum,
            )
            for book in message.data
            if (symbol := self._symbols.get(book.symbol)) is not None
        ]

    def _seldom(self, frame: bytes) -> Sequence[Message]:
        """Decode the answer to a request, or a frame of a channel that we do not use."""
        answer = decoded(_answer, frame)
        if answer.channel == _INSTRUMENT:
            return self._instruments(frame)
        if answer.req_id == _GREETING:
            return ()
        error = answer.error or answer.too_many
        if answer.channel in _KNOWN or not (answer.channel or answer.method or error):
            raise ValueError(f"a malformed frame of channel {answer.channel!r}")
        if error:
            market = answer.symbol or named_market(error, self._symbols)
            kind: Literal["subscribed", "refused"] = "subscribed" if error.startswith(_ALREADY) else "refused"
            return (Notice(kind, error, market),)
        if answer.method == "pong":
            return (Notice("heartbeat"),)
        if answer.result is None or answer.method not in ("subscribe", "unsubscribe"):
            return ()
        if answer.method == "subscribe" and self._is_unlisted(answer.result.symbol):
            return (Notice("refused", _UNLISTED, answer.result.symbol),)
        done: Literal["subscribed", "unsubscribed"] = "subscribed" if answer.method == "subscribe" else "unsubscribed"
        return (Notice(done, answer.result.channel, answer.result.symbol or None),)

    def _instruments(self, frame: bytes) -> Sequence[Message]:
        """Compare the list of markets with ours: a market that it does not name counts as refused."""
        message = decoded(_instruments, frame)
        if message.type != "snapshot":
            return ()
        self._listed = frozenset(pair.symbol for pair in message.data.pairs)
        return [Notice("refused", _UNLISTED, name) for name in self._symbols if self._is_unlisted(name)]

    def _is_unlisted(self, name: str) -> bool:
        return bool(self._listed) and name in self._symbols and name not in (self._listed or ())


def _rows(levels: list[_Level]) -> list[Row]:
    return [(number_text(level.price), number_text(level.qty)) for level in levels]


def _time(text: str | None, received_at: int) -> int:
    return (epoch_us(text) if text else 0) or received_at


def _status(system: str) -> Notice:
    """Decode the venue's status. Kraken closes every socket before a maintenance."""
    return Notice("restarting" if system == "maintenance" else "heartbeat", f"system {system}")


class KrakenBookRule(Unnumbered):
    """Books have a checksum, and the requested depth."""

    def __init__(self, depth: int) -> None:
        self.depth: int | None = depth

    def agrees(self, change: BookChange, bids: _Best, asks: _Best) -> bool:
        """Whether the checksum matches the book after the change; it covers the texts as sent."""
        return change.checksum == kraken_checksum(bids(_CHECKED_LEVELS), asks(_CHECKED_LEVELS))


class Kraken:
    """See `Venue`. `options`: `watchOrderBook = { depth = 100 }` requests deeper books than ccxt's 10 levels."""

    exchange = EXCHANGE
    channels = frozenset(_NAMES)
    markets = frozenset({"spot"})
    limits = Limits(
        streams_per_socket=300,  # no limit is documented
        streams_per_message=_STREAMS_PER_MESSAGE,
        messages_per_s=5.0,  # the venue says "dynamic", without a number
        sockets_per_s=0.25,  # "approximately 150" in ten minutes
        source="https://docs.kraken.com/api/docs/guides/spot-ws-intro and …/guides/spot-ratelimits",
    )
    keep_alive = KeepAlive(30.0, b'{"method":"ping"}')
    book_over_rest = False

    def __init__(self, options: Mapping[str, Any]) -> None:
        chosen = options.get("watchOrderBook")
        depth = chosen.get("depth") if isinstance(chosen, Mapping) else None
        self._depth: int = depth if depth in _DEPTHS else _DEPTHS[0]
        self.book_rule = KrakenBookRule(self._depth)

    def market_id(self, market: Mapping[str, Any]) -> str:
        """The market's name on the socket."""
        return kraken_name(market)

    def greeting(self) -> list[bytes]:
        """Subscribe to the list of markets, so that we can check our subscriptions against it."""
        asked = {"method": "subscribe", "params": {"channel": _INSTRUMENT}, "req_id": _GREETING}
        return [msgspec.json.encode(asked)]

    def address(self, market: Mapping[str, Any], channel: Channel) -> str:
        """One URL for all streams."""
        return _URL

    def subscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """One or more messages for each channel."""
        return self._requests("subscribe", streams, request_id)

    def unsubscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """One or more messages for each channel."""
        return self._requests("unsubscribe", streams, request_id)

    def decoder(self, symbols: Mapping[str, str], start: int) -> Decoder:
        """It keeps no state."""
        return _Decoder(symbols)

    def _requests(self, method: str, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        extra: Mapping[Channel, dict[str, Any]] = {
            "ticks": {"event_trigger": "bbo"},
            "order_book": {"depth": self._depth},
        }
        return [
            msgspec.json.encode(
                {
                    "method": method,
                    "params": {"channel": _NAMES[channel], "symbol": ids, **extra.get(channel, {})},
                    "req_id": request_id,
                }
            )
            for channel, ids in by_channel(streams, _STREAMS_PER_MESSAGE)
        ]


def kraken_name(market: Mapping[str, Any]) -> str:
    """The market's name in Kraken's WebSocket v2. `market`: ccxt's dict.

    REST's `wsname` is the name in v1; v2 differs only in BTC and DOGE instead of XBT and XDG:
    https://docs.kraken.com/exchange/guides/websockets/introduction. A market without one is called by the venue's ids
    of its assets: a name that v2 does not know is refused there.
    """
    info = market.get("info") or {}
    name = info.get("wsname")
    if not name and info.get("base"):
        name = f"{info['base']}/{info['quote']}"
    return "/".join(_NEWER.get(asset, asset) for asset in str(name or market["symbol"]).split("/"))


def _by_its_own_assets(market: Mapping[str, Any], code_of: Callable[[str], str]) -> Mapping[str, Any]:
    """Kraken's market, named by its own assets. `code_of`: ccxt's code of an asset.

    ccxt takes the codes from REST's list of assets. While that list cannot be loaded, ccxt calls `XREP` REP, which is
    the name of another market.
    """
    base, _, quote = str((market.get("info") or {}).get("wsname") or "").partition("/")
    if not quote or market["symbol"] == market["id"]:
        return market
    base, quote = code_of(base), code_of(quote)
    return {**market, "symbol": f"{base}/{quote}", "base": base, "quote": quote}


class KrakenNames(AsDialled):
    """Translates `symbol` in messages: in `params`, `result`, the rows of `data`, and errors."""

    def __init__(self, markets: Callable[[], Markets]) -> None:
        self._markets = markets
        self._known: Markets = {}
        self._theirs: dict[str, str] = {}  # Kraken's names, by unified symbol
        self._unified: dict[str, str] = {}

    def sent(self, message: Any) -> Any:
        params = message.get("params") if isinstance(message, dict) else None
        if not isinstance(params, dict) or not isinstance(params.get("symbol"), list):
            return message
        self._look()
        names = [self._theirs.get(symbol, symbol) for symbol in params["symbol"]]
        return {**message, "params": {**params, "symbol": names}}

    def received(self, frame: Any) -> Sequence[Any]:
        if not isinstance(frame, dict):
            return (frame,)
        self._look()
        rows = [frame, frame.get("result"), *(frame["data"] if isinstance(frame.get("data"), list) else ())]
        for row in rows:
            if isinstance(row, dict) and isinstance(row.get("symbol"), str):
                name = row["symbol"]
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
    return (decimal_text(number) or "").replace(".", "").lstrip("0")


def _agrees(book: Book, frame: Any) -> bool | None:
    """Whether the checksum matches; None if the frame has none."""
    stated = at(frame, "data", 0, "checksum") if at(frame, "channel") == "book" else None
    return None if stated is None else stated == kraken_checksum(book["bids"], book["asks"])


_DAY_US = 86_400_000_000
_FEW = 20  # up to this many markets are requested by name


def _count(row: Mapping[str, Any]) -> Word | None:
    """`t` of `Ticker` is the number of trades today."""
    counts = row.get("t")
    today = whole(counts[0]) if isinstance(counts, list) and counts else None
    # It restarts at midnight, so each day is a separate series.
    return None if today is None else Word((f"trades of day {now_us() // _DAY_US}", today))


def _unsubscription(exchange: Any, market: Any, name: str) -> dict[str, Any] | None:
    """https://docs.kraken.com/api/docs/websocket-v2/book"""
    if "book" not in name or not name.endswith((f":{market['symbol']}", f"@{market['symbol']}")):
        return None
    params = {"channel": "book", "symbol": [market["symbol"]]}
    return {"method": "unsubscribe", "params": params, "req_id": exchange.request_id()}


FACTS = (
    Facts(
        exchange="kraken",
        native=Kraken,
        first_market="BTC/USD",
        names=KrakenNames,
        trades=Trades(
            newest=Bulk(
                "publicGetTicker",
                lambda reply: reply["result"],
                _count,
                lambda _kind, ids: {"pair": ",".join(ids)} if len(ids) <= _FEW else {},
            ),
            # WebSocket v2: "Sequence number unique per trading book"
            consecutive_ids="all",
            # Trade ids are a sequence per book: https://docs.kraken.com/api/docs/websocket-v2/trade
            past=Series(
                Paging.FROM_TIME,
                Ids.CONSECUTIVE,
                1000,
                source="https://docs.kraken.com/api/docs/rest-api/get-recent-trades",
            ),
        ),
        ccxt=Ccxt(
            bids_asks_in_tickers=True,
        ),
        books=CcxtBooks(
            agrees=_agrees,
            unsubscription=_unsubscription,
            listed_in=("params", "symbol"),
        ),
        corrections=Corrections(
            market=_by_its_own_assets,
            # a text with microseconds: https://docs.kraken.com/api/docs/websocket-v2/ticker
            ticker_time="timestamp",
            # a text with microseconds; ccxt keeps no time of a snapshot
            book_times=(("data", 0, "timestamp"),),
        ),
    ),
)
