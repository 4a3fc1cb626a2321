"""Checks of the configured feeds for `ingestd check`. They open no socket."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from ingestd.channels import ROW_OF
from ingestd.clock import now_us
from ingestd.config.models import FeedConfig
from ingestd.config.overlap import is_pattern
from ingestd.errors import ConfigError, Problem
from ingestd.feeds.ccxt.channels import is_offered_by_any, is_unserved, needs_key, offered_channels, streamed
from ingestd.feeds.ccxt.tap import exchange_ids, features, timeframes
from ingestd.feeds.markets.cache import MarketCache
from ingestd.feeds.markets.families import may_hold
from ingestd.feeds.markets.symbols import kind_by_name, may_serve, resolve, type_by_name
from ingestd.gaps.trade_ids import asks_for_aggregates
from ingestd.records import Channel
from ingestd.venues.all import FACTS, native_channels, native_exchanges, native_venue
from ingestd.venues.symbol_names import unified_guess

_BINANCE_FUTURES = frozenset({"binanceusdm", "binancecoinm"})
# https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Old-Trades-Lookup
_NEWEST_ONLY = (
    "without an API key Binance's futures serve only the newest 1000 trades of the stream @trade: a longer gap cannot "
    "be filled, and with a key a page of 500 weighs 200 of the 2400 that a minute allows"
)
_DEAR = "a page of 500 past trades of the stream @trade weighs 200 of the 2400 that Binance's futures allow a minute"
_TAKE_AGGREGATES = 'the stream @aggTrade is filled without a key: watchTradesForSymbols = { name = "aggTrade" }'
_FORMER_NAMES = {name: exchange for exchange, facts in FACTS.items() for name in facts.former_names}
_NEAR = 0.82  # above 0.8, the similarity of bittrex and bittrade, which are two exchanges
_HAVING = {
    "all": "markets",
    "contracts": "contracts",
    "futures": "perpetual and dated contracts",
    "perpetuals": "perpetual contracts",
}


def check(feeds: Sequence[FeedConfig]) -> list[Problem]:
    """Errors in the feeds: unknown exchanges, channels and timeframes not offered, decoders that do not exist."""
    problems: list[Problem] = []
    for index, feed in enumerate(feeds):
        problems.extend(_check_feed(f"feeds[{index}]", feed))
    return problems


def advice(feeds: Sequence[FeedConfig]) -> list[Problem]:
    """Advice on feeds that work but could be better: gaps in Binance futures' default trade stream are hard to fill."""
    found = []
    for index, feed in enumerate(feeds):
        futures = feed.exchange in _BINANCE_FUTURES or (
            feed.exchange == "binance" and any(":" in symbol for symbol in feed.symbols)
        )
        if futures and "trades" in feed.channels and not asks_for_aggregates(feed.options):
            found.append(
                Problem(f"feeds[{index}].options", _DEAR if _has_key(feed) else _NEWEST_ONLY, None, _TAKE_AGGREGATES)
            )
    return found


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
        missing = resolve(feed.symbols, {market["symbol"]: market for market in markets}).unknown
        for symbol in [s for s in missing if any(may_hold(family, s) for family in cache.missing)]:
            del missing[symbol]  # it may be in a list that the venue did not return
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
            found += [
                Problem(
                    f"feeds[{index}].symbols[{number}]",
                    "does not look like a unified symbol, such as BTC/USDT or BTC/USDT:USDT",
                    repr(symbol),
                    f'did you mean "{guess}"?' if guess else None,
                )
                for number, symbol, guess in unusual
            ]
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


