"""How often something may be done. Pure: the caller has the clock, and waits."""

from __future__ import annotations


class Pace:
    """`per_s` on average, `burst` at once."""

    def __init__(self, per_s: float, burst: int = 1) -> None:
        self._interval_s = 1.0 / per_s
        self._ahead_s = self._interval_s * (burst - 1)
        self._next_s = 0.0

    @classmethod
    def hourly(cls, most: int) -> Pace:
        """No more than `most` in any hour, half of them at once."""
        return cls(most / 2 / 3600, burst=max(1, most // 2))

    def is_free(self, now_s: float) -> bool:
        """Whether the next one may be done at once."""
        return self._next_s <= now_s + self._ahead_s

    def take(self, now_s: float) -> float:
        """The seconds until the next one may be done; it counts as done then."""
        due_s = max(self._next_s, now_s - self._ahead_s)
        self._next_s = due_s + self._interval_s
        return max(0.0, due_s - now_s)


class Paces:
    """Several limits, all of which hold."""

    def __init__(self, *paces: Pace) -> None:
        self._paces = paces

    def take(self, now_s: float) -> float:
        """See `Pace.take`."""
        return max(pace.take(now_s) for pace in self._paces)
