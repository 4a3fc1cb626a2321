"""Which ccxt method serves a channel on a venue, and how many symbols one call may carry. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ingestd.records import CHANNELS, Channel

DEFAULT_SYMBOLS_PER_CALL = 50

SYMBOLS_PER_CALL: Mapping[str, int] = {
    "bybit": 10,  # spot: at most 10 topics a request (v5 "args size")
    "bybiteu": 10,
    "bybitid": 10,
    "gate": 30,
    "gateeu": 30,
    "gemini": 20,  # the symbols are part of the URL
    "bitget": 30,
}

BIDS_ASKS_IN_TICKERS = frozenset({"kraken", "modetrade", "woofipro"})
"""Venues whose best bid and ask stream is written to ccxt's `tickers`, not to its `bidsasks`."""

TICKS_FROM_BOOKS = frozenset(
    {
        "apex", "bithumb", "bitopro", "bitrue", "bittrade", "blockchaincom", "bydfi", "cex", "hashkey", "hyperliquid",
        "lbank", "lighter", "mudrex", "onetrading", "p2b", "pacifica", "phemex", "poloniex", "toobit", "upbit",
        "whitebit", "xt",
    }
)  # fmt: skip
"""Venues whose ticker stream has no best bid and ask, of all or of some markets: they are the top of the order book.

ccxt's code sets none, or reads what the documented message does not have (Hyperliquid's are prices of impact).
`test_a_ticker_stream_has_best_prices_by_its_source` looks at all others.
"""

_SPOT, _SWAP, _FUTURE, _OPTION = "spot", "swap", "future", "option"
_ANY_CHANNEL = frozenset(CHANNELS)

_TICKS_FROM_BOOKS_OF: Mapping[str, frozenset[str]] = {
    # "Option: Level 25 data … Level 100 data"; the library asks for level 1, which the venue refuses
    # https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook
    **dict.fromkeys(("bybit", "bybiteu", "bybitid"), frozenset({_OPTION})),
    # ccxt has the stream of best prices for spot alone. The tickers of contracts are no substitute: WEEX' have neither
    # bid nor ask, MEXC's of all symbols the day's limits.
    "mexc": frozenset({_SWAP}),
    "weex": frozenset({_SWAP}),
}
"""The market types of a venue whose best prices are the top of the book, though its other markets have a stream."""

_UNSERVED: Mapping[str, Mapping[str, frozenset[Channel]]] = {
    # "Covers: Spot / USDT contract / USDC contract / Inverse contract", and of open interest the same without spot
    # https://bybit-exchange.github.io/docs/v5/market/kline, https://bybit-exchange.github.io/docs/v5/market/open-interest
    **{name: {_OPTION: frozenset({"candles", "open_interest"})} for name in ("bybit", "bybiteu", "bybitid")},
    # The library asks for options.candlesticks, which is options.contract_candlesticks
    # https://www.gate.com/docs/developers/options/ws/en/#contract-candlesticks-channel
    **{name: {_OPTION: frozenset({"candles"})} for name in ("gate", "gateeu")},
    "bitrue": {_SPOT: frozenset({"trades", "candles"})},
    "lbank": {_SWAP: frozenset({"ticks", "trades", "order_book", "candles"})},
    "xt": {_FUTURE: frozenset({"open_interest"})},
}
"""The streams of a market type that ccxt's code or the venue refuses, though it has them of another type."""

_MISREAD: Mapping[str, frozenset[Channel]] = {
    # Its messages are changes, which ccxt takes for whole books, and there is no number by which to put them on one.
    "coincheck": frozenset({"order_book"}),  # https://coincheck.com/documents/exchange/api#websocket-order-book
}
"""The streams that ccxt's code takes for something else than the venue says."""

_WITH_KEY_ONLY: Mapping[str, frozenset[Channel]] = {
    "alpaca": _ANY_CHANNEL,
    "cex": frozenset({"ticks", "order_book"}),
    "coinbaseexchange": frozenset({"order_book"}),
    "luno": frozenset({"trades", "order_book"}),
}
"""The public streams for which ccxt asks for credentials."""

