"""Each venue's decoder by its exchange's name, without what a feed needs besides: under callgrind an import is slow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ingestd.venues.binance import Binance
from ingestd.venues.bybit import Bybit
from ingestd.venues.coinbase import CoinbaseAdvanced
from ingestd.venues.coinbase_exchange import CoinbaseExchange
from ingestd.venues.kraken import Kraken
from ingestd.venues.kraken_futures import KrakenFutures
from ingestd.venues.messages import Decoder
from ingestd.venues.okx import Okx
from ingestd.venues.venue import Venue

_VENUES: Mapping[str, Callable[[Mapping[str, Any]], Venue]] = {
    "binance": lambda options: Binance("binance", options),
    "binanceusdm": lambda options: Binance("binanceusdm", options),
    "bybit": Bybit,
    "coinbase": CoinbaseAdvanced,
    "coinbaseexchange": CoinbaseExchange,
    "kraken": Kraken,
    "krakenfutures": KrakenFutures,
    "okx": Okx,
}


def decoder_of(exchange: str, symbols: Mapping[str, str]) -> Decoder:
    """Its decoder; `symbols` by market id."""
    return _VENUES[exchange]({}).decoder(symbols, 0)


EXCHANGES = tuple(_VENUES)
