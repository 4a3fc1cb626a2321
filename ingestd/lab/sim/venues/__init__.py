"""The venues that the simulator can replay. To add one, add a file that implements `base.Venue`, and a line here."""

from __future__ import annotations

from collections.abc import Callable

from ingestd.lab.sim.venues.base import Venue
from ingestd.lab.sim.venues.binance import Binance
from ingestd.lab.sim.venues.coinbase import Coinbase
from ingestd.lab.sim.venues.kraken_futures import KrakenFutures
from ingestd.lab.sim.venues.okx import Okx

# host name in a capture's URLs → venue
_VENUE_OF_HOST: dict[str, Callable[[], Venue]] = {
    "fstream.binance.com": lambda: Binance(linear=True),
    "fapi.binance.com": lambda: Binance(linear=True),
    "stream.binance.com": Binance,
    "api.binance.com": Binance,
    "coinbase.com": Coinbase,
    "okx.com": Okx,
    "futures.kraken.com": KrakenFutures,
}


def venue_of_url(url: str) -> Venue | None:
    """The venue of a recorded URL; the table lists more specific host names first."""
    return next((make() for host, make in _VENUE_OF_HOST.items() if host in url), None)