_TIMEFRAMES_NOT_STREAMED: Mapping[str, frozenset[str]] = {
    "bitget": frozenset({"2h", "3d", "1M"}),
    **dict.fromkeys(("modetrade", "woo", "woofipro"), frozenset({"4h", "12h", "1y"})),
    "mudrex": frozenset({"3m", "5m", "10m", "15m", "30m", "1h", "4h", "6h", "12h", "1d", "1w", "1M"}),
    "p2b": frozenset({"1m"}),
    "polymarket": frozenset({"1s"}),
    "upbit": frozenset({"1m", "3m", "5m", "10m", "15m", "30m", "1h", "4h", "1d", "1w", "1M", "1y"}),
}
"""Candles that a venue has over REST only: ccxt's list of timeframes is that of REST."""

_TICKERS_ONE_BY_ONE = frozenset({"coinbase"})  # of several its code asks for `ticker_batch`, without bid and ask

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # https://www.htx.com/en-us/opend/newApiPages/ "Best Bid/Offer": the default, `detail`, has neither
    "htx": {"watchTicker": {"name": "market.{marketId}.bbo"}},
    # Its code names a subscription by market and interval alone: at 500 ms, the default, books are taken for tickers.
    "grvt": {"watchOrderBook": {"interval": 100}},
}
"""What is asked of the exchange library unless the feed's own options say otherwise."""

BOOKS_OVER_REST = frozenset({"binance", "binancecoinm", "binanceus", "binanceusdm"})
"""Venues whose stream brings a book's changes only: it begins with a book over REST, numbered in the same series."""

BOOKS_UNSUBSCRIBED_HERE = frozenset(
    {
        "apex",
        "bequant",
        "bitfinex",
        "blofin",
        "coinbaseinternational",
        "deribit",
        "grvt",
        "hitbtc",
        "kraken",
        "krakenfutures",
        "poloniex",
        "whitebit",
    }
)
"""Venues that send a book again after an unsubscription only, which ccxt does not know there, or leaves out."""

BOOKS_LEFT_STANDING = frozenset({"bittrade", "bybit", "bitvavo", "cryptocom", "gate", "htx", "lighter", "weex"})
"""Venues whose code lets a broken book, and its subscription, stand, whether it finds that it is broken or not."""

BOOKS_GATHERED_HERE = frozenset({"nado"})
"""Venues whose code asks for a book over REST before it subscribes to the changes: some would be lost between."""

LISTED_IN_REQUEST: Mapping[str, tuple[str, ...]] = {
    "blofin": ("args",),
    "bybit": ("args",),
    "coinbaseinternational": ("params", "channels"),
    "deribit": ("params", "channels"),
    "grvt": ("params", "selectors"),
    "kraken": ("params", "symbol"),
    "weex": ("params",),
}
"""Where a venue's request lists what it asks for, so that it can be about some of it only."""

ASKED_FOR_WHAT_IS_MISSING = BOOKS_OVER_REST | LISTED_IN_REQUEST.keys() | {"apex", "krakenfutures"}
"""Venues whose call for many symbols asks for those alone that are not subscribed (`tap.py` sees to it; the code
of Apex and Kraken Futures does)."""

_CHANNEL_WORDS: Mapping[str, str] = {
    "trades": r"trade|match|deal|execution",
    "ticks": r"ticker|bids?asks?|bbo|quote|spread",
    "order_book": r"book(?!ticker)|depth|level|l2",
    "funding": r"funding|mark|ticker|instrument",
    "candles": r"candle|kline|ohlc",
}


def names_stream(subscription: str, channel: str, symbol: str, market_id: str) -> bool:
    """Whether ccxt's name of a subscription (`trade::BTC/USDT`, `market.btcusdt.trade.detail`) is of this stream."""
    if re.search(_CHANNEL_WORDS.get(channel, r"(?!)"), subscription, re.IGNORECASE) is None:
        return False
    by_symbol = rf"(?<![A-Za-z0-9]){re.escape(symbol)}(?![A-Za-z0-9/-]|:[A-Za-z0-9])"
    by_id = rf"(?<![A-Za-z0-9_-]){re.escape(market_id)}(?![A-Za-z0-9-])"
    return any(re.search(name, subscription, re.IGNORECASE) is not None for name in (by_symbol, by_id))


@dataclass(frozen=True, slots=True)
class Method:
    """A ccxt method. `takes` says what its first argument is."""

    name: str
    takes: str  # "symbols" | "symbol"
    polled: bool = False  # called every poll_interval_s; else it streams
    returned: bool = False  # the data is what the call returns; else it is taken from ccxt's stores

    @property
    def many(self) -> bool:
        """Whether one call carries several symbols."""
        return self.takes == "symbols"

    @property
    def of_books(self) -> bool:
        """Whether what it streams are order books."""
        return self.name.startswith("watch_order_book")


