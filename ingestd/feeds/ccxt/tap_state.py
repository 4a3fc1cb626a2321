"""The state of the frame that a tapped exchange is handling, and the handover from its stores to the listener.

Nothing here imports ccxt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ingestd.clock import now_us
from ingestd.feeds.books.checksums import Checksums
from ingestd.feeds.ccxt.tap_listener import TapListener
from ingestd.feeds.ccxt.tapped_stores import BookStore, TappedStore, TradeStore, UpdateStore
from ingestd.venues.book_frames import NumberedFrame

_CONCURRENT_DIALS = 4

started_for: ContextVar[object | None] = ContextVar("started_for", default=None)
"""The socket for which ccxt started the running task; None in other tasks."""


class Tap:
    """Passes each update from ccxt to the listener, with the time at which its frame was read from the socket."""

    def __init__(self, listener: TapListener) -> None:
        self.listener = listener
        self.dials = asyncio.Semaphore(_CONCURRENT_DIALS)
        self.url: str | None = None  # of the frame being handled; None: a REST reply or a ccxt task
        self.frame_received_at: int | None = None
        self.frame_had_data = False
        self.frame_is_late = False  # the frame's socket has been given up already
        self.frame: Any = None  # the decoded frame
        self.client: object | None = None  # the socket of the frame being handled
        self.frame_is_whole_book = False
        self.numbered: NumberedFrame | None = None  # sequence numbers of the frame
        self.aside: BookStore | None = None  # store for books of this frame that must not be recorded
        self.exchange = ""  # set when the exchange object is created
        self.checksums = Checksums("")
        self.is_market: Callable[[str], bool] = lambda _symbol: True  # set when the exchange object is created

    @property
    def received_at(self) -> int:
        """When the data being handed over was received, in microseconds."""
        return self.frame_received_at if self.frame_received_at is not None else now_us()

    def trade(self, symbol: str, trade: dict[str, Any]) -> None:
        self.frame_had_data = True
        self.listener.on_trade(symbol, trade, self.received_at)

    def ticker(self, symbol: str, ticker: dict[str, Any]) -> None:
        self.frame_had_data = True
        self.listener.on_ticker(symbol, ticker, self.received_at)

    def bid_ask(self, symbol: str, ticker: dict[str, Any]) -> None:
        self.frame_had_data = True
        self.listener.on_bid_ask(symbol, ticker, self.received_at)

    def funding(self, symbol: str, rate: dict[str, Any]) -> None:
        self.frame_had_data = True
        self.listener.on_funding(symbol, rate, self.received_at)

    def book_replaced(self, symbol: str, _: None) -> None:
        self.listener.on_book_replaced(symbol)

    def store(self, name: str) -> TappedStore:
        """Create an empty store of that name."""
        if name == "orderbooks":
            return BookStore(self.book_replaced, lambda: self.client, self._is_market)
        return _STORES[name](getattr(self, _HANDOVERS[name]), self._is_market)

    def _is_market(self, symbol: str) -> bool:
        return self.is_market(symbol)


_HANDOVERS = {
    "trades": "trade",
    "tickers": "ticker",
    "bidsasks": "bid_ask",
    "fundingRates": "funding",
}
_STORES: dict[str, type[TradeStore | UpdateStore]] = {
    "trades": TradeStore,
    "tickers": UpdateStore,
    "bidsasks": UpdateStore,
    "fundingRates": UpdateStore,
}
STORES = (*_STORES, "orderbooks")
