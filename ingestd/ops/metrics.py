"""Every number ingestd shows, in one place, and the conservation law over them.

    received + recovered = stored + duplicate + left_out + rejected + dropped + in_journal + released

balances per channel once nothing is in flight. `recovered` is what an earlier process left in the journal. `left_out`
is what a sink makes nothing of, such as books in InfluxDB; the database and Kafka leave nothing out. `released` is what
the role `sink` had read from Kafka and left to the next owner of the partition, who reads it again; what this role
holds counts as `in_journal`, since its journal is the topic. All are counted once a batch, not once a record: `stored`,
`duplicate`, `left_out` and the rejections of a sink after the commit is known.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from ingestd import __version__
from ingestd.status import FeedStatus, StreamStatus

log = structlog.get_logger()

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_STREAM_SERIES = 10_000
_RECENT_S = 300.0
_VALUES_KEPT = 200  # of one label, over all metrics of a daemon; ccxt has some 110 exchanges
_OTHER = "other"
_LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

LabelsT = TypeVar("LabelsT", bound=tuple[str, ...])
BoundedT = TypeVar("BoundedT", bound="_Bounded")
Family = CounterMetricFamily | GaugeMetricFamily


class _LabelValues:
    """The values that each label has had. Once a label has had `_VALUES_KEPT`, further values are shown as `other`:
    an exchange that invents names must not fill the memory."""

    def __init__(self, exchanges: Iterable[str]) -> None:
        self._values: dict[str, set[str]] = {"exchange": set(exchanges)}
        self._full: set[str] = set()

    def shown(self, label: str, value: str) -> str:
        """Return the value, or `other` if the label has too many."""
        known = self._values.setdefault(label, set())
        if value in known:
            return value
        if len(known) < _VALUES_KEPT:
            known.add(value)
            return value
        if label not in self._full:
            self._full.add(label)
            log.warning("label_values_limited", label=label, kept=_VALUES_KEPT, first_left_out=value, shown_as=_OTHER)
        return _OTHER


class _Bounded(MetricWrapperBase):
    """A metric whose labels have a limited number of values."""

    values: _LabelValues | None = None  # of the metric itself; what `labels` returns has none

    def labels(self: BoundedT, *labelvalues: object, **labelkwargs: object) -> BoundedT:
        if self.values is not None:
            given = zip(self._labelnames, labelvalues, strict=False)
            labelvalues = tuple(self.values.shown(name, str(value)) for name, value in given)
        return super().labels(*labelvalues, **labelkwargs)


class _Counter(_Bounded, Counter):
    """A counter with such labels."""


class _Gauge(_Bounded, Gauge):
    """A gauge with such labels."""


class _Histogram(_Bounded, Histogram):
    """A histogram of seconds with such labels."""


class _Declared(Generic[BoundedT]):
    """A line of the table in `Metrics`: each daemon's `Metrics` makes its own metric of it."""

    def __init__(self, kind: Callable[..., BoundedT], name: str, text: str, *labels: str) -> None:
        self._make = partial(kind, f"ingestd_{name}", text, labels)

    def __set_name__(self, _owner: type, attribute: str) -> None:
        self._attribute = attribute

    def __get__(self, metrics: Metrics, _owner: type) -> BoundedT:
        metric = self._make(registry=metrics.registry)
        metric.values = metrics.label_values
        vars(metrics)[self._attribute] = metric  # from now on the attribute is the metric itself
        return metric


_counter = partial(_Declared[_Counter], _Counter)
_gauge = partial(_Declared[_Gauge], _Gauge)
_seconds = partial(_Declared[_Histogram], partial(_Histogram, buckets=_LATENCY_BUCKETS_S))


