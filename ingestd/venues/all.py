"""The table of all exchanges with a file. To add an exchange, write its file and add its name here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ingestd.records import Channel
from ingestd.venues.facts import Facts
from ingestd.venues.venue import Venue

if TYPE_CHECKING:
    from ingestd.config.models import FeedConfig  # for types only: every room imports this file

FILES = (
    "apex", "binance", "bitfinex", "bitget", "bithumb", "bitstamp", "blofin", "bullish", "bybit", "coinbase",
    "coinbase_exchange", "coinone", "deepcoin", "deribit", "derive", "dydx", "gate", "gemini", "grvt", "hitbtc", "htx",
    "independentreserve", "kraken", "kraken_futures", "kucoin", "lbank", "lighter", "luno", "mexc", "nado", "okx",
    "others", "phemex", "poloniex", "upbit", "weex", "whitebit", "xt",
)  # fmt: skip


def facts_in(file: str) -> Sequence[Facts]:
    """The facts in a file of this folder: `FACTS` is those about one exchange, or a tuple of those about several."""
    facts = import_module(f"ingestd.venues.{file}").FACTS
    return (facts,) if isinstance(facts, Facts) else facts


FACTS: Mapping[str, Facts] = {facts.exchange: facts for file in FILES for facts in facts_in(file)}


@cache
def facts_of(exchange: str) -> Facts:
    """The facts about an exchange, by its ccxt id; the defaults if it has no file."""
    return FACTS.get(exchange) or Facts(exchange=exchange)


def native_exchanges() -> list[str]:
    """The ccxt ids of the exchanges with a native decoder."""
    return sorted(exchange for exchange, facts in FACTS.items() if facts.native is not None)


def native_channels(exchange: str, options: Mapping[str, Any] = MappingProxyType({})) -> frozenset[Channel]:
    """The channels that the exchange's native decoder serves under these options."""
    make = facts_of(exchange).native
    return frozenset() if make is None else make(options).channels


def native_venue(config: FeedConfig) -> Venue | None:
    """The venue that decodes this feed natively; None if ccxt reads all of it.

    The feed's `decoder` must allow it, and the native decoder must serve at least one of the feed's channels.
    """
    make = facts_of(config.exchange).native if config.decoder != "ccxt" else None
    if make is None:
        return None
    venue = make(config.options)
    return venue if venue.channels.intersection(config.channels) else None
