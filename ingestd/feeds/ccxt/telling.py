"""Logs once an error that many streams of a feed meet at the same time."""

from __future__ import annotations

from ingestd.clock import monotonic_s

_AGAIN_S = 1.0
_AT_MOST = 100


class Telling:
    """Remembers the errors that were logged within the last second."""

    def __init__(self) -> None:
        self._told_s: dict[str, float] = {}

    def is_news(self, error: str) -> bool:
        """Whether no such error was logged within the last second. The caller logs it then."""
        now_s = monotonic_s()
        if len(self._told_s) >= _AT_MOST:
            self._told_s.clear()
        before_s = self._told_s.get(error)
        if before_s is not None and now_s - before_s < _AGAIN_S:
            return False
        self._told_s[error] = now_s
        return True
