"""Starts and stops the emission: by hand, or after a quiet period without subscriptions."""

from __future__ import annotations

import asyncio

from ingestd.clock import monotonic_s


class Switch:
    """`quiet_s`: seconds after the last subscribe message at which emission starts; None: only `start()` starts it."""

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
        """Restart the quiet period, because a client subscribed."""
        self._last_subscribed = monotonic_s()
        self._touched.set()

    def start(self) -> None:
        """Start the emission."""
        self.stopped_by_hand = False
        self._on.set()
        self._touched.set()

    async def stop(self) -> None:
        """Stop the emission; returns once frames being sent are flushed."""
        self.stopped_by_hand = True
        self._on.clear()
        async with self.turn:
            pass

    async def until_on(self) -> None:
        """Wait until the emission is on."""
        while not self._on.is_set():
            self._touched.clear()
            left_s = self._quiet_left_s()
            if left_s is not None and left_s <= 0:
                self.start()
                return
            try:
                await asyncio.wait_for(self._touched.wait(), left_s)
            except TimeoutError:
                pass  # the quiet period may be over; checked above

    def _quiet_left_s(self) -> float | None:
        if self._quiet_s is None or self._last_subscribed is None or self.stopped_by_hand:
            return None
        return self._last_subscribed + self._quiet_s - monotonic_s()
