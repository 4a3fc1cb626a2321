"""Computes how long a subscription waits before its next call. Pure: the caller has the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ingestd.retry import SETTLED_S, Backoff, Backoffs


class Retries:
    """The delays of one subscription. `received` is the number of records it has delivered so far.

    Each book has its own delays, so that a book that breaks often does not delay the others.
    """

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
        """The delay before these broken books are requested again, in seconds."""
        return min([self._of_books.next_s(symbol, now_s) for symbol in symbols], default=0.0)

    def settled(self) -> None:
        """Reset the delays: the next failure counts as the first."""
        self._backoff.settled()
