"""The listener interface of a tapped exchange."""

from __future__ import annotations

from typing import Any, Protocol

from ingestd.errors import FeedError


class TapListener(Protocol):
    """Receives updates and events in the loop turn in which the socket delivered them."""

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

    def follows_book(self, symbol: str) -> bool:
        """Whether the feed follows the symbol's book."""

    def on_book_not_loaded(self, symbol: str, error: FeedError, failures: int) -> None:
        """The symbol's snapshot could not be loaded, for the `failures`th time in a row."""

    def on_book_given_up(self, symbol: str) -> None:
        """ccxt has stopped trying to load the book: it must be requested again."""

    def book_named_in(self, message_hash: str) -> str | None:
        """The symbol of the followed book that ccxt's message hash names, if any."""

    def on_bad_frame(self, url: str, error: Exception, frame: str) -> None: ...
    def on_connected(self, url: str) -> None: ...
    def on_disconnected(self, url: str, reason: str) -> None: ...
    def on_refused(self, url: str, error: FeedError) -> None:
        """The exchange sent an error on this socket, and no pending call received it."""

    def on_rejected(self, url: str) -> None:
        """ccxt gave up a subscription of this socket: it must be requested again."""

    def on_wait_cut(self) -> None:
        """The exchange asked for a longer wait than we allow."""

    async def writable(self) -> None: ...