def _check_feed(path: str, feed: FeedConfig) -> list[Problem]:
    known = exchange_ids()
    if feed.exchange not in known:
        message = "is not an exchange that can be streamed"
        return [Problem(f"{path}.exchange", message, repr(feed.exchange), nearest_exchange(feed.exchange))]
    offered = offered_channels(feed.exchange, features(feed.exchange))
    read_here = native_venue(feed)
    offered += sorted(native_channels(feed.exchange, feed.options).difference(offered)) if read_here else []
    problems = [
        _no_such_channel(f"{path}.channels[{number}]", feed, channel, offered)
        for number, channel in enumerate(feed.channels)
        if channel not in offered
    ]
    problems += _candles_not_streamed(path, feed)
    problems += _streams_refused(path, feed)
    if feed.decoder == "native" and native_venue(feed) is None:
        problems.append(_no_decoder(path, feed))
    elif feed.decoder == "native":
        problems += _markets_without_decoder(path, feed)
    return problems


def _no_such_channel(path: str, feed: FeedConfig, channel: Channel, offered: Sequence[Channel]) -> Problem:
    having = [exchange for exchange in native_exchanges() if channel in native_channels(exchange)]
    if feed.exchange in having:
        message, hint = f"{feed.exchange} has it through its native decoder only", 'use decoder = "auto"'
    elif having and not is_offered_by_any(channel):
        message, hint = "is read by native decoders only", f"exchanges that have it: {', '.join(having)}"
    else:
        message, hint = f"{feed.exchange} has no such channel", f"it offers {', '.join(offered)}"
    return Problem(path, message, repr(channel), hint)


def _candles_not_streamed(path: str, feed: FeedConfig) -> list[Problem]:
    lasting = streamed(feed.exchange, timeframes(feed.exchange))
    if "candles" not in feed.channels or not timeframes(feed.exchange) or feed.candle_timeframe in lasting:
        return []
    message, hint = f"{feed.exchange} streams no such candles", f"it has {', '.join(lasting)}"
    return [Problem(f"{path}.candle_timeframe", message, repr(feed.candle_timeframe), hint)]


def _streams_refused(path: str, feed: FeedConfig) -> list[Problem]:
    """Streams that the exchange library refuses to subscribe to, for their market type or for lack of an API key."""
    native = native_venue(feed)
    found = []
    for number, channel in enumerate(feed.channels):
        if native is not None and channel in native.channels:
            continue
        where = f"{path}.channels[{number}]"
        for symbol in feed.symbols:
            market_type = type_by_name(symbol)
            if market_type is not None and is_unserved(feed.exchange, channel, market_type):
                message = f"{feed.exchange} has no such channel of {market_type} markets, as {symbol} is"
                found.append(Problem(where, message, repr(channel), "leave the channel out, or put them in two feeds"))
                break
        if needs_key(feed.exchange, channel) and not _has_key(feed):
            message = f"{feed.exchange} serves this channel with an API key only"
            found.append(Problem(where, message, repr(channel), "name its file in credentials_file"))
    return found


def _markets_without_decoder(path: str, feed: FeedConfig) -> list[Problem]:
    """Named markets of a kind that the native decoder does not read. Patterns are resolved at the start, not here."""
    venue = native_venue(feed)
    kinds = venue.markets if venue is not None else frozenset[str]()
    return [
        Problem(
            f"{path}.symbols[{number}]",
            f"{feed.exchange}'s native decoder reads {', '.join(sorted(kinds))} markets only",
            repr(symbol),
            'use "auto"',
        )
        for number, symbol in enumerate(feed.symbols)
        if not is_pattern(symbol) and kind_by_name(symbol) not in kinds
    ]


def _has_key(feed: FeedConfig) -> bool:
    """Whether the feed has an API key. True if its file cannot be read: another check reports that."""
    try:
        return bool(feed.credentials().get("apiKey"))
    except ConfigError:
        return True


def _no_decoder(path: str, feed: FeedConfig) -> Problem:
    have = native_exchanges()
    if feed.exchange in have:
        message, hint = f"{feed.exchange} has no native decoder for these channels and options", 'use "auto"'
    else:
        message, hint = f"{feed.exchange} has no native decoder", f"there is one for {', '.join(have)}"
    return Problem(f"{path}.decoder", message, repr(feed.decoder), hint)
