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

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import msgspec

from ingestd.records import Channel, Liquidation, MarkPrice, Side, Tick, Trade
from ingestd.venues import families
from ingestd.venues.binance_rest import newest, past
from ingestd.venues.ccxt_books import CcxtBooks
from ingestd.venues.decoding import Counter, Level, Milliseconds, Text, decoded
from ingestd.venues.facts import Ccxt, Facts, OpenInterestUnits, Quantities
from ingestd.venues.messages import BookChange, Decoder, Message, Notice
from ingestd.venues.numbers import best_price
from ingestd.venues.requests import chunks, option
from ingestd.venues.times import FIRST_MICROSECONDS, asks_for_microseconds, epoch_us
from ingestd.venues.trades import Labels, Marks, Trades
from ingestd.venues.venue import Asked, BookRule, KeepAlive, Limits, Venue

_SPOT = {"binance": "wss://stream.binance.com:9443/ws", "binanceus": "wss://stream.binance.us:9443/ws"}
# European options have separate sockets and messages.
_MARKETS: Mapping[str, frozenset[str]] = {
    "binance": frozenset({"spot", "linear", "inverse"}),
    "binancecoinm": frozenset({"inverse"}),
    "binanceus": frozenset({"spot"}),
    "binanceusdm": frozenset({"linear"}),
}
# ccxt's options of books: they choose another depth or rate.
_BOOK_OPTIONS = frozenset({"watchOrderBook", "watchOrderBookForSymbols", "watchOrderBookRate", "watchOrderBookLimit"})
_SAMPLED: frozenset[Channel] = frozenset({"liquidations"})  # only the latest of each second and symbol
_OF_THE_MARKET = frozenset({"aggTrade", "forceOrder", "markPrice@1s"})

_Epoch = Milliseconds  # or microseconds if requested


class _Trade(msgspec.Struct, tag_field="e", tag="trade", gc=False):
    s: str
    t: Counter
    p: Text
    q: Text
    T: _Epoch
    m: bool  # the buyer is the maker
    X: str | None = None  # contracts only: the kind of trade


class _Aggregate(msgspec.Struct, tag_field="e", tag="aggTrade", gc=False):
    s: str
    a: Counter
    p: Text
    q: Text
    T: _Epoch
    m: bool


class _SpotTicker(msgspec.Struct, gc=False):
    """A best bid and ask without an event name. Spot sends no time, contracts do."""

    s: str
    b: str
    B: str
    a: str
    A: str
    E: _Epoch | None = None


class _Ticker(_SpotTicker, tag_field="e", tag="bookTicker", gc=False):
    """The same with an event name, from contracts."""


class _Depth(msgspec.Struct, tag_field="e", tag="depthUpdate", gc=False):
    s: str
    E: _Epoch
    U: Counter
    u: Counter
    b: list[Level]
    a: list[Level]
    pu: Counter | None = None


class _ForcedOrder(msgspec.Struct, gc=False):
    s: str
    S: Literal["BUY", "SELL"]
    p: Text  # the order's price, as `q` is its size; the average price of its fills would be `ap`
    q: Text
    T: _Epoch


class _Liquidation(msgspec.Struct, tag_field="e", tag="forceOrder", gc=False):
    """A liquidation: at most one a second for each symbol, the latest of that second."""

    o: _ForcedOrder

    @property
    def s(self) -> str:
        return self.o.s


class _MarkPrice(msgspec.Struct, tag_field="e", tag="markPriceUpdate", gc=False):
    s: str
    p: Text
    E: _Epoch
    i: str = ""  # price of the underlying


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


_event = msgspec.json.Decoder(_Trade | _Aggregate | _Ticker | _Depth | _Liquidation | _MarkPrice).decode
_spot_ticker = msgspec.json.Decoder(_SpotTicker).decode
_combined = msgspec.json.Decoder(_Combined)
_other = msgspec.json.Decoder(_Other)
# The stream says `X`, REST `isRPITrade`. Options have MARKET and BLOCK. Trades with `NA` are zeros and get rejected.
# "Only market trades will be aggregated, which means the insurance fund trades and ADL trades won't be"; RPI trades
# are. Recorded candles are the sum of the aggregates (`test_recorded_candles_of_binance_agree`): they lack both kinds.
# https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/Aggregate-Trade-Streams
# https://developers.binance.com/docs/derivatives/options-trading/websocket-market-streams/Trade-Streams
# https://developers.binance.com/docs/derivatives/change-log (2025-11: isRPITrade)
BINANCE_LABELS: Mapping[str | int, Labels] = {
    "X": {"MARKET": None, "INSURANCE_FUND": "insurance_fund", "ADL": "adl", "RPI": "rpi", "BLOCK": "block"}
}
_MARKS = Marks(BINANCE_LABELS, {"isRPITrade": "rpi"}, frozenset({"insurance_fund", "adl"}))
_KINDS = _MARKS.kinds_of("X")
_OURS = frozenset({"trade", "aggTrade", "bookTicker", "depthUpdate", "forceOrder", "markPriceUpdate"})
_MOST_NESTED = 4


