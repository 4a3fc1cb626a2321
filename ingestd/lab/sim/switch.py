"""Starting and stopping the emission: by hand, or by a quiet period after the last subscription."""

from __future__ import annotations

import asyncio

from ingestd.clock import monotonic_s


class Switch:
    """`quiet_s`: start by itself so long after the last subscribe message; None: only `start()` starts."""

    def __init__(self, quiet_s: float | None) -> None:
        self._quiet_s = quiet_s
        self._on = asyncio.Event()
        self._touched = asyncio.Event()
        self._last_subscribed: float | None = None
        self.turn = asyncio.Lock()  # held while frames are being published and flushed
        self.stopped_by_hand = False

    @property
    def is_on(self) -> bool:
        """Whether frames are being sent."""
        return self._on.is_set()

    def subscribed(self) -> None:
        """A client subscribed: the quiet period begins anew."""
        self._last_subscribed = monotonic_s()
        self._touched.set()

    def start(self) -> None:
        """Send from now on."""
        self.stopped_by_hand = False
        self._on.set()
        self._touched.set()

    async def stop(self) -> None:
        """Send no more; returns when the frame being sent, if any, is flushed."""
        self.stopped_by_hand = True
        self._on.clear()
        async with self.turn:
            pass

    async def until_on(self) -> None:
        """Return as soon as frames may be sent."""
        while not self._on.is_set():
            self._touched.clear()
            left_s = self._quiet_left_s()
            if left_s is not None and left_s <= 0:
                self.start()
                return
            try:
                await asyncio.wait_for(self._touched.wait(), left_s)
            except TimeoutError:
                pass  # the quiet period may be over: looked at above

    def _quiet_left_s(self) -> float | None:
        if self._quiet_s is None or self._last_subscribed is None or self.stopped_by_hand:
            return None
        return self._last_subscribed + self._quiet_s - monotonic_s()
