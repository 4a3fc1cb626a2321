"""One log line a minute: records received and stored, the lag of each sink, open gaps."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from ingestd.ops.metrics import Metrics

log = structlog.get_logger()

EVERY_S = 60.0


class Summary:
    """The numbers of one daemon between one line and the next."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._before: dict[tuple[str, str], int] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            log.info("summary", **self.line())

    def line(self) -> dict[str, Any]:
        """Records received, and stored by each sink, since the last call. Problems are listed only if there are any.

        `lag_s` and `waiting`: the age of the oldest record that a sink has not stored, and how many; of Kafka's topics,
        messages that are not stored.
        """
        metrics = self._metrics
        told: dict[str, Any] = {
            "received": self._since("received", metrics.totals(metrics.received)),
            "stored": self._since_by("stored", metrics.totals(metrics.stored, by="sink")),
            "lag_s": {sink: round(age_s, 1) for sink, age_s in metrics.values(metrics.sink_lag_s, "sink").items()},
            "waiting": {
                name: int(count)
                for gauge, label in ((metrics.sink_lag_records, "sink"), (metrics.source_lag, "source"))
                for name, count in metrics.values(gauge, label).items()
            },
            "gaps_open": int(sum(metrics.values(metrics.gaps_open, "channel").values())),
            "gaps_new": self._since("gaps", metrics.totals(metrics.gaps)),
        }
        for name, counter in (("dropped", metrics.dropped), ("rejected", metrics.rejected)):
            if count := self._since(name, metrics.totals(counter)):
                told[name] = count
        return told

    def _since(self, name: str, totals: dict[str, int]) -> int:
        return sum(self._since_by(name, totals).values())

    def _since_by(self, name: str, totals: dict[str, int]) -> dict[str, int]:
        grown = {label: total - self._before.get((name, label), 0) for label, total in totals.items()}
        self._before.update({(name, label): total for label, total in totals.items()})
        return grown
