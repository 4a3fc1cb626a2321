"""Which ccxt method delivers a channel of an exchange, and which symbols may share one call. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ingestd.records import CHANNELS, Channel
from ingestd.venues.all import facts_of

_CHANNEL_WORDS: Mapping[str, str] = {
    "trades": r"trade|match|deal|execution",
    "ticks": r"ticker|bids?asks?|bbo|quote|spread",
    "order_book": r"book(?!ticker)|depth|level|l2",
    "funding": r"funding|mark|ticker|instrument",
    "candles": r"candle|kline|ohlc",
}


def names_stream(subscription: str, channel: str, symbol: str, market_id: str) -> bool:
    """Whether ccxt's name of a subscription (`trade::BTC/USDT`, `market.btcusdt.trade.detail`) means this stream."""
    if re.search(_CHANNEL_WORDS.get(channel, r"(?!)"), subscription, re.IGNORECASE) is None:
        return False
    by_symbol = rf"(?<![A-Za-z0-9]){re.escape(symbol)}(?![A-Za-z0-9/-]|:[A-Za-z0-9])"
    by_id = rf"(?<![A-Za-z0-9_-]){re.escape(market_id)}(?![A-Za-z0-9-])"
    return any(re.search(name, subscription, re.IGNORECASE) is not None for name in (by_symbol, by_id))


@dataclass(frozen=True, slots=True)
class Method:
    """A method of ccxt that delivers records."""

    name: str
    many: bool = False  # one call takes several symbols; if False, one symbol
    polled: bool = False  # called every poll_interval_s; if False, the method streams
    returned: bool = False  # the records come from the call's result; if False, from what ccxt writes to its stores

    @property
    def of_books(self) -> bool:
        """Whether the method streams order books."""
        return self.name.startswith("watch_order_book")


_METHODS: Mapping[Channel, tuple[tuple[str, Method], ...]] = {
    "trades": (
        ("watchTradesForSymbols", Method("watch_trades_for_symbols", many=True)),
        ("watchTrades", Method("watch_trades")),
    ),
    "ticks": (
        ("watchBidsAsks", Method("watch_bids_asks", many=True)),
        ("watchTickers", Method("watch_tickers", many=True)),
        ("watchTicker", Method("watch_ticker")),
    ),
    "order_book": (
        ("watchOrderBookForSymbols", Method("watch_order_book_for_symbols", many=True)),
        ("watchOrderBook", Method("watch_order_book")),
    ),
    "candles": (("watchOHLCV", Method("watch_ohlcv", returned=True)),),
    "funding": (
        ("watchFundingRates", Method("watch_funding_rates", many=True)),
        ("watchFundingRate", Method("watch_funding_rate")),
        ("fetchFundingRates", Method("fetch_funding_rates", many=True, polled=True, returned=True)),
        ("fetchFundingRate", Method("fetch_funding_rate", polled=True, returned=True)),
    ),
    "open_interest": (
        ("fetchOpenInterests", Method("fetch_open_interests", many=True, polled=True, returned=True)),
        ("fetchOpenInterest", Method("fetch_open_interest", polled=True, returned=True)),
    ),
}


def method_for(channel: Channel, exchange: str, has: Mapping[str, Any], market_type: str = "spot") -> Method | None:
    """The best method of the exchange for a channel of markets of this type, or None. `has` is ccxt's feature table."""
    quirks = facts_of(exchange).ccxt
    if channel in quirks.misread:
        return None
    from_books = quirks.ticks_from_books or market_type in quirks.ticks_from_books_of
    methods = _METHODS.get("order_book" if channel == "ticks" and from_books else channel, ())
    one_by_one = channel == "ticks" and quirks.tickers_one_by_one
    found = (method for feature, method in methods if has.get(feature) is True)
    return next((method for method in found if not (method.many and one_by_one)), None)


def single_method_for(channel: Channel, has: Mapping[str, Any], polled: bool) -> Method | None:
    """The method that takes one symbol, for use when a call with several is refused; None if there is none."""
    found = (method for feature, method in _METHODS.get(channel, ()) if has.get(feature) is True)
    return next((method for method in found if not method.many and method.polled == polled), None)


def ticks_from_tickers(exchange: str, method: Method) -> bool:
    """Whether ccxt writes the ticks of this method, which is not one of books, to `tickers` and not to `bidsasks`."""
    return method.name != "watch_bids_asks" or facts_of(exchange).ccxt.bids_asks_in_tickers


def streamed(exchange: str, timeframes: Iterable[str]) -> list[str]:
    """Those of the timeframes whose candles the exchange streams. `timeframes`: all that ccxt knows of the exchange."""
    not_streamed = facts_of(exchange).ccxt.timeframes_not_streamed
    return [timeframe for timeframe in timeframes if timeframe not in not_streamed]


def is_offered_by_any(channel: Channel) -> bool:
    """Whether ccxt offers the channel on any exchange."""
    return channel in _METHODS


def offered_channels(exchange: str, has: Mapping[str, Any]) -> list[Channel]:
    """The channels that the exchange offers through ccxt, in the order of `CHANNELS`. `has` is ccxt's feature table."""
    return [channel for channel in CHANNELS if method_for(channel, exchange, has) is not None]


def groups(exchange: str, symbols: Iterable[str], markets: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    """Split symbols into groups that may share a call: one market type and settlement, up to the exchange's limit."""
    size = facts_of(exchange).ccxt.symbols_per_call
    by_kind: dict[tuple[Any, ...], list[str]] = {}
    for symbol in symbols:
        market = markets[symbol]
        kind = (market.get("type"), market.get("linear"), market.get("settle"))
        by_kind.setdefault(kind, []).append(symbol)
    for alike in by_kind.values():
        for start in range(0, len(alike), size):
            yield alike[start : start + size]
