"""The state of a subscription's `watch_*` calls: the reasons to call again, the delay before that, and the sockets that
deliver the streams meanwhile. The caller passes the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from ingestd.errors import BookBroken, FeedError
from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.overlap import Overlap
from ingestd.retry import SETTLED_S, Backoff, Backoffs

LEFT_OPEN_S = 10.0  # then close the old socket even if the new one has not delivered all streams


class Signals:
    """Events since the newest call. Each sets `any`. Those that should end a running call also set `urgent`."""

    def __init__(self) -> None:
        self.any = asyncio.Event()
        self.urgent = asyncio.Event()
        self.broken_books: set[str] = set()
        self.has_lost_socket = False
        self._error: FeedError | None = None

    def clear(self) -> None:
        """Forget all events, because a new call begins."""
        self.any.clear()
        self.urgent.clear()
        self.broken_books.clear()
        self.has_lost_socket = False
        self._error = None

    def lose_socket(self) -> None:
        """Note that a socket is lost, or that ccxt gave up one of its subscriptions."""
        self.has_lost_socket = True
        self.any.set()

    def hear(self, error: FeedError) -> None:
        """Note an error that the exchange sent."""
        self._error = error
        self.any.set()
        self.urgent.set()

    def break_book(self, symbol: str) -> None:
        """Note that this order book must be requested again."""
        self.broken_books.add(symbol)
        self.any.set()
        self.urgent.set()

    @property
    def error(self) -> FeedError | None:
        """The error that the exchange sent; None if the socket is lost, since everything is requested again then."""
        return None if self.has_lost_socket else self._error

    @property
    def reason(self) -> FeedError | None:
        """The reason to call again; None if nothing happened."""
        if self.has_lost_socket:
            return FeedError("its socket is gone, or the library gave it up")
        if self._error is None and self.broken_books:
            return BookBroken(f"a broken book: {', '.join(sorted(self.broken_books))}")
        return self._error


class Retries:
    """The delays of one subscription, and of its books. `received`: how many records it has delivered so far."""

    def __init__(self, new_backoff: Callable[[], Backoff], received: int, now_s: float) -> None:
        self.new_backoff = new_backoff
        self._backoff = new_backoff()
        self._of_books = Backoffs(new_backoff)
        self._began_s = now_s  # time of the newest attempt
        self._received = received  # at the newest attempt

    def failures(self, received: int) -> int:
        """The number of consecutive failed calls; 0 once the subscription has delivered."""
        return self._backoff.attempts if received == self._received else 0

    def delay_s(self, received: int, now_s: float, *, at_least_s: float) -> float:
        """The delay after a failed call, in seconds."""
        if received > self._received and now_s - self._began_s >= SETTLED_S:
            self._backoff.settled()
        self._began_s, self._received = now_s, received
        return self._backoff.next_s(at_least_s)

    def book_delay_s(self, symbols: Iterable[str], now_s: float) -> float:
        """The shortest delay of these broken books, in seconds: then one call requests all of them."""
        return min([self._of_books.next_s(symbol, now_s) for symbol in symbols], default=0.0)

    def settled(self) -> None:
        """Reset the delays: the next failure counts as the first."""
        self._backoff.settled()


class CallSockets:
    """The sockets of a call. `urls`: those of the newest call. `left`: older ones, which stay open until the newer ones
    deliver the streams."""

    def __init__(self, parent: CallSockets | None) -> None:
        """`parent`: the sockets of the subscription that was split."""
        self.urls: dict[str, None] = {}
        self.left: set[str] = set(parent.urls) | parent.left if parent is not None else set()
        self._called_s = 0.0

    @property
    def newest(self) -> str | None:
        """The URL that was dialled last."""
        return next(reversed(self.urls), None)

    def begin_call(self, streams: Sequence[Stream], now_s: float) -> dict[str, None]:
        """Begin another call for the streams. Returns the mapping in which to note the URLs that the call dials."""
        self.left.update(self.urls)
        self.urls = {}
        self._called_s = now_s
        for stream in streams if self.left else ():
            stream.overlap = stream.overlap or Overlap()
            stream.overlap.is_over = False
        return self.urls

    def have_moved(self, streams: Sequence[Stream], now_s: float, *, of_books: bool) -> bool:
        """Whether the newest call's sockets deliver all streams, or `LEFT_OPEN_S` has passed since. `of_books`: only
        whether the call has dialled."""
        if not self.urls:
            return False
        if of_books or now_s - self._called_s >= LEFT_OPEN_S:
            return True
        return all(stream.overlap is None or stream.overlap.heard & self.urls.keys() for stream in streams)

    def settle(self, streams: Sequence[Stream], *, of_books: bool) -> None:
        """Forget the older sockets: they are not needed any more, or the newest call uses them too."""
        for stream in streams:
            if stream.overlap is not None and stream.overlap.heard & self.urls.keys():
                stream.overlap.is_over = True
            else:
                stream.overlap = None
            if stream.url in self.left - self.urls.keys() and not of_books:
                stream.url = self.newest
        self.left.clear()
