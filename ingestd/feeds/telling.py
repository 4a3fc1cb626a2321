"""What many streams meet at once, told once."""

from __future__ import annotations

from ingestd.clock import monotonic_s

_AGAIN_S = 1.0
_AT_MOST = 100


class Telling:
    """The errors that were told lately."""

    def __init__(self) -> None:
        self._told_s: dict[str, float] = {}

    def is_news(self, error: str) -> bool:
        """Whether nobody has told of such an error within the last second; from now on somebody has."""
        now_s = monotonic_s()
        if len(self._told_s) >= _AT_MOST:
            self._told_s.clear()
        before_s = self._told_s.get(error)
        if before_s is not None and now_s - before_s < _AGAIN_S:
            return False
        self._told_s[error] = now_s
        return True
