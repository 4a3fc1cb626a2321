"""What a tapped exchange hands over, and the state of the frame that it is handling. Nothing here imports ccxt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from ingestd.clock import now_us
from ingestd.errors import FeedError
from ingestd.feeds.ccxt.tapped_stores import BookStore, TappedStore, TradeStore, UpdateStore
from ingestd.venues.ccxt_books import NumberedFrame

_CONCURRENT_DIALS = 4

# The socket for which ccxt started the running task; None in other tasks.
started_for: ContextVar[object | None] = ContextVar("started_for", default=None)
# The URLs that the running subscription watches, the newest last.
dialled_urls: ContextVar[dict[str, None] | None] = ContextVar("dialled_urls", default=None)
# Whether the running call subscribes again where ccxt believes it subscribed: the exchange may have refused it.
force_subscribe: ContextVar[bool] = ContextVar("force_subscribe", default=False)


@dataclass(slots=True)
class Frame:
    """The frame being handled. `client` None: no frame, but perhaps a REST reply or a ccxt task."""

    client: Any = None  # the socket
    url: str | None = None
    received_at: int | None = None
    is_late: bool = False  # the socket has been given up already
    aside: BookStore | None = None  # store for books of this frame that must not be recorded
    content: Any = None  # decoded
    had_data: bool = False
    is_whole_book: bool = False
    numbered: NumberedFrame | None = None  # sequence numbers of the frame


class Tap:
    """Receives updates and events of a tapped exchange, in the loop turn in which the socket delivered them, and notes
    which frame brought them. `Tap` itself ignores them; `TapReader` makes records of them."""

    def __init__(self) -> None:
        self.dials = asyncio.Semaphore(_CONCURRENT_DIALS)
        self.frame = Frame()

    def begin_frame(self, client: Any) -> None:
        """Note that a frame of this socket is being handled."""
        is_late: bool = client.is_down
        # A late frame must not change the books of the next socket.
        self.frame = Frame(client, client.url, now_us(), is_late, client.aside if is_late else None)

    def end_frame(self) -> None:
        """Note that no frame is being handled."""
        self.frame = Frame()

    @property
    def received_at(self) -> int:
        """When the data being handed over was received, in microseconds."""
        return self.frame.received_at if self.frame.received_at is not None else now_us()

    def store(self, name: str, is_market: Callable[[str], bool]) -> TappedStore:
        """Create an empty store of that name. `is_market`: whether a symbol is one of a market."""
        if name == "orderbooks":
            return BookStore(lambda symbol, _: self.on_book_replaced(symbol), lambda: self.frame.client, is_market)
        kind, event = _STORES[name]

        def hand_over(symbol: str, update: Any) -> None:
            self.frame.had_data = True
            getattr(self, event)(symbol, update, self.received_at)

        return kind(hand_over, is_market)

    def on_trade(self, symbol: str, trade: dict[str, Any], received_at: int) -> None: ...
    def on_ticker(self, symbol: str, ticker: dict[str, Any], received_at: int) -> None: ...
    def on_bid_ask(self, symbol: str, ticker: dict[str, Any], received_at: int) -> None: ...
    def on_funding(self, symbol: str, rate: dict[str, Any], received_at: int) -> None: ...
    def on_book(self, book: Any, received_at: int) -> None:
        """The book has changed, and it is complete and correct."""

    def on_book_without_snapshot(self, symbol: str) -> None:
        """The symbol's book has changed before its socket delivered a snapshot, so it is incomplete."""

    def on_book_replaced(self, symbol: str) -> None:
        """The book handed over before was replaced or removed."""

    def on_book_broken(self, symbol: str) -> None:
        """A sequence number or checksum shows that the symbol's book is wrong: it must be requested again."""

    def follows_book(self, _symbol: str) -> bool:
        """Whether the feed follows the symbol's book."""
        return False

    def on_book_not_loaded(self, symbol: str, error: FeedError, failures: int) -> None:
        """The symbol's snapshot could not be loaded, for the `failures`th time in a row."""

    def on_book_given_up(self, symbol: str) -> None:
        """ccxt has stopped trying to load the book: it must be requested again."""

    def book_named_in(self, _message_hash: str) -> str | None:
        """The symbol of the followed book that ccxt's message hash names, if any."""
        return None

    def on_bad_frame(self, url: str, error: Exception, frame: str) -> None: ...
    def on_connected(self, url: str) -> None: ...
    def on_disconnected(self, url: str, reason: str) -> None: ...
    def on_refused(self, url: str, error: FeedError) -> None:
        """The exchange sent an error on this socket, and no pending call received it."""

    def on_rejected(self, url: str) -> None:
        """ccxt gave up a subscription of this socket: it must be requested again."""

    def on_wait_cut(self) -> None:
        """The exchange asked for a longer wait than we allow."""

    async def writable(self) -> None:
        """Return once there is room for more updates."""


_STORES: dict[str, tuple[type[TradeStore | UpdateStore], str]] = {
    "trades": (TradeStore, "on_trade"),
    "tickers": (UpdateStore, "on_ticker"),
    "bidsasks": (UpdateStore, "on_bid_ask"),
    "fundingRates": (UpdateStore, "on_funding"),
}
STORES = (*_STORES, "orderbooks")
