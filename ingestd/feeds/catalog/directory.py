"""What each exchange offers, and which markets it lists, as help for writing a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingestd.clock import now_us
from ingestd.config.models import FeedConfig
from ingestd.errors import ConfigError, Problem
from ingestd.feeds.catalog.catalog import check, nearest_exchange
from ingestd.feeds.ccxt.channels import needs_key, offered_channels, streamed
from ingestd.feeds.ccxt.history import CcxtHistory
from ingestd.feeds.ccxt.tap import exchange_ids, features, timeframes
from ingestd.feeds.markets.cache import MarketCache
from ingestd.feeds.markets.symbols import kind_of, namesakes, resolve
from ingestd.records import CHANNELS, Channel
from ingestd.venues.all import facts_of, native_channels

_USUAL: tuple[Channel, ...] = ("ticks", "trades", "order_book")


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


def known(exchange: str) -> str:
    """Return the exchange's name. Raises ConfigError, with the nearest name, if there is no such exchange."""
    if exchange in exchange_ids():
        return exchange
    message = "is not an exchange that can be streamed"
    raise ConfigError([Problem(repr(exchange)[1:-1], message, None, nearest_exchange(exchange.lower()))])


def offers() -> list[Offer]:
    """Every exchange, by name. Opens no connection."""
    return [offer(exchange) for exchange in sorted(exchange_ids())]


def offer(exchange: str) -> Offer:
    """What one exchange offers. Raises ConfigError if there is no such exchange."""
    through_ccxt, native = offered_channels(known(exchange), features(exchange)), native_channels(exchange)
    channels = [channel for channel in CHANNELS if channel in native or channel in through_ccxt]
    return Offer(
        exchange,
        {channel: "native" if channel in native else "ccxt" for channel in channels},
        streamed(exchange, timeframes(exchange)) if "candles" in channels else (),
        [channel for channel in channels if needs_key(exchange, channel)],
        sorted(facts_of(exchange).sampled),
    )


def first_symbol(exchange: str) -> str:
    """A market for a first configuration: bitcoin, in a currency that the venue quotes."""
    facts = facts_of(exchange)
    return facts.first_market or ("BTC/USDT:USDT" if facts.contracts_only else "BTC/USDT")


def usual_channels(exchange: str, symbols: Sequence[str]) -> list[Channel]:
    """The channels among ticks, trades and order books that the venue serves for these symbols without an API key; if
    it serves none of these, all other channels that it serves without a key."""
    offered = offer(exchange).channels
    served = [
        channel
        for channel in offered
        if not check([FeedConfig(exchange=exchange, channels=[channel], symbols=list(symbols))])
    ]
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
    return Listing(
        [(symbol, kind_of(by_symbol[symbol])) for symbol in sorted(found.symbols)],
        len(by_symbol),
        age_s,
        found.unknown,
        missing,
    )
