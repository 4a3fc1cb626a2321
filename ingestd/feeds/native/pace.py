"""How often something may be done. Pure: the caller has the clock, and waits."""

from __future__ import annotations


class Pace:
    """`per_s` on average, `burst` at once."""

    def __init__(self, per_s: float, burst: int = 1) -> None:
        self._interval_s = 1.0 / per_s
        self._ahead_s = self._interval_s * (burst - 1)
        self._next_s = 0.0

    def take(self, now_s: float) -> float:
        """The seconds until the next one may be done; it counts as done then."""
        due_s = max(self._next_s, now_s - self._ahead_s)
        self._next_s = due_s + self._interval_s
        return max(0.0, due_s - now_s)
