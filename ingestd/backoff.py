"""How long to wait before the next attempt: capped, with full jitter, for ever."""

from __future__ import annotations

import random


class Backoff:
    """Delays of a series of attempts, in seconds.

    The n-th delay is uniform between 0 and min(cap, first x 2^n): many clients that failed together come back spread
    out. `reset` after a success.
    """

    def __init__(self, first_s: float, cap_s: float, uniform: random.Random | None = None) -> None:
        self.attempts = 0
        self._first_s = first_s
        self._cap_s = cap_s
        self._random = uniform or random.Random()

    def next_s(self, at_least_s: float = 0.0) -> float:
        """The next delay; `at_least_s` is what the other side asked for (Retry-After)."""
        # 2 ** 63 s is past any cap; the bound keeps the power small after a year of failures.
        ceiling = min(self._cap_s, self._first_s * 2 ** min(self.attempts, 63))
        self.attempts += 1
        return max(at_least_s, self._random.uniform(0, ceiling))

    def reset(self) -> None:
        self.attempts = 0
