"""Decides when a socket needs a keep-alive and when it is stale. Pure: the caller has the clock."""

from __future__ import annotations

from ingestd.feeds.streams.staleness import Staleness
from ingestd.venues.venue import KeepAlive


class Watchdog:
    """Watches the successive sockets of one connection. Call its checks every `interval_s`."""

    def __init__(self, stale_after_s: float, keep_alive: KeepAlive | None) -> None:
        self.interval_s = min(1.0, stale_after_s / 4)
        self._staleness = Staleness(stale_after_s)
        self._keep_alive_s = keep_alive.interval_s if keep_alive is not None else float("inf")
        self._sent_s = 0.0
        self._heard_s = 0.0
        self._data_frames = 0

    def socket_opened(self, now_s: float) -> None:
        """Start over for a new socket."""
        self._sent_s = self._heard_s = now_s
        self._data_frames = 0

    def is_keep_alive_due(self, now_s: float) -> bool:
        """Whether to send a keep-alive now. Returning True counts as sent."""
        if now_s - self._sent_s < self._keep_alive_s:
            return False
        self._sent_s = now_s
        return True

    def stale_s(self, data_frames: int, now_s: float, *, excused: bool, late_s: float) -> float | None:
        """How many seconds the socket has been silent, if that is too long and it must be closed; else None.

        `data_frames`: number of frames with data so far. `excused`: no data is expected, or reading is paused.
        `late_s`: how late this check is; after a pause of the process or its loop, received data is still unread.
        """
        if data_frames != self._data_frames or excused or late_s > self.interval_s:
            self._data_frames, self._heard_s = data_frames, now_s
        silent_s = now_s - self._heard_s
        return silent_s if self._staleness.is_stale(silent_s, has_delivered=data_frames > 0) else None
