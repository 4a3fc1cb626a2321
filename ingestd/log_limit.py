"""Which repeated lines reach the log: the one place that says so.

The same line is logged once a minute, and twenty different ones at most. An outage of hours, or a flood of bad data,
must not fill the disk with its own report.
"""

from __future__ import annotations

from ingestd.clock import monotonic_s

_MINUTE_S = 60.0
_LINES_A_MINUTE = 20


class LogLimit:
    """Decides for each line whether it is logged. `held_back`: how many were not since the last one that was."""

    __slots__ = ("_began_s", "_said", "held_back")

    def __init__(self) -> None:
        self._said: set[str] = set()  # in this minute
        self.clear()

    def clear(self) -> None:
        """Begin anew: the trouble is over, and what is said next is said for the first time."""
        self.held_back = 0
        self._began_s = float("-inf")
        self._said.clear()

    def allows(self, what: str) -> bool:
        """Whether to log this now. `what` stands for the line: equal ones say the same."""
        now_s = monotonic_s()
        if now_s >= self._began_s + _MINUTE_S:
            self._began_s = now_s
            self._said.clear()
        if what in self._said or len(self._said) >= _LINES_A_MINUTE:
            self.held_back += 1
            return False
        self._said.add(what)
        self.held_back = 0
        return True
