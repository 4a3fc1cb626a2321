"""Coinbase Exchange. https://docs.cdp.coinbase.com/exchange/websocket-feed/channels

Books come from `level2_batch`, which needs no key; `level2`, which ccxt subscribes to, does. Its messages are the same,
batched every 50 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from ingestd.records import Channel, Side, Tick, Trade
from ingestd.venues.corrections import Corrections, makers_side
from ingestd.venues.decoding import Counter, Text, decoded
from ingestd.venues.facts import Ccxt, Facts
from ingestd.venues.messages import BookChange, Message, Notice
from ingestd.venues.numbers import best_price
from ingestd.venues.requests import by_channel, named_market
from ingestd.venues.times import rfc3339_or, rfc3339_us
from ingestd.venues.trades import Ids, Paging, Series, Trades
from ingestd.venues.venue import Asked, Limits, Venue

EXCHANGE = "coinbaseexchange"

_NAMES: Mapping[Channel, str] = {"trades": "matches", "ticks": "ticker", "order_book": "level2_batch"}
_TAKER_OF_MAKER: Mapping[str, Side] = {"buy": "sell", "sell": "buy"}


class _Match(msgspec.Struct, tag_field="type", tag="match", gc=False):
    product_id: str
    trade_id: Counter
    side: Literal["buy", "sell"]  # the maker's
    size: Text
    price: Text
    time: str


class _LastMatch(_Match, tag_field="type", tag="last_match", gc=False):
    """The last trade before the subscription."""


class _Ticker(msgspec.Struct, tag_field="type", tag="ticker", gc=False):
    product_id: str
    best_bid: str | None = None
    best_bid_size: str | None = None
    best_ask: str | None = None
    best_ask_size: str | None = None
    time: str | None = None


class _Snapshot(msgspec.Struct, tag_field="type", tag="snapshot", gc=False):
    product_id: str
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    time: str | None = None


class _Update(msgspec.Struct, tag_field="type", tag="l2update", gc=False):
    product_id: str
    changes: list[tuple[Literal["buy", "sell"], str, str]]
    time: str


class _Subscribed(msgspec.Struct):
    name: str
    product_ids: list[str] = []


class _Other(msgspec.Struct):
    type: str
    message: str = ""
    reason: str = ""
    channels: list[_Subscribed] = []


_decode = msgspec.json.Decoder(_Match | _LastMatch | _Ticker | _Snapshot | _Update).decode
_other = msgspec.json.Decoder(_Other)
_DATA = frozenset({"match", "last_match", "ticker", "snapshot", "l2update"})


class _Decoder:
    def __init__(self, symbols: Mapping[str, str], start: int) -> None:
        self._symbols = symbols

    def __call__(self, frame: bytes, received_at: int, /) -> Sequence[Message]:
        try:
            message = _decode(frame)
        except (msgspec.ValidationError, RecursionError):
            return self._rare(frame)
        symbol = self._symbols.get(message.product_id)
        if symbol is None:
            return ()
        kind = type(message)
        if kind is _Match or kind is _LastMatch:
            return (_trade(message, symbol, received_at),)
        if kind is _Update:
            return (_update(message, symbol, received_at),)
        if kind is _Ticker:
            return _tick(message, symbol, received_at)
        return (_snapshot(message, symbol, received_at),)

    def _rare(self, frame: bytes) -> Sequence[Message]:
        """Decode a frame that is not market data. The venue tells clients to ignore unknown types."""
        message = decoded(_other, frame)
        if message.type in _DATA:
            raise ValueError(f"a malformed {message.type}")
        if message.type == "error":
            text = ": ".join(filter(None, (message.message, message.reason)))
            return (Notice("refused", text, named_market(text, self._symbols)),)
        if message.type == "subscriptions":
            return tuple(
                Notice("subscribed", channel.name, product)
                for channel in message.channels
                for product in channel.product_ids
            )
        return (Notice("heartbeat"),) if message.type == "heartbeat" else ()


def _trade(match: _Match, symbol: str, received_at: int) -> Trade:
    time, number = rfc3339_us(match.time) or received_at, match.trade_id
    side = _TAKER_OF_MAKER[match.side]
    return Trade(EXCHANGE, symbol, time, received_at, str(number), number, side, match.price, match.size)


def _tick(ticker: _Ticker, symbol: str, received_at: int) -> Sequence[Tick]:
    bid, ask = best_price(ticker.best_bid), best_price(ticker.best_ask)
    if bid is None and ask is None:
        return ()
    time = rfc3339_or(ticker.time, received_at)
    bid_size, ask_size = ticker.best_bid_size or None, ticker.best_ask_size or None
    return (Tick(EXCHANGE, symbol, time, received_at, bid, bid_size, ask, ask_size),)


def _update(update: _Update, symbol: str, received_at: int) -> BookChange:
    bids = [(price, size) for side, price, size in update.changes if side == "buy"]
    asks = [(price, size) for side, price, size in update.changes if side == "sell"]
    return BookChange(symbol, rfc3339_us(update.time) or received_at, received_at, bids, asks)


def _snapshot(snapshot: _Snapshot, symbol: str, received_at: int) -> BookChange:
    time = rfc3339_or(snapshot.time, received_at)
    return BookChange(symbol, time, received_at, snapshot.bids, snapshot.asks, is_snapshot=True)


class CoinbaseExchange(Venue):
    """Coinbase Exchange's socket. No option of ccxt chooses another stream."""

    exchange = EXCHANGE
    decoder = _Decoder
    channels = frozenset(_NAMES)
    markets = frozenset({"spot"})
    limits = Limits(
        streams_per_message=50,
        messages_per_s=8.0,
        sockets_per_s=8.0,
        source="https://docs.cdp.coinbase.com/exchange/websocket-feed/rate-limits",
    )
    url = "wss://ws-feed.exchange.coinbase.com"

    def requests(self, operation: str, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        return [
            msgspec.json.encode({"type": operation, "product_ids": ids, "channels": [_NAMES[channel]]})
            for channel, ids in by_channel(streams, self.limits.streams_per_message)
        ]


FACTS = Facts(
    exchange="coinbaseexchange",
    native=CoinbaseExchange,
    former_names=("coinbasepro", "gdax"),
    example_market="BTC/USD",
    trades=Trades(
        # `trade_id` of a product; recorded: 97 of 97 steps are 1
        consecutive_ids="all",
        past=Series(
            Paging.BEFORE_ID,
            Ids.CONSECUTIVE,
            1000,
            id_param="after",
            source="https://docs.cdp.coinbase.com/exchange/reference/exchangerestapi_getproducttrades",
        ),
    ),
    ccxt=Ccxt(
        with_key_only=frozenset({"order_book"}),
        # the last trade before a subscription: https://docs.cdp.coinbase.com/exchange/websocket-feed/channels
        same_message={"last_match": "match"},
    ),
    corrections=Corrections(
        trade=makers_side,
        book_times=(("time",),),  # a text with microseconds
    ),
)