class Metrics:
    """The metrics of one daemon, in a registry of their own. The number of values of each label is limited."""

    received = _counter("records_received", "Records handed over by feeds", "exchange", "channel")
    recovered = _gauge("records_recovered", "Records an earlier process left for this sink", "sink", "channel")
    journaled = _counter("records_journaled", "Records made durable in the journal", "channel")
    stored = _counter("records_stored", "Records committed by a sink", "sink", "channel")
    duplicate = _counter("records_duplicate", "Records the sink already had", "sink", "channel")
    left_out = _counter("records_left_out", "Records of which the sink makes nothing", "sink", "channel")
    influx_points = _counter(
        "influx_points", "Points made of no record, by what became of them", "measurement", "outcome"
    )
    rejected = _counter("records_rejected", "Records put aside", "channel", "reason")
    streams_rejected = _gauge("streams_rejected", "Streams of which the last records were all put aside")
    dropped = _counter("records_dropped", "Records lost on purpose", "channel", "reason")
    released = _counter("records_released", "Records taken from Kafka and left to another", "channel")
    gaps = _counter("gaps", "Periods in which a stream may lack records", "exchange", "channel", "cause")
    gaps_open = _gauge("gaps_open", "Gaps that have not ended", "exchange", "channel")

    in_journal = _gauge("records_in_journal", "Journaled records not yet stored", "channel")
    journal_bytes = _gauge("journal_bytes", "Bytes on disk in the journal")
    journal_max_bytes = _gauge("journal_max_bytes", "Bytes on disk that the journal may take: journal.max_bytes")
    journal_full = _gauge("journal_full", "1 while the journal takes no more")
    journal_age_s = _gauge("journal_oldest_age_seconds", "Age of the oldest batch kept")
    journal_errors = _counter("journal_errors", "Failed attempts to append")
    journal_latency_s = _seconds("received_to_journaled_seconds", "From the socket to the journal")

    flushes = _counter("sink_flushes", "Committed flushes", "sink")
    sink_errors = _counter("sink_errors", "Failed attempts to write", "sink", "class")
    sink_alarms = _counter("sink_alarms", "Errors that need a person", "sink")
    commits_resolved = _counter("sink_commits_resolved", "Commits whose reply was lost", "sink", "outcome")
    sink_up = _gauge("sink_up", "1 while the sink's last attempt succeeded", "sink")
    sink_lag_records = _gauge("sink_lag_records", "Journaled records the sink has not stored", "sink")
    sink_lag_s = _gauge("sink_lag_seconds", "Age of the oldest record the sink has not stored", "sink")
    commit_latency_s = _seconds("received_to_committed_seconds", "From the socket to the commit", "sink")
    flush_s = _seconds("sink_flush_seconds", "How long one flush takes", "sink")
    # Live sinks keep nothing, so they are not part of the conservation law.
    live_published = _counter("live_published", "Messages a live server has taken", "channel")
    live_dropped = _counter("live_dropped", "Messages a live sink gave up", "sink", "reason")

    source_up = _gauge("source_up", "1 while the source is in its group and the broker answers", "source")
    source_partitions = _gauge("source_partitions", "Partitions this member reads", "source")
    source_lag = _gauge("source_lag_messages", "Messages in these partitions that are not stored yet", "source")
    sources_fenced = _counter("source_fenced", "Partitions another member had taken over", "source")
    places_doubted = _counter(
        "source_places_doubted", "Records at an impossible place in a journal; stored without a mark", "source"
    )
    lease_held = _gauge("lease_held", "1 while this daemon captures by a lease that is renewed")
    lease_epoch = _gauge("lease_epoch", "The lease's term this daemon holds; 0: none")
    lease_fenced = _counter("lease_fenced", "Flushes refused: somebody else had taken the lease")

    upkeep_failures = _counter("upkeep_failures", "Failed steps of the upkeep: candles, symbols, retention", "step")
    backfill_gaps = _counter("backfill_gaps", "Gaps that backfill settled", "channel", "outcome")
    backfill_rows = _counter("backfill_rows", "Rows recovered over REST", "exchange", "channel")
    backfill_failures = _counter("backfill_failures", "Failed attempts, which are repeated", "exchange", "reason")
    candle_audits = _counter(
        "candle_audit_minutes", "Minutes whose candles were compared with the exchange's", "exchange", "outcome"
    )

    exchange_latency_s = _seconds(
        "exchange_to_received_seconds", "From the exchange's clock to the socket", "exchange", "channel"
    )
    exchange_ahead_s = _gauge(
        "exchange_clock_ahead_seconds", "The exchange's time minus ours, at the newest record", "exchange", "channel"
    )
    loop_lag_s = _gauge("loop_lag_seconds", "How late the event loop runs its timers")
    loop_tasks = _gauge("loop_tasks", "Tasks of the event loop; one that only grows is a leak")
    http_rejected = _counter("http_rejected", "Requests refused by the endpoint's limits", "reason")
    config_reloads = _counter("config_reloads", "Reloads of the configuration", "outcome")
    build_info = _gauge("build_info", "Always 1; the labels say what runs", "version", "python")

    def __init__(self, exchanges: Iterable[str] = ()) -> None:
        """`exchanges`: those of the configuration, which are always shown by their names."""
        self.registry = CollectorRegistry()
        self.label_values = _LabelValues(exchanges)
        self.missing = Recent()  # rows that were sent to the database and are not in their table
        self.refused = Recent()  # rows that the database refused with an error, and that are in `rejected_records`
        self._feeds: list[Callable[[], FeedStatus]] = []
        self._feed_collector = FeedCollector()
        self.registry.register(self._feed_collector)
        for attribute, line in vars(Metrics).items():
            if isinstance(line, _Declared):
                getattr(self, attribute)  # makes it, so that a scrape shows it before its first use
        self.build_info.labels(__version__, platform.python_version()).set(1)
        ProcessCollector(registry=self.registry)

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
        return {label: int(total) for label, total in self.values(counter, by, keep).items()}

    def values(
        self, metric: Counter | Gauge, by: str, keep: Callable[[Mapping[str, str]], bool] = lambda _: True
    ) -> dict[str, float]:
        """As `totals`, of a gauge too."""
        sums: dict[str, float] = {}
        for sample in (sample for family in metric.collect() for sample in family.samples):
            if not sample.name.endswith("_created") and keep(sample.labels):
                sums[sample.labels[by]] = sums.get(sample.labels[by], 0.0) + sample.value
        return sums


