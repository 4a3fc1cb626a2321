"""The limit on repeated log lines, the same for all parts.

Each minute logs a line once, and at most twenty different lines. An outage of hours, or a flood of bad data, must not
fill the disk with log lines.
"""

from __future__ import annotations

from ingestd.clock import monotonic_s

_MINUTE_S = 60.0
_LINES_A_MINUTE = 20


class LogLimit:
    """Decides for each line whether to log it. `held_back` counts the lines suppressed since the last logged one."""

    __slots__ = ("_began_s", "_logged", "held_back")

    def __init__(self) -> None:
        self._logged: set[str] = set()  # lines logged in this minute
        self.clear()

    def clear(self) -> None:
        """Forget all lines, because the problem is over: the next line is logged as if it were the first."""
        self.held_back = 0
        self._began_s = float("-inf")
        self._logged.clear()

    def allows(self, what: str) -> bool:
        """Whether to log this line now. `what` identifies the line."""
        now_s = monotonic_s()
        if now_s >= self._began_s + _MINUTE_S:
            self._began_s = now_s
            self._logged.clear()
        if what in self._logged or len(self._logged) >= _LINES_A_MINUTE:
            self.held_back += 1
            return False
        self._logged.add(what)
        self.held_back = 0
        return True
