"""Which venues have decoders of our own. To add one: its file, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ingestd.config.models import FeedConfig
from ingestd.venues.binance import Binance
from ingestd.venues.bybit import Bybit
from ingestd.venues.coinbase import CoinbaseAdvanced
from ingestd.venues.coinbase_exchange import CoinbaseExchange
from ingestd.venues.kraken import Kraken
from ingestd.venues.kraken_futures import KrakenFutures
from ingestd.venues.okx import Okx
from ingestd.venues.venue import Venue

_VENUES: Mapping[str, Callable[[Mapping[str, Any]], Venue]] = {
    "binance": partial(Binance, "binance"),
    "binancecoinm": partial(Binance, "binancecoinm"),
    "binanceus": partial(Binance, "binanceus"),
    "binanceusdm": partial(Binance, "binanceusdm"),
    "bybit": Bybit,
    "coinbase": CoinbaseAdvanced,
    "coinbaseexchange": CoinbaseExchange,
    "kraken": Kraken,
    "krakenfutures": KrakenFutures,
    "okx": Okx,
}


def native_exchanges() -> list[str]:
    """The exchanges with a decoder of our own."""
    return sorted(_VENUES)


def native_venue(config: FeedConfig) -> Venue | None:
    """The venue of a feed that is to be read natively: its `decoder` allows it, and there is one that serves at least
    one of its channels under its options. None: the exchange library reads it all."""
    make = _VENUES.get(config.exchange) if config.decoder != "ccxt" else None
    if make is None:
        return None
    venue = make(config.options)
    return venue if venue.channels.intersection(config.channels) else None
