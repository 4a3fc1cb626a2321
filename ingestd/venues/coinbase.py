"""Coinbase Advanced Trade. https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels

Best prices come from `ticker`. ccxt subscribes to `ticker_batch`, whose messages have neither bid nor ask:
https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/advanced-trade-asyncapi.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from ingestd.records import Channel, Side, Tick, Trade
from ingestd.venues.corrections import Corrections, makers_side
from ingestd.venues.decoding import Counter, Text, decoded
from ingestd.venues.facts import Ccxt, Facts
from ingestd.venues.messages import BookChange, FrameNumber, Message, Notice
from ingestd.venues.numbers import best_price
from ingestd.venues.requests import by_channel, named_market
from ingestd.venues.times import rfc3339_us
from ingestd.venues.trade_identity import TradeIds
from ingestd.venues.trades import Trades
from ingestd.venues.venue import Asked, Limits, Venue

EXCHANGE = "coinbase"

_NAMES: Mapping[Channel, str] = {"trades": "market_trades", "ticks": "ticker", "order_book": "level2"}
# The same document: Coinbase sends "the maker's side of the trade", or UNKNOWN_ORDER_SIDE.
_TAKER_OF_MAKER: Mapping[str, Side] = {"BUY": "sell", "SELL": "buy"}


class _Trade(msgspec.Struct, gc=False):
    product_id: str
    price: Text
    size: Text
    side: str
    time: str
    trade_id: str = ""


class _TradeEvent(msgspec.Struct, gc=False):
    trades: list[_Trade] = []


class _Trades(msgspec.Struct, tag_field="channel", tag="market_trades", gc=False):
    sequence_num: Counter
    events: list[_TradeEvent]


class _Ticker(msgspec.Struct, gc=False):
    product_id: str
    best_bid: str | None = None
    best_bid_quantity: str | None = None
    best_ask: str | None = None
    best_ask_quantity: str | None = None


class _TickerEvent(msgspec.Struct, gc=False):
    tickers: list[_Ticker] = []


class _Tickers(msgspec.Struct, tag_field="channel", tag="ticker", gc=False):
    sequence_num: Counter
    timestamp: str
    events: list[_TickerEvent]


class _Level(msgspec.Struct, gc=False):
    side: Literal["bid", "offer"]
    price_level: str
    new_quantity: str


class _BookEvent(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    product_id: str
    updates: list[_Level] = []


class _Books(msgspec.Struct, tag_field="channel", tag="l2_data", gc=False):
    sequence_num: Counter
    timestamp: str
    events: list[_BookEvent]


class _Heartbeats(msgspec.Struct, tag_field="channel", tag="heartbeats", gc=False):
    sequence_num: Counter


class _SubscriptionsEvent(msgspec.Struct):
    subscriptions: dict[str, list[str]] = {}


class _Subscriptions(msgspec.Struct, tag_field="channel", tag="subscriptions"):
    sequence_num: Counter
    events: list[_SubscriptionsEvent] = []


class _Other(msgspec.Struct):
    channel: str = ""
    type: str = ""
    message: str = ""
    sequence_num: Counter | None = None


_decode = msgspec.json.Decoder(_Trades | _Tickers | _Books | _Heartbeats | _Subscriptions).decode
_other = msgspec.json.Decoder(_Other)
_KNOWN = frozenset({"market_trades", "ticker", "l2_data", "heartbeats", "subscriptions"})


class _Decoder:
    def __init__(self, symbols: Mapping[str, str], start: int) -> None:
        self._symbols = symbols
        self._ids = TradeIds(start)

    def __call__(self, frame: bytes, received_at: int, /) -> Sequence[Message]:
        try:
            message = _decode(frame)
        except (msgspec.ValidationError, RecursionError):
            return self._rare(frame)
        found: list[Message] = [FrameNumber(message.sequence_num)]
        kind = type(message)
        if kind is _Trades:
            self._take_trades(message, received_at, found)
        elif kind is _Books:
            self._take_books(message, received_at, found)
        elif kind is _Tickers:
            self._take_ticks(message, received_at, found)
        elif kind is _Subscriptions:
            found += [
                Notice("subscribed", channel, product)
                for event in message.events
                for channel, products in event.subscriptions.items()
                for product in products
            ]
        else:
            found.append(Notice("heartbeat"))
        return found

    def _take_trades(self, message: _Trades, received_at: int, found: list[Message]) -> None:
        symbols, new_seq = self._symbols, self._ids.seq
        for event in message.events:
            for trade in reversed(event.trades):  # the newest is first
                symbol = symbols.get(trade.product_id)
                if symbol is None:
                    continue
                price, size, side = trade.price, trade.size, _TAKER_OF_MAKER.get(trade.side)
                time = rfc3339_us(trade.time) or received_at
                name = trade.trade_id or self._ids.synthetic(symbol, time // 1000, price, size, side, received_at)
                found.append(Trade(EXCHANGE, symbol, time, received_at, name, new_seq(name), side, price, size))

    def _take_ticks(self, message: _Tickers, received_at: int, found: list[Message]) -> None:
        time = rfc3339_us(message.timestamp) or received_at
        for event in message.events:
            for ticker in event.tickers:
                symbol = self._symbols.get(ticker.product_id)
                if symbol is None:
                    continue
                bid, ask = best_price(ticker.best_bid), best_price(ticker.best_ask)
                if bid is None and ask is None:
                    continue
                sizes = ticker.best_bid_quantity or None, ticker.best_ask_quantity or None
                found.append(Tick(EXCHANGE, symbol, time, received_at, bid, sizes[0], ask, sizes[1]))

    def _take_books(self, message: _Books, received_at: int, found: list[Message]) -> None:
        time = rfc3339_us(message.timestamp) or received_at
        for event in message.events:
            symbol = self._symbols.get(event.product_id)
            if symbol is None:
                continue
            bids = [(level.price_level, level.new_quantity) for level in event.updates if level.side == "bid"]
            asks = [(level.price_level, level.new_quantity) for level in event.updates if level.side == "offer"]
            found.append(BookChange(symbol, time, received_at, bids, asks, event.type == "snapshot"))

    def _rare(self, frame: bytes) -> Sequence[Message]:
        """Decode a refusal, or a frame of a channel that we do not use."""
        message = decoded(_other, frame)
        if message.type == "error":
            return (Notice("refused", message.message, named_market(message.message, self._symbols)),)
        if not message.channel or message.channel in _KNOWN:
            raise ValueError(f"a malformed frame of channel {message.channel!r}")
        return () if message.sequence_num is None else (FrameNumber(message.sequence_num),)


class CoinbaseAdvanced(Venue):
    """Coinbase Advanced Trade's socket. No option of ccxt chooses another stream."""

    exchange = EXCHANGE
    decoder = _Decoder  # its state makes ids for trades without one
    channels = frozenset(_NAMES)
    markets = frozenset({"spot", "linear"})
    limits = Limits(
        streams_per_message=50,
        messages_per_s=8.0,
        sockets_per_s=8.0,
        source="https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-rate-limits",
    )
    url = "wss://advanced-trade-ws.coinbase.com"

    def subscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """Subscribe to heartbeats too: without them Coinbase closes a quiet stream."""
        return [*super().subscribe(streams, request_id), b'{"type":"subscribe","channel":"heartbeats"}']

    def requests(self, operation: str, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        return [
            msgspec.json.encode({"type": operation, "product_ids": ids, "channel": _NAMES[channel]})
            for channel, ids in by_channel(streams, self.limits.streams_per_message)
        ]


FACTS = Facts(
    exchange="coinbase",
    native=CoinbaseAdvanced,
    former_names=("coinbaseadvanced",),
    example_market="BTC/USD",
    # `trade_id` counts the trades of a product: 97 of 97 recorded steps are 1
    trades=Trades(consecutive_ids="all"),
    # for several symbols ccxt subscribes to `ticker_batch`
    ccxt=Ccxt(tickers_one_by_one=True),
    corrections=Corrections(trade=makers_side),
)