def count_by(counter: Counter, counts: Mapping[LabelsT, int]) -> None:
    """Add to the counter an amount for each tuple of label values."""
    for labels, amount in counts.items():
        if amount:
            counter.labels(*labels).inc(amount)


class Recent:
    """Sums by channel, each until five minutes after it last grew."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, channel: str, rows: int) -> None:
        self._sums[channel] = time.monotonic(), rows + self.by_channel().get(channel, 0)

    def by_channel(self) -> dict[str, int]:
        now_s = time.monotonic()
        return {channel: rows for channel, (at_s, rows) in self._sums.items() if now_s - at_s < _RECENT_S}


class FeedCollector:
    """The status of all feeds as of the last `capture`.

    Two feeds of one exchange share their label: their counts are added, and it is connected when both are. Streams
    beyond `max_streams` are left out and counted, so that a glob over every market cannot flood the store; they
    count in `feed_last_received_timestamp_seconds`.
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
        by_feed = self._by_feed
        for name, text, value in _FEED_GAUGES:
            values = {(feed,): value(statuses) for feed, statuses in by_feed.items()}
            yield _family(GaugeMetricFamily, f"feed_{name}", text, ("feed",), values)
        for kind, sums in _FEED_SUMS:
            for name, text in sums.items():
                values = {(feed,): sum(getattr(status, name) for status in group) for feed, group in by_feed.items()}
                yield _family(kind, f"feed_{name}", text, ("feed",), values)
        for name, text, label, field in _FEED_TALLIES:
            yield _family(CounterMetricFamily, name, text, ("exchange", label), _tally(by_feed, field))
        yield from self._freshness(by_feed)

    def _freshness(self, by_feed: Mapping[str, list[FeedStatus]]) -> Iterator[Metric]:
        last_s: dict[tuple[str, ...], float] = {}
        left_out = 0
        for label, statuses in by_feed.items():
            for stream in _streams(statuses):
                key = (label, stream.channel, stream.symbol)
                if key not in last_s and len(last_s) >= self._max_streams:
                    left_out += 1
                else:
                    last_s[key] = max(last_s.get(key, 0), (stream.last_received_at or 0) / 1_000_000)
        text = "When the stream last delivered; 0: not yet. Its age is time() minus this"
        labels = ("exchange", "channel", "symbol")
        yield _family(GaugeMetricFamily, "stream_last_received_timestamp_seconds", text, labels, last_s)
        yield GaugeMetricFamily("ingestd_stream_series_left_out", "Streams beyond the limit of series", value=left_out)


