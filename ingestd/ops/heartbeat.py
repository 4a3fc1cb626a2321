"""Measures how late the event loop is, and notifies systemd's watchdog while the daemon is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ingestd.clock import monotonic_s
from ingestd.ops.metrics import Metrics
from ingestd.ops.notify import Notifier

_INTERVAL_S = 0.5


class Heartbeat:
    """`show` refreshes the gauges at each beat; `alive` says whether to notify the watchdog."""

    def __init__(
        self, metrics: Metrics, notifier: Notifier, show: Callable[[], None], alive: Callable[[], bool]
    ) -> None:
        self._metrics = metrics
        self._notifier = notifier
        self._show = show
        self._alive = alive
        self._last_s = monotonic_s()

    @property
    def age_s(self) -> float:
        """Seconds since the last beat."""
        return monotonic_s() - self._last_s

    async def run(self) -> None:
        """Beat until cancelled."""
        watchdog_due_s = monotonic_s()
        while True:
            due_s = monotonic_s() + _INTERVAL_S
            await asyncio.sleep(_INTERVAL_S)
            self._last_s = monotonic_s()
            self._metrics.loop_lag_s.set(max(0.0, self._last_s - due_s))
            self._metrics.loop_tasks.set(len(asyncio.all_tasks()))
            self._show()
            interval_s = self._notifier.watchdog_interval_s
            if interval_s is not None and self._last_s >= watchdog_due_s and self._alive():
                self._notifier.watchdog()
                watchdog_due_s = self._last_s + interval_s / 2
