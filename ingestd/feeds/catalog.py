"""Which exchange offers what, and which feed serves it: checks of configured feeds, and help for writing them.

In: a feed's configuration.
Out: its problems, before anything is connected. Only `listed` opens a connection.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingestd.channels import ROW_OF
from ingestd.clock import now_us
from ingestd.config.models import FeedConfig
from ingestd.config.values import is_pattern
from ingestd.errors import ConfigError, Problem
from ingestd.feeds.ccxt.channels import is_offered_by_any, offered_channels, streamed
from ingestd.feeds.ccxt.history import CcxtHistory
from ingestd.feeds.ccxt.tap import exchange_ids, features, timeframes
from ingestd.feeds.markets.cache import MarketCache
from ingestd.feeds.markets.families import may_hold
from ingestd.feeds.markets.symbols import kind_by_name, kind_of, may_serve, namesakes, resolve, type_by_name
from ingestd.gaps.trade_ids import asks_for_aggregates
from ingestd.records import CHANNELS, Channel
from ingestd.venues.all import FACTS, facts_of, native_channels, native_exchanges, native_venue
from ingestd.venues.symbol_names import unified_guess

_NO_EXCHANGE = "is not an exchange that can be streamed"
_BINANCE_FUTURES = frozenset({"binanceusdm", "binancecoinm"})
# https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Old-Trades-Lookup
_NEWEST_ONLY = (
    "without an API key Binance's futures serve only the newest 1000 trades of the stream @trade: a longer gap cannot "
    "be filled, and with a key a page of 500 weighs 200 of the 2400 that a minute allows"
)
_DEAR = "a page of 500 past trades of the stream @trade weighs 200 of the 2400 that Binance's futures allow a minute"
_TAKE_AGGREGATES = 'the stream @aggTrade is filled without a key: watchTradesForSymbols = { name = "aggTrade" }'
_FORMER_NAMES = {name: exchange for exchange, facts in FACTS.items() for name in facts.former_names}
_USUAL: tuple[Channel, ...] = ("ticks", "trades", "order_book")
_NEAR = 0.82  # above 0.8, the similarity of bittrex and bittrade, which are two exchanges
_HAVING = {
    "all": "markets",
    "contracts": "contracts",
    "futures": "perpetual and dated contracts",
    "perpetuals": "perpetual contracts",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """What an exchange offers.

    `channels`: the decoder (`native` or `ccxt`) of each channel. `candles`: timeframes. `with_key`: channels that need
    an API key. `sampled`: channels of which the exchange sends only some records.
    """

    exchange: str
    channels: Mapping[Channel, str]
    candles: Sequence[str] = ()
    with_key: Sequence[Channel] = ()
    sampled: Sequence[Channel] = ()

    @property
    def decoder(self) -> str:
        """`native` if any channel has a native decoder, else `ccxt`."""
        return "native" if "native" in self.channels.values() else "ccxt"


@dataclass(frozen=True, slots=True)
class Listing:
    """Markets of a venue: symbol and kind (`spot`, `linear`, `inverse`, `option`), sorted by symbol.

    `of`: the number of markets that the venue lists in all. `age_s`: the age of a daemon's cached list; None if the
    venue was asked. `unknown`: names and patterns without a market, with the reason. `missing`: lists that the venue
    did not return, with the reason.
    """

    markets: Sequence[tuple[str, str]]
    of: int
    age_s: float | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


# ---- checks


def check(feeds: Sequence[FeedConfig]) -> list[Problem]:
    """Errors in the feeds: unknown exchanges, channels and timeframes not offered, decoders that do not exist."""
    return [problem for index, feed in enumerate(feeds) for problem in _check_feed(f"feeds[{index}]", feed)]


def advice(feeds: Sequence[FeedConfig]) -> list[Problem]:
    """Advice on feeds that work but could be better: gaps in Binance futures' default trade stream are hard to fill."""
    return [
        Problem(f"feeds[{index}].options", _DEAR if _has_key(feed) else _NEWEST_ONLY, None, _TAKE_AGGREGATES)
        for index, feed in enumerate(feeds)
        if "trades" in feed.channels and _has_binance_futures(feed) and not asks_for_aggregates(feed.options)
    ]


def _has_binance_futures(feed: FeedConfig) -> bool:
    is_binance = feed.exchange == "binance" and any(":" in symbol for symbol in feed.symbols)
    return is_binance or feed.exchange in _BINANCE_FUTURES


def pointless(feeds: Sequence[FeedConfig]) -> list[Problem]:
    """Channels that no symbol of their feed has: a spot market has neither funding rate nor open interest."""
    return [
        Problem(
            f"feeds[{index}].channels[{number}]",
            f"no symbol of this feed has {channel}, which is of {_HAVING[ROW_OF[channel].markets]} only: "
            "nothing is captured",
            repr(channel),
            "leave the channel out, or add such contracts to symbols, as in BTC/USDT:USDT",
        )
        for index, feed in enumerate(feeds)
        for number, channel in enumerate(feed.channels)
        if not any(may_serve(channel, name) for name in feed.symbols)
    ]


