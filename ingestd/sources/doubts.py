"""Reports records with impossible journal places: another program may write to the topic under a daemon's name."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from ingestd.clock import monotonic_s
from ingestd.log_limit import LogLimit
from ingestd.ops.metrics import Metrics
from ingestd.sources.partitions import Partition

log = structlog.get_logger()

_SHOWN_S = 300.0


class Doubts:
    """Counts doubtful places, logs them once a minute, and shows them in the status for five minutes."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        self._name = name
        self._metrics = metrics
        self._log_limit = LogLimit()
        self._last_s = float("-inf")
        self._unlogged = 0  # messages
        self._where = ""

    def look(self, partitions: Iterable[Partition]) -> None:
        """Count and log the doubtful places of these partitions."""
        for partition in partitions:
            if partition.doubtful:
                self._note(partition)

    def _note(self, partition: Partition) -> None:
        messages, journal_id = partition.doubtful.total(), next(iter(partition.doubtful))
        partition.doubtful.clear()
        self._metrics.places_doubted.labels(self._name).inc(messages)
        self._unlogged += messages
        self._where = f"the journal {journal_id} on {partition.part[0]}, partition {partition.part[1]}"
        self._last_s = monotonic_s()
        if not self._log_limit.allows("journal_place_cannot_be"):
            return
        self._metrics.sink_alarms.labels(self._name).inc()
        log.error(
            "journal_place_cannot_be",
            source=self._name,
            partition=partition.part,
            journal_id=journal_id,
            messages=self._unlogged,
            effect="stored without a mark: a record without an id is stored again if it is sent again",
            remedy="see who else may write to the topic, and whether that daemon's clock was set back far",
        )
        self._unlogged = 0

    @property
    def problem(self) -> str | None:
        """A sentence for people; None if no place was doubtful lately."""
        if monotonic_s() - self._last_s >= _SHOWN_S:
            return None
        return f"messages name impossible places in {self._where}; see who else may write to the topic"
