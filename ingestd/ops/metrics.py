"""Every number ingestd shows, in one place, and the conservation law over them.

    received + recovered = stored + duplicate + rejected + dropped + in_journal + released

balances per channel once nothing is in flight. `recovered` is what an earlier process left in the journal. `released`
is what the role `sink` had read from Kafka and left to the next owner of the partition, who reads it again; what it
holds counts as `in_journal`, since its journal is the topic. Counts are per batch, never per record; `stored`,
`duplicate` and `rejected` are counted only after the commit is known.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from ingestd import __version__
from ingestd.ops.label_values import LabelValues
from ingestd.status import FeedStatus, StreamStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MISSING_SHOWN_S = 300.0
MAX_STREAM_SERIES = 10_000

LabelsT = TypeVar("LabelsT", bound=tuple[str, ...])
BoundedT = TypeVar("BoundedT", bound="_Bounded")

_LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class _Bounded(MetricWrapperBase):
    """A metric whose labels have a limited number of values."""

    values: LabelValues | None = None  # of the metric itself; what `labels` returns has none

    def labels(self: BoundedT, *labelvalues: object, **labelkwargs: object) -> BoundedT:
        if self.values is not None:
            given = zip(self._labelnames, labelvalues, strict=False)
            labelvalues = tuple(self.values.shown(name, str(value)) for name, value in given)
        return super().labels(*labelvalues, **labelkwargs)


class _BoundedCounter(_Bounded, Counter):
    """A counter with such labels."""


class _BoundedGauge(_Bounded, Gauge):
    """A gauge with such labels."""


class _BoundedHistogram(_Bounded, Histogram):
    """A histogram with such labels."""


class Metrics:
    """The metrics of one daemon, in a registry of their own. The number of values of each label is limited.

    It has one attribute for each metric, so that a type checker finds one that is misspelt.
    """

    def __init__(self, exchanges: Iterable[str] = ()) -> None:
        """`exchanges`: those of the configuration, which are always shown by their names."""
        self.registry = CollectorRegistry()
        self._label_values = LabelValues()
        self._label_values.reserve("exchange", exchanges)
        self._feeds: list[Callable[[], FeedStatus]] = []
        self._feed_collector = FeedCollector()
        self.registry.register(self._feed_collector)
        self._declare_records_and_journal()
        self._declare_sinks()
        self._declare_sources_and_lease()
        self._declare_upkeep_and_process()
        ProcessCollector(registry=self.registry)

    def _declare_records_and_journal(self) -> None:
        self.received = self._counter("records_received", "Records handed over by feeds", "exchange", "channel")
        self.recovered = self._gauge(
            "records_recovered", "Records an earlier process left in the journal for this sink", "sink", "channel"
        )
        self.journaled = self._counter("records_journaled", "Records made durable in the journal", "channel")
        self.stored = self._counter("records_stored", "Records committed by a sink", "sink", "channel")
        self.duplicate = self._counter("records_duplicate", "Records the sink already had", "sink", "channel")
        self.rejected = self._counter("records_rejected", "Records put aside", "channel", "reason")
        self.streams_rejected = self._gauge("streams_rejected", "Streams of which the last records were all put aside")
        self._missing, self._refused = _Recent(), _Recent()
        self.dropped = self._counter("records_dropped", "Records lost on purpose", "channel", "reason")
        self.gaps = self._counter("gaps", "Stretches a stream may have missed", "exchange", "channel", "cause")
        self.gaps_open = self._gauge("gaps_open", "Those that have not ended", "exchange", "channel")
        self.released = self._counter("records_released", "Records taken from Kafka and left to another", "channel")
        self.journal_bytes = self._gauge("journal_bytes", "Bytes on disk in the journal")
        self.journal_full = self._gauge("journal_full", "1 while the journal takes no more")
        self.journal_age_s = self._gauge("journal_oldest_age_seconds", "Age of the oldest batch kept")
        self.journal_errors = self._counter("journal_errors", "Failed attempts to append")
        self.in_journal = self._gauge("records_in_journal", "Journaled records not yet stored", "channel")
        self.journal_latency_s = self._histogram("received_to_journaled_seconds", "From the socket to the journal")

    def _declare_sinks(self) -> None:
        self.flushes = self._counter("sink_flushes", "Committed flushes", "sink")
        self.sink_errors = self._counter("sink_errors", "Failed attempts to write", "sink", "class")
        self.sink_alarms = self._counter("sink_alarms", "Errors that need a person", "sink")
        self.commits_resolved = self._counter(
            "sink_commits_resolved", "Commits whose reply was lost", "sink", "outcome"
        )
        self.sink_up = self._gauge("sink_up", "1 while the sink's last attempt succeeded", "sink")
        self.sink_lag_records = self._gauge("sink_lag_records", "Journaled records the sink has not stored", "sink")
        self.sink_lag_s = self._gauge("sink_lag_seconds", "Age of the oldest record the sink has not stored", "sink")
        self.commit_latency_s = self._histogram(
            "received_to_committed_seconds", "From the socket to the commit", "sink"
        )
        self.flush_s = self._histogram("sink_flush_seconds", "How long one flush takes", "sink")
        # Live sinks keep nothing, so they are not part of the conservation law.
        self.live_published = self._counter("live_published", "Messages a live server has taken", "channel")
        self.live_dropped = self._counter("live_dropped", "Messages a live sink gave up", "sink", "reason")

    def _declare_sources_and_lease(self) -> None:
        self.sources_fenced = self._counter("source_fenced", "Partitions another member had taken over", "source")
        self.places_doubted = self._counter(
            "source_places_doubted", "Records at an impossible place in a journal; stored without a mark", "source"
        )
        self.source_up = self._gauge("source_up", "Whether it is in its group and the broker answers", "source")
        self.source_partitions = self._gauge("source_partitions", "Partitions this member reads", "source")
        self.source_lag = self._gauge("source_lag_messages", "Messages in them that are not stored yet", "source")
        self.lease_held = self._gauge("lease_held", "1 while this daemon captures by a lease that is renewed")
        self.lease_epoch = self._gauge("lease_epoch", "The lease's term this daemon holds; 0: none")
        self.lease_fenced = self._counter("lease_fenced", "Flushes refused: somebody else had taken the lease")

    def _declare_upkeep_and_process(self) -> None:
        self.upkeep_failures = self._counter("upkeep_failures", "Failed turns of candles, symbols, retention", "step")
        self.backfill_gaps = self._counter("backfill_gaps", "Gaps that backfill settled", "channel", "outcome")
        self.backfill_rows = self._counter("backfill_rows", "Rows recovered over REST", "exchange", "channel")
        self.backfill_failures = self._counter("backfill_failures", "Attempts to be repeated", "exchange", "reason")
        self.candle_audits = self._counter("candle_audit_minutes", "Minutes compared", "exchange", "outcome")
        self.loop_lag_s = self._gauge("loop_lag_seconds", "How late the event loop runs its timers")
        self.loop_tasks = self._gauge("loop_tasks", "Tasks of the event loop; one that only grows is a leak")
        self.exchange_latency_s = self._histogram(
            "exchange_to_received_seconds", "From the exchange's clock to the socket", "exchange", "channel"
        )
        self.exchange_ahead_s = self._gauge(
            "exchange_clock_ahead_seconds",
            "The exchange's time minus ours, at the newest record",
            "exchange",
            "channel",
        )
        self.http_rejected = self._counter("http_rejected", "Requests refused by the endpoint's limits", "reason")
        self.config_reloads = self._counter("config_reloads", "Reloads of the configuration", "outcome")
        self._gauge("build_info", "Always 1; the labels say what runs", "version", "python").labels(
            __version__, platform.python_version()
        ).set(1)

    def watch_feed(self, status: Callable[[], FeedStatus]) -> None:
        """Read this feed's status at each scrape, and show it with the age of every stream."""
        self._feeds.append(status)

    def capture(self) -> None:
        """Copy the feeds' status on the event loop, so that `render` may run in a thread: 10,000 series take 60 ms."""
        self._feed_collector.capture(status() for status in self._feeds)

    def render(self) -> bytes:
        """The Prometheus text format, with the feeds as of the last `capture`."""
        return generate_latest(self.registry)

    def totals(
        self, counter: Counter, by: str = "channel", keep: Callable[[Mapping[str, str]], bool] = lambda _: True
    ) -> dict[str, int]:
        """A counter summed over all labels but `by`, of the label sets for which `keep` is true."""
        sums: dict[str, int] = {}
        for metric in counter.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total") and keep(sample.labels):
                    key = sample.labels[by]
                    sums[key] = sums.get(key, 0) + int(sample.value)
        return sums

    def values(self, gauge: Gauge, by: str) -> dict[str, float]:
        """A gauge summed over all labels but `by`."""
        sums: dict[str, float] = {}
        for metric in gauge.collect():
            for sample in metric.samples:
                sums[sample.labels[by]] = sums.get(sample.labels[by], 0.0) + sample.value
        return sums

    def note_missing(self, channel: str, rows: int) -> None:
        """Count rows that were sent to the database and are not in their table."""
        self._missing.add(channel, rows)

    def recently_missing(self) -> dict[str, int]:
        """Rows of `note_missing` in the last minutes, by channel."""
        return self._missing.recent()

    def note_refused(self, channel: str, rows: int) -> None:
        """Count rows that the database refused with an error, and that are in `rejected_records`."""
        self._refused.add(channel, rows)

    def recently_refused(self) -> dict[str, int]:
        """Such rows of the last minutes, by channel."""
        return self._refused.recent()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return self._bounded(_BoundedCounter(f"ingestd_{name}", text, labels, registry=self.registry))

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return self._bounded(_BoundedGauge(f"ingestd_{name}", text, labels, registry=self.registry))

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        buckets = _LATENCY_BUCKETS_S
        return self._bounded(
            _BoundedHistogram(f"ingestd_{name}", text, labels, registry=self.registry, buckets=buckets)
        )

    def _bounded(self, metric: BoundedT) -> BoundedT:
        metric.values = self._label_values
        return metric


