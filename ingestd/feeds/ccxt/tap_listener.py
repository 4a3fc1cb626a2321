"""Who hears what a tapped exchange receives."""

from __future__ import annotations

from typing import Any, Protocol

from ingestd.errors import FeedError


class TapListener(Protocol):
    """Who is told what the exchange sent, in the loop turn in which the socket delivered it."""

    def on_trade(self, symbol: str, trade: dict[str, Any], received_at: int) -> None: ...
    def on_ticker(self, symbol: str, ticker: dict[str, Any], received_at: int) -> None: ...
    def on_bid_ask(self, symbol: str, ticker: dict[str, Any], received_at: int) -> None: ...
    def on_funding(self, symbol: str, rate: dict[str, Any], received_at: int) -> None: ...
    def on_book(self, book: Any, received_at: int) -> None:
        """The book has changed and is the venue's."""

    def on_book_without_snapshot(self, symbol: str) -> None:
        """The symbol's book has changed, and no whole one came before on its socket: it is not the venue's."""

    def on_book_replaced(self, symbol: str) -> None:
        """The symbol's book is no longer the one handed over before."""

    def on_book_broken(self, symbol: str) -> None:
        """The venue's sequence or checksum says that the symbol's book is wrong: it must be asked for again."""

    def follows_book(self, symbol: str) -> bool:
        """Whether the symbol's book is wanted."""

    def on_book_not_loaded(self, symbol: str, error: FeedError, failures: int) -> None:
        """The book with which this one begins could not be had, so often in a row."""

    def on_book_given_up(self, symbol: str) -> None:
        """The library does not try to load it any more: it must be asked for again."""

    def book_named_in(self, message_hash: str) -> str | None:
        """The symbol of the book that the library names so, if that one is followed."""

    def on_bad_frame(self, url: str, error: Exception, frame: str) -> None: ...
    def on_connected(self, url: str) -> None: ...
    def on_disconnected(self, url: str, reason: str) -> None: ...
    def on_refused(self, url: str, error: FeedError) -> None:
        """A frame of this socket was an error, and no call that waits has been told."""

    def on_rejected(self, url: str) -> None:
        """The library gave up on a subscription of this socket: it must be asked for again."""

    def on_wait_cut(self) -> None:
        """The venue asked for a longer wait than it gets."""

    async def writable(self) -> None: ...