def _streams(statuses: Iterable[FeedStatus]) -> Iterator[StreamStatus]:
    return (stream for status in statuses for stream in status.streams)


_FEED_GAUGES: tuple[tuple[str, str, Callable[[list[FeedStatus]], float]], ...] = (
    ("connected", "1 while the feed is connected", lambda feeds: all(feed.connected for feed in feeds)),
    ("streams", "Streams the feed serves", lambda feeds: sum(stream.quarantined is None for stream in _streams(feeds))),
    (
        "quarantined",
        "Streams the venue refuses",
        lambda feeds: sum(stream.quarantined is not None for stream in _streams(feeds)),
    ),
    (
        "last_received_timestamp_seconds",
        "When any stream last delivered; 0: not yet",
        lambda feeds: max((stream.last_received_at or 0 for stream in _streams(feeds)), default=0) / 1_000_000,
    ),
)
# Metrics with the names of the fields of FeedStatus that they add up.
_FEED_SUMS: tuple[tuple[type[Family], dict[str, str]], ...] = (
    (
        GaugeMetricFamily,
        {
            "ids_not_consecutive": "Markets whose trade ids have holes by themselves",
            "markets_put_aside": "Malformed markets of the venue's newest list; the log names them",
            "market_lists_missing": "Lists of markets that the feed may need and the venue does not give",
            "symbols_refused": "Markets that match beyond max_symbols",
        },
    ),
    (
        CounterMetricFamily,
        {
            "connects": "Connections made",
            "disconnects": "Connections lost",
            "stale_reconnects": "Connections given up for their silence",
            "malformed_frames": "Frames that could not be decoded",
            "error_frames": "Errors that the venue sent on a socket",
            "waits_cut": "Waits the venue asked for that were cut to an hour",
            "incomplete_records": "Updates without what a record needs",
        },
    ),
)
# The metric, its text, its label, and the field of FeedStatus that counts by the label's values.
_FEED_TALLIES = (
    ("book_resyncs", "Broken order books, which are started again", "reason", "book_resyncs"),
    ("book_audits", "Order books compared with the venue's own", "result", "book_audits"),
    ("trade_kinds", "Trades the venue marks; other: with an unknown label", "kind", "trade_kinds"),
    ("silence_checks", "Silent streams that the venue was asked about", "result", "silences"),
)


def _tally(by_feed: Mapping[str, list[FeedStatus]], field: str) -> dict[tuple[str, ...], float]:
    sums: dict[tuple[str, ...], float] = {}
    for exchange, statuses in by_feed.items():
        for status in statuses:
            for value, count in getattr(status, field).items():
                sums[exchange, value] = sums.get((exchange, value), 0) + count
    return sums


def _family(kind: type[Family], name: str, text: str, labels: Sequence[str], values: Mapping[LabelsT, float]) -> Metric:
    family = kind(f"ingestd_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