class _Recent:
    """Sums by channel, shown until some minutes after they last grew."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, channel: str, rows: int) -> None:
        self._sums[channel] = time.monotonic(), rows + self.recent().get(channel, 0)

    def recent(self) -> dict[str, int]:
        now_s = time.monotonic()
        return {channel: rows for channel, (at_s, rows) in self._sums.items() if now_s - at_s < _MISSING_SHOWN_S}


class FeedCollector:
    """The status of all feeds as of the last `capture`.

    Two feeds of one exchange share their label: their counts are added, and it is connected when both are. Streams
    beyond `max_streams` are left out and counted, so that a glob over every market cannot flood the store; the
    feed's own `last_received` covers them.
    """

    def __init__(self, max_streams: int = MAX_STREAM_SERIES) -> None:
        self._max_streams = max_streams
        self._by_feed: dict[str, list[FeedStatus]] = {}

    def capture(self, statuses: Iterable[FeedStatus]) -> None:
        """Keep these statuses; `collect` shows them until the next call."""
        by_feed: dict[str, list[FeedStatus]] = {}
        for status in statuses:
            by_feed.setdefault(status.label, []).append(status)
        self._by_feed = by_feed

    def collect(self) -> Iterator[Metric]:
        """The families of one scrape."""
        yield from _feed_gauges(self._by_feed)
        yield from _feed_counters(self._by_feed)
        yield from _feed_tallies(self._by_feed)
        yield from self._freshness(self._by_feed)

    def _freshness(self, by_feed: Mapping[str, list[FeedStatus]]) -> Iterator[Metric]:
        last: dict[tuple[str, str, str], int] = {}
        left_out = 0
        for label, stream in _streams(by_feed):
            key = (label, stream.channel, stream.symbol)
            if key not in last and len(last) >= self._max_streams:
                left_out += 1
                continue
            last[key] = max(last.get(key, 0), stream.last_received_at or 0)
        family = GaugeMetricFamily(
            "ingestd_stream_last_received_timestamp_seconds",
            "When the stream last delivered; 0: not yet. Its age is time() minus this",
            labels=("exchange", "channel", "symbol"),
        )
        for key, time_us in last.items():
            family.add_metric(key, time_us / 1_000_000)
        yield family
        yield GaugeMetricFamily("ingestd_stream_series_left_out", "Streams beyond the limit of series", value=left_out)


def _feed_gauges(by_feed: Mapping[str, list[FeedStatus]]) -> Iterator[Metric]:
    connected = GaugeMetricFamily("ingestd_feed_connected", "1 while the feed is connected", labels=("feed",))
    streams = GaugeMetricFamily("ingestd_feed_streams", "Streams the feed serves", labels=("feed",))
    quarantined = GaugeMetricFamily("ingestd_feed_quarantined", "Streams the venue refuses", labels=("feed",))
    last = GaugeMetricFamily(
        "ingestd_feed_last_received_timestamp_seconds", "When any stream last delivered; 0: not yet", labels=("feed",)
    )
    for label, statuses in by_feed.items():
        every = [stream for status in statuses for stream in status.streams]
        refused = sum(1 for stream in every if stream.quarantined is not None)
        connected.add_metric((label,), float(all(status.connected for status in statuses)))
        streams.add_metric((label,), len(every) - refused)
        quarantined.add_metric((label,), refused)
        last.add_metric((label,), max((stream.last_received_at or 0 for stream in every), default=0) / 1_000_000)
    yield from (connected, streams, quarantined, last)
    for name, text, count in _FEED_STATES:
        family = GaugeMetricFamily(f"ingestd_feed_{name}", text, labels=("feed",))
        for label, statuses in by_feed.items():
            family.add_metric((label,), sum(count(status) for status in statuses))
        yield family


_FEED_STATES: tuple[tuple[str, str, Callable[[FeedStatus], int]], ...] = (
    (
        "ids_not_consecutive",
        "Markets whose trade ids have holes by themselves",
        lambda status: status.ids_not_consecutive,
    ),
    (
        "markets_put_aside",
        "Malformed markets of the venue's newest list; the log names them",
        lambda status: status.markets_put_aside,
    ),
    (
        "market_lists_missing",
        "Lists of markets that the feed may need and the venue does not give",
        lambda status: status.market_lists_missing,
    ),
    ("symbols_refused", "Markets that match beyond max_symbols", lambda status: status.symbols_refused),
)


_FEED_COUNTS: tuple[tuple[str, str, Callable[[FeedStatus], int]], ...] = (
    ("connects", "Connections made", lambda status: status.connects),
    ("disconnects", "Connections lost", lambda status: status.disconnects),
    ("stale_reconnects", "Connections given up for their silence", lambda status: status.stale_reconnects),
    ("malformed_frames", "Frames that could not be decoded", lambda status: status.malformed_frames),
    ("error_frames", "Errors that the venue sent on a socket", lambda status: status.error_frames),
    ("waits_cut", "Waits the venue asked for that were cut to an hour", lambda status: status.waits_cut),
    ("incomplete_records", "Updates without what a record needs", lambda status: status.incomplete_records),
)


_FEED_TALLIES: tuple[tuple[str, str, str, Callable[[FeedStatus], Mapping[str, int]]], ...] = (
    ("book_resyncs", "Order books begun anew", "reason", lambda status: status.book_resyncs),
    ("book_audits", "Order books compared with the venue's own", "result", lambda status: status.book_audits),
    ("trade_kinds", "Trades the venue marks; other: a label not known", "kind", lambda status: status.trade_kinds),
    ("silence_checks", "Silent streams that the venue was asked about", "result", lambda status: status.silences),
)


def _feed_tallies(by_feed: Mapping[str, list[FeedStatus]]) -> Iterator[Metric]:
    for name, text, label, tally in _FEED_TALLIES:
        family = CounterMetricFamily(f"ingestd_{name}", text, labels=("exchange", label))
        for exchange, statuses in by_feed.items():
            sums: dict[str, int] = {}
            for status in statuses:
                for value, count in tally(status).items():
                    sums[value] = sums.get(value, 0) + count
            for value, count in sums.items():
                family.add_metric((exchange, value), count)
        yield family


def _feed_counters(by_feed: Mapping[str, list[FeedStatus]]) -> Iterator[Metric]:
    for name, text, count in _FEED_COUNTS:
        family = CounterMetricFamily(f"ingestd_feed_{name}", text, labels=("feed",))
        for label, statuses in by_feed.items():
            family.add_metric((label,), sum(count(status) for status in statuses))
        yield family


def _streams(by_feed: Mapping[str, list[FeedStatus]]) -> Iterator[tuple[str, StreamStatus]]:
    for label, statuses in by_feed.items():
        for status in statuses:
            for stream in status.streams:
                yield label, stream


def count_by(counter: Counter, counts: Mapping[LabelsT, int]) -> None:
    """Add many label tuples at once."""
    for labels, amount in counts.items():
        if amount:
            counter.labels(*labels).inc(amount)