_METHODS: Mapping[Channel, tuple[tuple[str, Method], ...]] = {
    "trades": (
        ("watchTradesForSymbols", Method("watch_trades_for_symbols", "symbols")),
        ("watchTrades", Method("watch_trades", "symbol")),
    ),
    "ticks": (
        ("watchBidsAsks", Method("watch_bids_asks", "symbols")),
        ("watchTickers", Method("watch_tickers", "symbols")),
        ("watchTicker", Method("watch_ticker", "symbol")),
    ),
    "order_book": (
        ("watchOrderBookForSymbols", Method("watch_order_book_for_symbols", "symbols")),
        ("watchOrderBook", Method("watch_order_book", "symbol")),
    ),
    "candles": (("watchOHLCV", Method("watch_ohlcv", "symbol", returned=True)),),
    "funding": (
        ("watchFundingRates", Method("watch_funding_rates", "symbols")),
        ("watchFundingRate", Method("watch_funding_rate", "symbol")),
        ("fetchFundingRates", Method("fetch_funding_rates", "symbols", polled=True, returned=True)),
        ("fetchFundingRate", Method("fetch_funding_rate", "symbol", polled=True, returned=True)),
    ),
    "open_interest": (
        ("fetchOpenInterests", Method("fetch_open_interests", "symbols", polled=True, returned=True)),
        ("fetchOpenInterest", Method("fetch_open_interest", "symbol", polled=True, returned=True)),
    ),
}


def method_for(channel: Channel, exchange: str, has: Mapping[str, Any], market_type: str = _SPOT) -> Method | None:
    """The best method the venue has for the channel of such markets, or None. `has` is ccxt's own table."""
    if channel in _MISREAD.get(exchange, ()):
        return None
    from_books = exchange in TICKS_FROM_BOOKS or market_type in _TICKS_FROM_BOOKS_OF.get(exchange, ())
    methods = _METHODS.get("order_book" if channel == "ticks" and from_books else channel, ())
    found = [method for feature, method in methods if has.get(feature) is True]
    if channel == "ticks" and exchange in _TICKERS_ONE_BY_ONE:
        return next((method for method in found if not method.many), None)
    return next(iter(found), None)


def single_method_for(channel: Channel, has: Mapping[str, Any], polled: bool) -> Method | None:
    """The method that takes one symbol, for when a call with several is refused."""
    candidates = (method for feature, method in _METHODS.get(channel, ()) if has.get(feature) is True)
    return next((method for method in candidates if not method.many and method.polled == polled), None)


def ticks_from_tickers(exchange: str, method: Method) -> bool:
    """Which of ccxt's two stores holds what `method` streams, where it is not the books'."""
    return method.name != "watch_bids_asks" or exchange in BIDS_ASKS_IN_TICKERS


def is_unserved(exchange: str, channel: Channel, market_type: str) -> bool:
    """Whether ccxt's code refuses the channel of this venue's markets of a type: `spot`, `swap`, `future`, `option`."""
    return channel in _UNSERVED.get(exchange, {}).get(market_type, ())


def needs_key(exchange: str, channel: Channel) -> bool:
    """Whether ccxt's code asks for credentials before it subscribes to this public channel."""
    return channel in _WITH_KEY_ONLY.get(exchange, ())


def streamed(exchange: str, timeframes: Iterable[str]) -> list[str]:
    """Those of ccxt's timeframes of the venue of which candles can be streamed."""
    not_streamed = _TIMEFRAMES_NOT_STREAMED.get(exchange, frozenset())
    return [timeframe for timeframe in timeframes if timeframe not in not_streamed]


def offered_channels(exchange: str, has: Mapping[str, Any]) -> list[Channel]:
    """The channels the venue can serve, in their usual order."""
    return [channel for channel in CHANNELS if method_for(channel, exchange, has) is not None]


def groups(exchange: str, symbols: Iterable[str], markets: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    """Symbols that may share one call: of one market type, settlement and size, at most what the venue allows."""
    size = SYMBOLS_PER_CALL.get(exchange, DEFAULT_SYMBOLS_PER_CALL)
    by_kind: dict[tuple[Any, ...], list[str]] = {}
    for symbol in symbols:
        market = markets[symbol]
        kind = (market.get("type"), market.get("linear"), market.get("settle"))
        by_kind.setdefault(kind, []).append(symbol)
    for alike in by_kind.values():
        for start in range(0, len(alike), size):
            yield alike[start : start + size]
