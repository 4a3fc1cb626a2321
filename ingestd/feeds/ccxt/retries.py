"""How long a subscription waits before its next call. Pure: the caller has the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ingestd.retry import Backoff

SETTLED_S = 30.0  # what has worked this long starts its delays over


class Retries:
    """The delays of one subscription. `received` is how many records it has brought so far.

    Each book has delays of its own, or one that breaks often would hold up the others.
    """

    def __init__(self, new_backoff: Callable[[], Backoff], received: int, now_s: float) -> None:
        self.new_backoff = new_backoff
        self._backoff = new_backoff()
        self._of_books: dict[str, tuple[Backoff, float]] = {}  # and when each broke last
        self._began_s = now_s  # the newest attempt
        self._received = received  # by then

    def failures(self, received: int) -> int:
        """How many calls in a row have failed; 0 once one has delivered."""
        return self._backoff.attempts if received == self._received else 0

    def delay_s(self, received: int, now_s: float, *, at_least_s: float) -> float:
        """The delay after a call that failed."""
        if received > self._received and now_s - self._began_s >= SETTLED_S:
            self._backoff.settled()
        self._began_s, self._received = now_s, received
        return self._backoff.next_s(at_least_s)

    def book_delay_s(self, symbols: Iterable[str], now_s: float) -> float:
        """The delay before these books are asked for again, which are broken."""
        delays = []
        for symbol in symbols:
            backoff, broke_at_s = self._of_books.get(symbol, (self.new_backoff(), now_s))
            if now_s - broke_at_s >= SETTLED_S:
                backoff.settled()
            self._of_books[symbol] = backoff, now_s
            delays.append(backoff.next_s())
        return min(delays, default=0.0)

    def settled(self) -> None:
        """The next failure is the first again."""
        self._backoff.settled()