class BinanceDecoder:
    """Decodes the frames of one socket. It keeps no state, because all trade ids are numbers."""

    def __init__(self, exchange: str, symbols: Mapping[str, str]) -> None:
        self._exchange = exchange
        self._symbols = symbols

    def __call__(self, frame: bytes, received_at: int, /) -> Sequence[Message]:
        try:
            if frame.startswith(b'{"u":'):
                return self._tick(_spot_ticker(frame), received_at)
            event = _event(frame)
        except (msgspec.ValidationError, RecursionError) as error:
            return self._rare(frame, received_at, error)
        symbol = self._symbols.get(event.s)
        kind = type(event)
        if kind is _Ticker:
            return self._tick(event, received_at)
        if symbol is None:
            return ()
        if kind is _Depth:
            time = epoch_us(event.E)
            return (BookChange(symbol, time, received_at, event.b, event.a, False, event.U, event.u, event.pu),)
        if kind is _Trade:
            number, label = event.t, event.X
        elif kind is _Aggregate:
            number, label = event.a, None
        else:
            return (self._of_contract(event, symbol, received_at),)
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
        if label is not None and (mark := _KINDS.get(label, "other")) is not None:
            return (msgspec.structs.replace(trade, kind=mark, in_candles=mark not in _MARKS.not_in_candles),)
        return (trade,)

    def _tick(self, ticker: _SpotTicker | _Ticker, received_at: int) -> Sequence[Message]:
        symbol = self._symbols.get(ticker.s)
        bid, ask = best_price(ticker.b), best_price(ticker.a)
        if symbol is None or (bid is None and ask is None):
            return ()
        time = received_at if ticker.E is None else epoch_us(ticker.E)
        return (Tick(self._exchange, symbol, time, received_at, bid, ticker.B or None, ask, ticker.A or None),)

    def _of_contract(self, event: _Liquidation | _MarkPrice, symbol: str, received_at: int) -> Message:
        if isinstance(event, _MarkPrice):
            return MarkPrice(self._exchange, symbol, epoch_us(event.E), received_at, event.p, event.i or None)
        order = event.o
        side: Side = "buy" if order.S == "BUY" else "sell"
        return Liquidation(self._exchange, symbol, epoch_us(order.T), received_at, side, order.p, order.q)

    def _rare(self, frame: bytes, received_at: int, error: Exception) -> Sequence[Message]:
        """Decode a rare frame. Raises `error` if it is a malformed frame of a frequent kind."""
        if frame.startswith(b'{"stream":') and frame.count(b'"data":', 0, 200) < _MOST_NESTED:
            return self(bytes(decoded(_combined, frame).data), received_at)
        message = decoded(_other, frame)
        if message.e == "serverShutdown":
            return (Notice("restarting", message.e),)
        if message.e in _OURS:
            raise error
        if message.error is not None or message.code:
            refusal = message.error or _Refusal(message.code or 0, message.msg)
            return (Notice("refused", f"{refusal.code}: {refusal.msg}"),)
        if message.id is not None:
            return (Notice("subscribed"),)
        if not message.e and message.b:
            return self._tick(_spot_ticker(frame), received_at)
        return ()


class BinanceBookRule(BookRule):
    """Spot's changes are numbered consecutively; those of contracts name the number before them (`pu`).

    A change that begins before the book's number and ends after it applies too: amounts are absolute.
    https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams#how-to-manage-a-local-order-book-correctly
    https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/How-to-manage-a-local-order-book-correctly
    """

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        first, last = change.first, change.last
        if first is None or last is None or sequence is None:
            return False
        if change.previous is None:
            return None if last <= sequence else first <= sequence + 1
        if last < sequence:
            return None
        return change.previous == sequence or first <= sequence