def unlisted(feeds: Sequence[FeedConfig], state_dir: Path) -> list[Problem]:
    """Symbols that are not in the list of markets that a daemon cached, if the list is at most a day old."""
    problems = []
    for index, feed in enumerate(feeds):
        cache = MarketCache(state_dir, feed)
        markets = cache.read()
        if markets is None:
            continue
        unknown = resolve(feed.symbols, {market["symbol"]: market for market in markets}).unknown
        # A symbol may be in a list that the venue did not return.
        missing = {s: why for s, why in unknown.items() if not any(may_hold(family, s) for family in cache.missing)}
        age_h = (now_us() - cache.loaded_at) / 3.6e9
        age = f"{age_h:.0f} h ago" if age_h >= 1 else "just now" if age_h < 1 / 60 else f"{age_h * 60:.0f} min ago"
        problems += [
            Problem(f"feeds[{index}].symbols[{number}]", f"{missing[symbol]} (it listed them {age})", repr(symbol))
            for number, symbol in enumerate(feed.symbols)
            if symbol in missing
        ]
    return problems


def doubtful(feeds: Sequence[FeedConfig], state_dir: Path) -> list[Problem]:
    """Symbols that do not look like unified symbols, if no cached list of markets exists to check them."""
    found = []
    for index, feed in enumerate(feeds):
        written = [(number, s, unified_guess(s)) for number, s in enumerate(feed.symbols) if not is_pattern(s)]
        unusual = [(number, symbol, guess) for number, symbol, guess in written if guess != symbol]
        if unusual and MarketCache(state_dir, feed).read() is None:
            message = "does not look like a unified symbol, such as BTC/USDT or BTC/USDT:USDT"
            for number, symbol, guess in unusual:
                hint = f'did you mean "{guess}"?' if guess else None
                found.append(Problem(f"feeds[{index}].symbols[{number}]", message, repr(symbol), hint))
    return found


def nearest_exchange(name: str) -> str:
    """A hint for an unknown exchange name: the most similar name, and the command that lists all."""
    ids = {_letters(each): each for each in exchange_ids()}
    written = _letters(name)
    meant = ids.get(_FORMER_NAMES.get(written, written))
    if meant is None and (close := difflib.get_close_matches(written, list(ids), n=1, cutoff=_NEAR)):
        meant = ids[close[0]]
    return (f'did you mean "{meant}"? ' if meant else "") + "`ingestd exchanges` lists them"


def _letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _check_feed(path: str, feed: FeedConfig) -> Iterator[Problem]:
    if feed.exchange not in exchange_ids():
        yield Problem(f"{path}.exchange", _NO_EXCHANGE, repr(feed.exchange), nearest_exchange(feed.exchange))
        return
    venue = native_venue(feed)
    offered = offered_channels(feed.exchange, features(feed.exchange))
    if venue is not None:
        offered += sorted(native_channels(feed.exchange, feed.options).difference(offered))
    for number, channel in enumerate(feed.channels):
        if channel not in offered:
            yield _no_such_channel(f"{path}.channels[{number}]", feed, channel, offered)
    lasting = streamed(feed.exchange, timeframes(feed.exchange))
    if "candles" in feed.channels and timeframes(feed.exchange) and feed.candle_timeframe not in lasting:
        message, hint = f"{feed.exchange} streams no such candles", f"it has {', '.join(lasting)}"
        yield Problem(f"{path}.candle_timeframe", message, repr(feed.candle_timeframe), hint)
    for number, channel in enumerate(feed.channels):
        if venue is None or channel not in venue.channels:
            yield from _refused_by_ccxt(f"{path}.channels[{number}]", feed, channel)
    if feed.decoder == "native":
        yield from _no_decoder(path, feed) if venue is None else _markets_without_decoder(path, feed, venue.markets)


def _no_such_channel(path: str, feed: FeedConfig, channel: Channel, offered: Sequence[Channel]) -> Problem:
    having = [exchange for exchange in native_exchanges() if channel in native_channels(exchange)]
    if feed.exchange in having:
        message, hint = f"{feed.exchange} has it through its native decoder only", 'use decoder = "auto"'
    elif having and not is_offered_by_any(channel):
        message, hint = "is read by native decoders only", f"exchanges that have it: {', '.join(having)}"
    else:
        message, hint = f"{feed.exchange} has no such channel", f"it offers {', '.join(offered)}"
    return Problem(path, message, repr(channel), hint)


