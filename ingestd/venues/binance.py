"""Binance spot, USDⓈ-M and COIN-M, and Binance.US: trades or aggregate trades, best bid and ask, book changes; for
contracts also liquidations and mark prices.

Spot: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
Contracts: https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams
Liquidations: https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/Liquidation-Order-Streams
https://developers.binance.com/docs/derivatives/coin-margined-futures/websocket-market-streams/Liquidation-Order-Streams
Mark prices: https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/Mark-Price-Stream
https://developers.binance.com/docs/derivatives/coin-margined-futures/websocket-market-streams/Mark-Price-Stream
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import msgspec

from ingestd.errors import Unfillable
from ingestd.records import Channel, Liquidation, MarkPrice, Side, Tick, Trade
from ingestd.venues import families
from ingestd.venues.counting import Counting, Quantities
from ingestd.venues.facts import Ccxt, CcxtBooks, Facts, Trades
from ingestd.venues.messages import BookChange, Decoder, Message, Notice
from ingestd.venues.newest import Bulk, Word, rows_by, whole
from ingestd.venues.numbers import best_price
from ingestd.venues.past import Ids, Paging, Series
from ingestd.venues.trade_kinds import Labels, Marks
from ingestd.venues.venue import Asked, KeepAlive, Limits
from ingestd.venues.venue_time import FIRST_MICROSECONDS, asks_for_microseconds, epoch_us

_SPOT = {"binance": "wss://stream.binance.com:9443/ws", "binanceus": "wss://stream.binance.us:9443/ws"}
_INVERSE = "wss://dstream.binance.com/ws"
_LINEAR = "wss://fstream.binance.com"
# European options have separate sockets and messages.
_MARKETS: Mapping[str, frozenset[str]] = {
    "binance": frozenset({"spot", "linear", "inverse"}),
    "binancecoinm": frozenset({"inverse"}),
    "binanceus": frozenset({"spot"}),
    "binanceusdm": frozenset({"linear"}),
}
_TRADE_STREAMS = frozenset({"trade", "aggTrade"})
_DEPTH = "depth@100ms"
_SAMPLED: frozenset[Channel] = frozenset({"liquidations"})  # only the latest of each second and symbol
_OF_THE_MARKET = frozenset({"aggTrade", "forceOrder", "markPrice@1s"})

_Epoch = Annotated[int, msgspec.Meta(gt=0, lt=2**53)]  # milliseconds, or microseconds if requested
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Row = Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]


class _Trade(msgspec.Struct, tag_field="e", tag="trade", gc=False):
    s: str
    t: _Number
    p: _Text
    q: _Text
    T: _Epoch
    m: bool  # the buyer is the maker
    X: str | None = None  # contracts only: the kind of trade


class _Aggregate(msgspec.Struct, tag_field="e", tag="aggTrade", gc=False):
    s: str
    a: _Number
    p: _Text
    q: _Text
    T: _Epoch
    m: bool


class _Ticker(msgspec.Struct, tag_field="e", tag="bookTicker", gc=False):
    s: str
    b: str
    B: str
    a: str
    A: str
    E: _Epoch | None = None


class _Depth(msgspec.Struct, tag_field="e", tag="depthUpdate", gc=False):
    s: str
    E: _Epoch
    U: _Number
    u: _Number
    b: list[_Row]
    a: list[_Row]
    pu: _Number | None = None


class _ForcedOrder(msgspec.Struct, gc=False):
    s: str
    S: Literal["BUY", "SELL"]
    p: _Text  # price of the order, as `q` is its size; `ap`, the average price of its fills, is another one
    q: _Text
    T: _Epoch


class _Liquidation(msgspec.Struct, gc=False):
    """A liquidation: at most one a second for each symbol, the latest of that second."""

    o: _ForcedOrder


class _MarkPrice(msgspec.Struct, gc=False):
    s: str
    p: _Text
    E: _Epoch
    i: str = ""  # price of the underlying


class _SpotTicker(msgspec.Struct, gc=False):
    """A best bid and ask without an event name: from spot, without a time, or from contracts with fields in another
    order, with a time."""

    s: str
    b: str
    B: str
    a: str
    A: str
    E: _Epoch | None = None


_Event = _Trade | _Aggregate | _Ticker | _Depth


class _Combined(msgspec.Struct, gc=False):
    data: msgspec.Raw


class _Refusal(msgspec.Struct):
    code: int = 0
    msg: str = ""


class _Other(msgspec.Struct):
    e: str = ""
    id: int | str | None = None
    error: _Refusal | None = None
    code: int | None = None
    msg: str = ""
    b: msgspec.Raw = msgspec.Raw(b"")


_event = msgspec.json.Decoder(_Event).decode
_spot_ticker = msgspec.json.Decoder(_SpotTicker).decode
_combined = msgspec.json.Decoder(_Combined).decode
_other = msgspec.json.Decoder(_Other).decode
_liquidation = msgspec.json.Decoder(_Liquidation).decode
_mark_price = msgspec.json.Decoder(_MarkPrice).decode
# X of the trade stream; REST says isRPITrade. Options: MARKET, and BLOCK. `NA` comes with zeros, which are rejected.
# "Only market trades will be aggregated, which means the insurance fund trades and ADL trades won't be"; RPI are.
# Recorded candles are the sum of the aggregates (`test_recorded_candles_of_binance_agree`), so they exclude both.
# https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/Aggregate-Trade-Streams
# https://developers.binance.com/docs/derivatives/options-trading/websocket-market-streams/Trade-Streams
# https://developers.binance.com/docs/derivatives/change-log (2025-11: isRPITrade)
BINANCE_LABELS: Mapping[str | int, Labels] = {
    "X": {"MARKET": None, "INSURANCE_FUND": "insurance_fund", "ADL": "adl", "RPI": "rpi", "BLOCK": "block"}
}
_MARKS = Marks(BINANCE_LABELS, {"isRPITrade": "rpi"}, frozenset({"insurance_fund", "adl"}))
_KINDS = _MARKS.kinds_of("X")
_LEFT_OUT = _MARKS.left_out
_OURS = frozenset({"trade", "aggTrade", "bookTicker", "depthUpdate"})
_FORCE_ORDER = "forceOrder"
_MARK_PRICE = "markPriceUpdate"
_RESTARTING = "serverShutdown"
_MOST_NESTED = 4


class BinanceDecoder:
    """Decodes the frames of one socket. It keeps no state, because all trade ids are numbers."""

    def __init__(self, exchange: str, symbols: Mapping[str, str]) -> None:
        self._exchange = exchange
        self._symbols = symbols

    def __call__(self, frame: bytes, received_at: int, /) -> Sequence[Message]:
        """See `Decoder`."""
        try:
            if frame.startswith(b'{"u":'):
                return self._tick(_spot_ticker(frame), received_at)
            event = _event(frame)
        except (msgspec.ValidationError, RecursionError) as error:
            return self._seldom(frame, received_at, error)
        symbol = self._symbols.get(event.s)
        kind = type(event)
        if kind is _Ticker:
            return self._tick(event, received_at)
        if symbol is None:
            return ()
        if kind is _Depth:
            return (_change(event, symbol, received_at),)
        number: int = event.t if kind is _Trade else event.a
        trade = Trade(
            self._exchange,
            symbol,
            event.T * 1000 if event.T < FIRST_MICROSECONDS else event.T,
            received_at,
            str(number),
            number,
            "sell" if event.m else "buy",
            event.p,
            event.q,
        )
        if kind is _Trade and event.X is not None and (mark := _KINDS.get(event.X, "other")) is not None:
            return (msgspec.structs.replace(trade, kind=mark, in_candles=mark not in _LEFT_OUT),)
        return (trade,)

    def _tick(self, ticker: _SpotTicker | _Ticker, received_at: int) -> Sequence[Message]:
        symbol = self._symbols.get(ticker.s)
        bid, ask = best_price(ticker.b), best_price(ticker.a)
        if symbol is None or (bid is None and ask is None):
            return ()
        time = received_at if ticker.E is None else epoch_us(ticker.E)
        return (Tick(self._exchange, symbol, time, received_at, bid, ticker.B or None, ask, ticker.A or None),)

    def _forced(self, order: _ForcedOrder, received_at: int) -> Sequence[Message]:
        symbol = self._symbols.get(order.s)
        if symbol is None:
            return ()
        side: Side = "buy" if order.S == "BUY" else "sell"
        return (Liquidation(self._exchange, symbol, epoch_us(order.T), received_at, side, order.p, order.q),)

    def _marked(self, mark: _MarkPrice, received_at: int) -> Sequence[Message]:
        symbol = self._symbols.get(mark.s)
        if symbol is None:
            return ()
        return (MarkPrice(self._exchange, symbol, epoch_us(mark.E), received_at, mark.p, mark.i or None),)

    def _seldom(self, frame: bytes, received_at: int, error: Exception) -> Sequence[Message]:
        """Decode a rare frame. Raises `error` if it is a malformed frame of a frequent kind."""
        try:
            if frame.startswith(b'{"stream":') and frame.count(b'"data":', 0, 200) < _MOST_NESTED:
                return self(bytes(_combined(frame).data), received_at)
            message = _other(frame)
        except RecursionError as nested:
            raise ValueError("nested too deeply") from nested
        if message.e == _RESTARTING:
            return (Notice("restarting", message.e),)
        if message.e == _FORCE_ORDER:
            return self._forced(_liquidation(frame).o, received_at)
        if message.e == _MARK_PRICE:
            return self._marked(_mark_price(frame), received_at)
        if message.e in _OURS:
            raise error
        if message.error is not None or (message.code is not None and message.code != 0):
            refusal = message.error or _Refusal(message.code or 0, message.msg)
            return (Notice("refused", f"{refusal.code}: {refusal.msg}"),)
        if message.id is not None:
            return (Notice("subscribed"),)
        if not message.e and message.b:
            return self._tick(_spot_ticker(frame), received_at)
        return ()


def _change(depth: _Depth, symbol: str, received_at: int) -> BookChange:
    return BookChange(symbol, epoch_us(depth.E), received_at, depth.b, depth.a, False, depth.U, depth.u, depth.pu)


class BinanceBookRule:
    """Spot's changes are numbered consecutively; those of contracts name the number before them (`pu`).

    A change that begins before the book's number and ends after it applies too: amounts are absolute.
    https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams#how-to-manage-a-local-order-book-correctly
    https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/How-to-manage-a-local-order-book-correctly
    """

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        """See `BookRule`."""
        first, last = change.first, change.last
        if first is None or last is None or sequence is None:
            return False
        if change.previous is None:
            return None if last <= sequence else first <= sequence + 1
        if last < sequence:
            return None
        return change.previous == sequence or first <= sequence


class Binance:
    """See `Venue`. `options` are the feed's: they choose the stream of trades as they do in ccxt."""

    limits = Limits(
        # The venue allows 1024. With fewer, a lost socket affects fewer streams, and a new one is subscribed sooner.
        streams_per_socket=200,
        streams_per_message=100,  # a message of some 2.5 kB
        messages_per_s=4.0,  # 5 are allowed; pings count
        sockets_per_s=0.9,  # 300 are allowed in five minutes from one IP address
        source="https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams#websocket-limits",
    )
    keep_alive = KeepAlive(180.0)  # the venue pings, and we answer; our own pings detect a dead connection
    book_over_rest = True
    book_rule = BinanceBookRule()

    def __init__(self, exchange: str, options: Mapping[str, Any]) -> None:
        self.exchange = exchange
        trades = _option(options, "watchTradesForSymbols", "name", "trade")
        self._names: dict[Channel, str] = {"ticks": "bookTicker"}
        if trades in _TRADE_STREAMS:
            self._names["trades"] = trades
        own_books = [
            name
            for name in ("watchOrderBook", "watchOrderBookForSymbols", "watchOrderBookRate", "watchOrderBookLimit")
            if name in options
        ]
        if not own_books:
            self._names["order_book"] = _DEPTH
        if "watchBidsAsks" in options:  # the streams of stocks
            del self._names["ticks"]
        self.markets = _MARKETS[exchange]
        if self.markets != {"spot"}:
            self._names |= {"liquidations": _FORCE_ORDER, "mark_prices": "markPrice@1s"}
        self.channels = frozenset(self._names)
        self._time_unit = "?timeUnit=MICROSECOND" if exchange in _SPOT and asks_for_microseconds(options) else ""

    def address(self, market: Mapping[str, Any], channel: Channel) -> str:
        """Contracts in USD have separate sockets for books (`public`) and for market data (`market`)."""
        if market.get("linear"):
            category = "market" if self._names[channel] in _OF_THE_MARKET else "public"
            return f"{_LINEAR}/{category}/ws"
        if market.get("inverse"):
            return _INVERSE
        return _SPOT.get(self.exchange, _SPOT["binance"]) + self._time_unit

    def subscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """See `Venue`."""
        return self._requests("SUBSCRIBE", streams, request_id)

    def unsubscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """See `Venue`."""
        return self._requests("UNSUBSCRIBE", streams, request_id)

    def decoder(self, symbols: Mapping[str, str], start: int) -> Decoder:
        """See `Venue`."""
        return BinanceDecoder(self.exchange, symbols)

    def _requests(self, method: str, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        names = [f"{stream.market_id.lower()}@{self._names[stream.channel]}" for stream in streams]
        size = self.limits.streams_per_message
        return [
            msgspec.json.encode({"method": method, "params": names[start : start + size], "id": request_id})
            for start in range(0, len(names), size)
        ]


def _option(options: Mapping[str, Any], method: str, name: str, default: str) -> str:
    of_method = options.get(method)
    chosen = of_method.get(name) if isinstance(of_method, Mapping) else None
    return default if chosen is None else str(chosen)


_PREFIX = {"spot": "public", "linear": "fapiPublic", "inverse": "dapiPublic"}
_PAST_DOCS = "https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints"


def _past(kind: str, stream: str | None, has_key: bool, *, spot_needs_key: bool) -> Series:
    """The series of past trades. Trades and aggregate trades have separate ids, on the socket and over REST."""
    prefix = _PREFIX.get(kind)
    if prefix is None:
        raise Unfillable(f"Binance serves no past trades with the stream's ids for {kind} markets")
    if stream == "aggTrade":
        method, limit = f"{prefix}GetAggTrades", 1000
    elif stream != "trade":
        raise Unfillable(f"it is not known which past trades have the ids of Binance's stream {stream!r}")
    elif has_key or (kind == "spot" and not spot_needs_key):
        method, limit = f"{prefix}GetHistoricalTrades", 1000 if kind == "spot" else 500
    else:
        # historicalTrades needs a key. An aggregate cannot be split into its trades.
        params = {"fetchTradesMethod": f"{prefix}GetTrades"}
        return Series(Paging.RECENT, Ids.CONSECUTIVE, 1000, params, source=_PAST_DOCS)
    return Series(Paging.FROM_ID, Ids.CONSECUTIVE, limit, {"fetchTradesMethod": method}, "fromId", source=_PAST_DOCS)


_BY_NAME = 20  # spot serves this many markets for the weight of one


def _newest(kind: str, stream: str | None) -> Bulk | None:
    """`lastId` of `ticker/24hr` is the id of the last trade. For contracts it may be an insurance trade, which is not
    streamed."""
    prefix = _PREFIX.get(kind)
    if prefix is None:
        return None
    own_ids = stream == "trade"
    return Bulk(
        f"{prefix}GetTicker24hr",
        lambda reply: rows_by("symbol", reply if isinstance(reply, list) else [reply]),
        lambda row: _last_id(row, own_ids=own_ids, is_certain=kind == "spot"),
        _newest_params,
    )


def _newest_params(kind: str, ids: Sequence[str]) -> dict[str, Any]:
    if kind != "spot":
        return {"symbol": ids[0]} if len(ids) == 1 else {}
    symbols = {"symbols": json.dumps(list(ids), separators=(",", ":"))} if len(ids) <= _BY_NAME else {}
    return {"type": "MINI", **symbols}


def _last_id(row: Mapping[str, Any], *, own_ids: bool, is_certain: bool) -> Word | None:
    number = whole(row.get("lastId"))
    if number is None or number < 0:  # -1: no trade in 24 hours
        return None
    return Word(("last id", number), number=number if own_ids else None, is_certain=is_certain)


_TRADES = Trades(
    stream_option=("watchTradesForSymbols", "name", "trade"),
    newest=_newest,
    consecutive_ids="aggregates",
    past=partial(_past, spot_needs_key=True),
    marks=_MARKS,
)
# USDⓈ-M in the base asset. COIN-M: "unit: cont", and its value "unit: base asset"
# https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Open-Interest
# https://developers.binance.com/docs/derivatives/coin-margined-futures/market-data/rest-api/Open-Interest-Statistics
_OPEN_INTEREST = Counting("base", "contracts", no_value=frozenset({"inverse"}))
# A quantity: USDⓈ-M in the base asset, as recorded candles prove; COIN-M "cont", of 100 or 10 USD:
# https://developers.binance.com/docs/derivatives/coin-margined-futures/market-data/rest-api/Open-Interest-Statistics
FACTS = (
    Facts(
        exchange="binance",
        native=partial(Binance, "binance"),
        sampled=_SAMPLED,
        quantities=Quantities(in_contracts=True, of_options=True, in_base_unsaid=True),
        open_interest=_OPEN_INTEREST,
        lists=(
            ("fapiPublic", families.LINEAR),
            ("dapiPublic", families.INVERSE),
            ("eapiPublic", families.OPTIONS),
            ("sapi", families.BESIDE),
            ("public exchangeInfo", families.SPOT),
        ),
        quotes_in_coins=True,
        microseconds="wss://stream.binance.com",
        trades=replace(_TRADES, past=partial(_past, spot_needs_key=False)),
        ccxt=Ccxt(
            # the security type of the endpoint is NONE:
            # https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
            needs_no_key=frozenset({("public", "historicalTrades")}),
            # a weight of 1 is 0.2
            costs={("public", "historicalTrades"): 5.0},
        ),
        books=CcxtBooks(over_rest=True),
    ),
    Facts(
        exchange="binancecoinm",
        native=partial(Binance, "binancecoinm"),
        sampled=_SAMPLED,
        former_names=("binancedelivery",),
        first_market="BTC/USD:BTC",
        quantities=Quantities(in_contracts=True),
        open_interest=_OPEN_INTEREST,
        contracts_only=True,
        trades=_TRADES,
        books=CcxtBooks(over_rest=True),
    ),
    Facts(
        exchange="binanceus",
        native=partial(Binance, "binanceus"),
        microseconds="wss://stream.binance.us",
        trades=replace(_TRADES, marks=Marks()),
        books=CcxtBooks(over_rest=True),
    ),
    Facts(
        exchange="binanceusdm",
        native=partial(Binance, "binanceusdm"),
        sampled=_SAMPLED,
        former_names=("binancefutures",),
        quantities=Quantities(in_contracts=True, in_base_unsaid=True),
        open_interest=_OPEN_INTEREST,
        contracts_only=True,
        quotes_in_coins=True,
        trades=_TRADES,
        books=CcxtBooks(over_rest=True),
    ),
)
