"""Every number ingestd shows, in one place, and the conservation law over them.

    received + recovered = stored + duplicate + rejected + dropped + in_journal

holds per channel at every quiet moment (`recovered` is what a previous run left in the journal). Counted per batch,
never per record; `stored`, `duplicate` and `rejected` only after the commit is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

_LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The counters of one daemon, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.received = self._counter("records_received", "Records handed over by feeds", "exchange", "channel")
        self.recovered = self._counter("records_recovered", "Records found in the journal at the start", "channel")
        self.journaled = self._counter("records_journaled", "Records made durable in the journal", "channel")
        self.stored = self._counter("records_stored", "Records committed by a sink", "sink", "channel")
        self.duplicate = self._counter("records_duplicate", "Records the sink already had", "sink", "channel")
        self.rejected = self._counter("records_rejected", "Records put aside", "channel", "reason")
        self.dropped = self._counter("records_dropped", "Records lost on purpose", "channel", "reason")
        self.flushes = self._counter("sink_flushes", "Committed flushes", "sink")
        self.sink_errors = self._counter("sink_errors", "Failed attempts to write", "sink", "class")
        self.sink_alarms = self._counter("sink_alarms", "Errors that need a person", "sink")
        self.commits_resolved = self._counter(
            "sink_commits_resolved", "Commits whose reply was lost", "sink", "outcome"
        )
        self.sink_up = self._gauge("sink_up", "1 while the sink's last attempt succeeded", "sink")
        self.sink_lag_records = self._gauge("sink_lag_records", "Journaled records the sink has not stored", "sink")
        self.sink_lag_s = self._gauge("sink_lag_seconds", "Age of the oldest record the sink has not stored", "sink")
        self.journal_bytes = self._gauge("journal_bytes", "Bytes on disk in the journal")
        self.journal_full = self._gauge("journal_full", "1 while the journal takes no more")
        self.journal_age_s = self._gauge("journal_oldest_age_seconds", "Age of the oldest batch kept")
        self.journal_errors = self._counter("journal_errors", "Failed attempts to append")
        self.in_journal = self._gauge("records_in_journal", "Journaled records not yet stored", "channel")
        self.loop_lag_s = self._gauge("loop_lag_seconds", "How late the event loop runs its timers")
        self.journal_latency_s = self._histogram("received_to_journaled_seconds", "From the socket to the journal")
        self.commit_latency_s = self._histogram(
            "received_to_committed_seconds", "From the socket to the commit", "sink"
        )
        self.exchange_latency_s = self._histogram(
            "exchange_to_received_seconds", "From the exchange's clock to the socket", "exchange", "channel"
        )
        self.flush_s = self._histogram("sink_flush_seconds", "How long one flush takes", "sink")

    def add_collector(self, collector: Collector) -> None:
        """Show what an object computes when it is scraped (feeds, freshness)."""
        self.registry.register(collector)

    def expose(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def totals(self, counter: Counter, by: str = "channel") -> dict[str, int]:
        """A counter summed over all labels but `by`."""
        sums: dict[str, int] = {}
        for metric in counter.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    key = sample.labels[by]
                    sums[key] = sums.get(key, 0) + int(sample.value)
        return sums

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ingestd_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"ingestd_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"ingestd_{name}", text, labels, registry=self.registry, buckets=_LATENCY_BUCKETS_S)


def count_by(counter: Counter, counts: Mapping[tuple[str, ...], int] | Iterable[tuple[tuple[str, ...], int]]) -> None:
    """Add many label tuples at once."""
    for labels, amount in counts.items() if isinstance(counts, Mapping) else counts:
        if amount:
            counter.labels(*labels).inc(amount)
