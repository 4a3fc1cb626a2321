"""Rate limits. Pure: the caller passes the time, and waits."""

from __future__ import annotations


class Pace:
    """A rate limit: `per_s` actions a second on average, `burst` at once."""

    def __init__(self, per_s: float, burst: int = 1) -> None:
        self._interval_s = 1.0 / per_s
        self._ahead_s = self._interval_s * (burst - 1)
        self._next_s = float("-inf")  # not zero, which is when the machine booted: that may be a minute ago

    @classmethod
    def hourly(cls, most: int) -> Pace:
        """A limit of `most` actions in any hour, half of them at once."""
        return cls(most / 2 / 3600, burst=max(1, most // 2))

    def is_free(self, now_s: float) -> bool:
        """Whether the next action would not have to wait."""
        return self._next_s <= now_s + self._ahead_s

    def take(self, now_s: float) -> float:
        """Reserve the next action. Return the seconds to wait before it."""
        due_s = max(self._next_s, now_s - self._ahead_s)
        self._next_s = due_s + self._interval_s
        return max(0.0, due_s - now_s)
