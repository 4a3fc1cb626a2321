"""Every exchange of which something is known. To add one: its file, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ingestd.records import Channel
from ingestd.venues.facts import Facts
from ingestd.venues.venue import Venue

if TYPE_CHECKING:
    from ingestd.config.models import FeedConfig  # not at run time: every room reads this file

FILES = (
    "apex",
    "backpack",
    "binance",
    "bitfinex",
    "bitget",
    "bithumb",
    "bitstamp",
    "blofin",
    "bullish",
    "bybit",
    "coinbase",
    "coinbase_exchange",
    "coinone",
    "deepcoin",
    "deribit",
    "derive",
    "dydx",
    "gate",
    "gemini",
    "grvt",
    "hitbtc",
    "htx",
    "independentreserve",
    "kraken",
    "kraken_futures",
    "kucoin",
    "lbank",
    "lighter",
    "luno",
    "mexc",
    "nado",
    "okx",
    "others",
    "phemex",
    "poloniex",
    "upbit",
    "weex",
    "whitebit",
    "xt",
)

FACTS: Mapping[str, Facts] = {
    facts.exchange: facts for file in FILES for facts in import_module(f"ingestd.venues.{file}").FACTS
}


@cache
def facts_of(exchange: str) -> Facts:
    """What is known of this exchange, by its ccxt id; of any other, that it is as most are."""
    return FACTS.get(exchange) or Facts(exchange=exchange)


def native_exchanges() -> list[str]:
    """The exchanges with a decoder of our own."""
    return sorted(exchange for exchange, facts in FACTS.items() if facts.native is not None)


def native_channels(exchange: str, options: Mapping[str, Any] = MappingProxyType({})) -> frozenset[Channel]:
    """The channels that the exchange's own decoder serves under these options."""
    make = facts_of(exchange).native
    return frozenset() if make is None else make(options).channels


def native_venue(config: FeedConfig) -> Venue | None:
    """The venue of a feed that is to be read natively: its `decoder` allows it, and there is one that serves at least
    one of its channels under its options. None: ccxt reads it all."""
    make = facts_of(config.exchange).native if config.decoder != "ccxt" else None
    if make is None:
        return None
    venue = make(config.options)
    return venue if venue.channels.intersection(config.channels) else None