def _refused_by_ccxt(path: str, feed: FeedConfig, channel: Channel) -> Iterator[Problem]:
    """Why the exchange library refuses to subscribe to a channel: for the type of a market, or for lack of an API
    key."""
    quirks = facts_of(feed.exchange).ccxt
    for symbol in feed.symbols:
        market_type = type_by_name(symbol)
        if market_type is not None and channel in quirks.unserved.get(market_type, ()):
            message = f"{feed.exchange} has no such channel of {market_type} markets, as {symbol} is"
            yield Problem(path, message, repr(channel), "leave the channel out, or put them in two feeds")
            break
    if channel in quirks.with_key_only and not _has_key(feed):
        message = f"{feed.exchange} serves this channel with an API key only"
        yield Problem(path, message, repr(channel), "name its file in credentials_file")


def _markets_without_decoder(path: str, feed: FeedConfig, kinds: Collection[str]) -> Iterator[Problem]:
    """Named markets of a kind that the native decoder does not read. Patterns are resolved at the start, not here."""
    message = f"{feed.exchange}'s native decoder reads {', '.join(sorted(kinds))} markets only"
    for number, symbol in enumerate(feed.symbols):
        if not is_pattern(symbol) and kind_by_name(symbol) not in kinds:
            yield Problem(f"{path}.symbols[{number}]", message, repr(symbol), 'use "auto"')


def _has_key(feed: FeedConfig) -> bool:
    """Whether the feed has an API key. True if its file cannot be read: another check reports that."""
    try:
        return bool(feed.credentials().get("apiKey"))
    except ConfigError:
        return True


def _no_decoder(path: str, feed: FeedConfig) -> Iterator[Problem]:
    have = native_exchanges()
    if feed.exchange in have:
        message, hint = f"{feed.exchange} has no native decoder for these channels and options", 'use "auto"'
    else:
        message, hint = f"{feed.exchange} has no native decoder", f"there is one for {', '.join(have)}"
    yield Problem(f"{path}.decoder", message, repr(feed.decoder), hint)


# ---- what exchanges offer


def known(exchange: str) -> str:
    """Return the exchange's name. Raises ConfigError, with the nearest name, if there is no such exchange."""
    if exchange in exchange_ids():
        return exchange
    raise ConfigError([Problem(repr(exchange)[1:-1] or "''", _NO_EXCHANGE, None, nearest_exchange(exchange.lower()))])


def offers() -> list[Offer]:
    """Every exchange, by name. Opens no connection."""
    return [offer(exchange) for exchange in sorted(exchange_ids())]


def offer(exchange: str) -> Offer:
    """What one exchange offers. Raises ConfigError if there is no such exchange."""
    through_ccxt, native = offered_channels(known(exchange), features(exchange)), native_channels(exchange)
    channels = [channel for channel in CHANNELS if channel in native or channel in through_ccxt]
    facts = facts_of(exchange)
    return Offer(
        exchange,
        {channel: "native" if channel in native else "ccxt" for channel in channels},
        streamed(exchange, timeframes(exchange)) if "candles" in channels else (),
        [channel for channel in channels if channel in facts.ccxt.with_key_only],
        sorted(facts.sampled),
    )


def first_symbol(exchange: str) -> str:
    """A market for a first configuration: bitcoin, in a currency that the venue quotes."""
    facts = facts_of(exchange)
    return facts.example_market or ("BTC/USDT:USDT" if facts.contracts_only else "BTC/USDT")


def usual_channels(exchange: str, symbols: Sequence[str]) -> list[Channel]:
    """The channels among ticks, trades and order books that the venue serves for these symbols without an API key; if
    it serves none of these, all other channels that it serves without a key."""
    offered = offer(exchange).channels
    feeds = {channel: FeedConfig(exchange=exchange, channels=[channel], symbols=list(symbols)) for channel in offered}
    served = [channel for channel, feed in feeds.items() if not check([feed])]
    return [channel for channel in served if channel in _USUAL] or served


async def listed(feed: FeedConfig, state_dir: Path | None) -> Listing:
    """The markets that the feed's symbols name or match, from the list cached in `state_dir`, else from the venue.

    Raises FeedError if the venue cannot be reached.
    """
    kept = MarketCache(state_dir, feed) if state_dir is not None else None
    if kept is not None and (markets := kept.read()) is not None:
        age_s = max(0.0, (now_us() - kept.loaded_at) / 1e6)
        return _matching(feed, markets, age_s, {family.name: why for family, why in kept.missing.items()})
    history = CcxtHistory(feed, rate_share=1.0)
    try:
        await history.open()
        return _matching(feed, history.listed(), None, history.missing())
    finally:
        await history.close()


def _matching(
    feed: FeedConfig, markets: Sequence[Mapping[str, Any]], age_s: float | None, missing: Mapping[str, str]
) -> Listing:
    shared = namesakes(markets)
    by_symbol = {market["symbol"]: market for market in markets if market["symbol"] not in shared}
    found = resolve(feed.symbols, by_symbol, shared)
    kinds = [(symbol, kind_of(by_symbol[symbol])) for symbol in sorted(found.symbols)]
    return Listing(kinds, len(by_symbol), age_s, found.unknown, missing)
