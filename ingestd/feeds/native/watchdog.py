"""When a socket needs a keep-alive, and when it has been silent for too long. Pure: the caller has the clock."""

from __future__ import annotations

from ingestd.feeds.streams.staleness import Staleness
from ingestd.venues.venue import KeepAlive


class Watchdog:
    """Watches the sockets of one connection, one after the other. Look every `interval_s`."""

    def __init__(self, stale_after_s: float, keep_alive: KeepAlive | None) -> None:
        self.interval_s = min(1.0, stale_after_s / 4)
        self._staleness = Staleness(stale_after_s)
        self._keep_alive_s = keep_alive.interval_s if keep_alive is not None else float("inf")
        self._sent_s = 0.0
        self._heard_s = 0.0
        self._data_frames = 0

    def socket_opened(self, now_s: float) -> None:
        """There is a new socket, and it has brought nothing yet."""
        self._sent_s = self._heard_s = now_s
        self._data_frames = 0

    def is_keep_alive_due(self, now_s: float) -> bool:
        """Whether a keep-alive must be sent now. True counts as sent."""
        if now_s - self._sent_s < self._keep_alive_s:
            return False
        self._sent_s = now_s
        return True

    def stale_s(self, data_frames: int, now_s: float, *, excused: bool, late_s: float) -> float | None:
        """For how many seconds the socket has brought no data, if that is too long: then it must be given up.

        `data_frames`: how many it has brought. `excused`: no data is expected, or we do not read. `late_s`: how late
        this look is; after a long pause of the process, or of its loop, what came has not been read yet.
        """
        if data_frames != self._data_frames or excused or late_s > self.interval_s:
            self._data_frames, self._heard_s = data_frames, now_s
        silent_s = now_s - self._heard_s
        return silent_s if self._staleness.is_stale(silent_s, has_delivered=data_frames > 0) else None
