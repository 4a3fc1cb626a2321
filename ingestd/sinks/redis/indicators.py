"""The newest values of technical indicators, and which of them must still be written to the server."""

from __future__ import annotations

MAX_INDICATORS_KEPT = 200_000
INDICATOR_TTL_S = 300

Fields = tuple[bytes, ...]


class RecentIndicators:
    """The last value under each key, and when it was taken. A key that nobody renews expires here as on the server."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Fields, float]] = {}
        self._new: dict[str, None] = {}

    @property
    def is_clean(self) -> bool:
        """Whether every value was handed out to be written."""
        return not self._new

    def take(self, key: str, fields: Fields, now_s: float) -> None:
        """Remember a value. With too many keys, forget the one that was taken longest ago."""
        self._kept.pop(key, None)
        while len(self._kept) >= MAX_INDICATORS_KEPT:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._new.pop(oldest, None)
        self._kept[key] = (fields, now_s)
        self._new[key] = None

    def pop(self, now_s: float) -> tuple[str, Fields, int] | None:
        """The next key to write, with its fields and the time that it has left to live, in seconds; None: no one."""
        while self._new:
            key = next(iter(self._new))
            del self._new[key]
            fields, taken_s = self._kept[key]
            if (left_s := round(INDICATOR_TTL_S - (now_s - taken_s))) > 0:
                return key, fields, left_s
            del self._kept[key]
        return None

    def refill(self) -> None:
        """Mark every value to be written again."""
        self._new = dict.fromkeys(self._kept)
