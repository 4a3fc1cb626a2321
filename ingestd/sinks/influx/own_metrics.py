"""The measurement `metric`: the daemon's own figures, every ten seconds.

They are nowhere else, so what could not be written is kept in memory, for an hour; a restart forgets it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from ingestd.clock import now_us
from ingestd.sinks.influx.points import Flush, Told, flush_of

_EVERY_S = 10.0
_SAMPLES_KEPT = 360  # for users: docs/influx.md


class OwnMetrics:
    """Takes a sample of the figures now and then, also while the server is away."""

    measurement = "metric"

    def __init__(self, component: str, figures: Callable[[], Mapping[str, float]], every_s: float = _EVERY_S) -> None:
        self._component = component
        self._figures = figures
        self._every_s = every_s
        self._samples: deque[list[Told]] = deque(maxlen=_SAMPLES_KEPT)
        self._sampling: asyncio.Task[None] | None = None

    async def read(self) -> Flush:
        """The samples since the last call."""
        if self._sampling is None:
            self._sampling = asyncio.create_task(self._sample(), name="influx-metrics")
            await asyncio.sleep(0)  # the first sample
        if self._sampling.done():
            self._sampling.result()  # it never ends by itself: raises why it did
        flush = flush_of(told for sample in self._samples for told in sample)
        self._samples.clear()
        return flush

    async def sent(self) -> None:
        """Nothing: `read` has handed the samples over."""

    async def close(self) -> None:
        """End the sampling."""
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.wait({self._sampling})
            self._sampling = None

    async def _sample(self) -> None:
        while True:
            time_ns = now_us() * 1000
            self._samples.append(
                [
                    Told(
                        "metric",
                        {"component": self._component, "metric_type": name},
                        {"value": f"{value:.12g}"},
                        {},
                        time_ns,
                    )
                    for name, value in self._figures().items()
                ]
            )
            await asyncio.sleep(self._every_s)