class Binance(Venue):
    """Binance's sockets. The feed's options choose the stream of trades, as in ccxt."""

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
        self.markets = _MARKETS[exchange]
        self._names: dict[Channel, str] = {}
        trades = str(option(options, "watchTradesForSymbols", "name", "trade"))
        if trades in ("trade", "aggTrade"):
            self._names["trades"] = trades
        if "watchBidsAsks" not in options:  # the option chooses the streams of stocks
            self._names["ticks"] = "bookTicker"
        if not _BOOK_OPTIONS.intersection(options):
            self._names["order_book"] = "depth@100ms"
        if self.markets != {"spot"}:
            self._names |= {"liquidations": "forceOrder", "mark_prices": "markPrice@1s"}
        self.channels = frozenset(self._names)
        self._time_unit = "?timeUnit=MICROSECOND" if exchange in _SPOT and asks_for_microseconds(options) else ""

    def address(self, market: Mapping[str, Any], channel: Channel) -> str:
        """USDⓈ-M has two: `market` for aggregate trades, liquidations and mark prices, `public` for the rest."""
        if market.get("linear"):
            category = "market" if self._names[channel] in _OF_THE_MARKET else "public"
            return f"wss://fstream.binance.com/{category}/ws"
        if market.get("inverse"):
            return "wss://dstream.binance.com/ws"
        return _SPOT.get(self.exchange, _SPOT["binance"]) + self._time_unit

    def requests(self, operation: str, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        names = [f"{stream.market_id.lower()}@{self._names[stream.channel]}" for stream in streams]
        return [
            msgspec.json.encode({"method": operation.upper(), "params": params, "id": request_id})
            for params in chunks(names, self.limits.streams_per_message)
        ]

    def decoder(self, symbols: Mapping[str, str], start: int) -> Decoder:
        return BinanceDecoder(self.exchange, symbols)


_TRADES = Trades(
    stream_option=("watchTradesForSymbols", "name", "trade"),
    newest=newest,
    consecutive_ids="aggregates",
    past=partial(past, spot_needs_key=True),
    marks=_MARKS,
)
# USDⓈ-M in the base asset. COIN-M: "unit: cont", and its value "unit: base asset"
# https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Open-Interest
# https://developers.binance.com/docs/derivatives/coin-margined-futures/market-data/rest-api/Open-Interest-Statistics
_OPEN_INTEREST = OpenInterestUnits("base", "contracts", value_not_in_quote=frozenset({"inverse"}))
# A quantity: USDⓈ-M in the base asset, as recorded candles prove; COIN-M "cont", of 100 or 10 USD:
# https://developers.binance.com/docs/derivatives/coin-margined-futures/market-data/rest-api/Open-Interest-Statistics
FACTS = (
    Facts(
        exchange="binance",
        native=partial(Binance, "binance"),
        sampled=_SAMPLED,
        quantities=Quantities(in_contracts=True, of_options=True, base_by_default=True),
        open_interest=_OPEN_INTEREST,
        families_by_request=(
            ("fapiPublic", families.LINEAR),
            ("dapiPublic", families.INVERSE),
            ("eapiPublic", families.OPTIONS),
            ("sapi", families.BESIDE),
            ("public exchangeInfo", families.SPOT),
        ),
        quotes_in_coins=True,
        microsecond_url_prefix="wss://stream.binance.com",
        trades=replace(_TRADES, past=partial(past, spot_needs_key=False)),
        ccxt=Ccxt(
            # the security type of the endpoint is NONE:
            # https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
            needs_no_key=frozenset({("public", "historicalTrades")}),
            # the weight is 25; ccxt counts a weight of 1 as 0.2
            costs={("public", "historicalTrades"): 5.0},
        ),
        books=CcxtBooks(over_rest=True),
    ),
    Facts(
        exchange="binancecoinm",
        native=partial(Binance, "binancecoinm"),
        sampled=_SAMPLED,
        former_names=("binancedelivery",),
        example_market="BTC/USD:BTC",
        quantities=Quantities(in_contracts=True),
        open_interest=_OPEN_INTEREST,
        contracts_only=True,
        trades=_TRADES,
        books=CcxtBooks(over_rest=True),
    ),
    Facts(
        exchange="binanceus",
        native=partial(Binance, "binanceus"),
        microsecond_url_prefix="wss://stream.binance.us",
        trades=replace(_TRADES, marks=Marks()),
        books=CcxtBooks(over_rest=True),
    ),
    Facts(
        exchange="binanceusdm",
        native=partial(Binance, "binanceusdm"),
        sampled=_SAMPLED,
        former_names=("binancefutures",),
        quantities=Quantities(in_contracts=True, base_by_default=True),
        open_interest=_OPEN_INTEREST,
        contracts_only=True,
        quotes_in_coins=True,
        trades=_TRADES,
        books=CcxtBooks(over_rest=True),
    ),
)
