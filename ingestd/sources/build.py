"""Builds the readers of a daemon from its configuration, and reports them to health and metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from ingestd.config.models import DatabaseConfig, KafkaConfig
from ingestd.kafka.consumer import GroupConsumer
from ingestd.kafka.messages import Consumer, Membership
from ingestd.ops.health import SourceHealth
from ingestd.ops.metrics import Metrics
from ingestd.sources.base import ReaderLimits, Store
from ingestd.sources.reader import TopicReader
from ingestd.storage.database import Database


def build_reader(
    store: Store,
    instance: str,
    kafka: KafkaConfig,
    database: DatabaseConfig,
    connect: Callable[[], Awaitable[Database]],
    metrics: Metrics,
    *,
    logs_outages: bool = True,
) -> TopicReader:
    """Build a reader of this store's topics, in a group of its own: `group_id-market` or `group_id-events`.

    `logs_outages`: whether it logs that a server is away. Only one of the readers that share a server does.
    """

    def make_consumer(topics: Sequence[str], membership: Membership) -> Consumer:
        client_id = f"ingestd {instance}"
        return GroupConsumer(
            topics, membership, config=kafka, client_id=client_id, group_id=f"{kafka.group_id}-{store.name}"
        )

    limits = ReaderLimits(
        flush_s=database.flush_ms / 1000,
        max_records=database.max_flush_records,
        session_timeout_s=kafka.session_timeout_s,
        stalled_after_s=database.flush_timeout_s,
        logs_outages=logs_outages,
    )
    return TopicReader(store, make_consumer, connect, kafka.topic_prefix, limits, metrics)


def source_health(reader: TopicReader, *, needed: bool) -> SourceHealth:
    """The reader's health. `needed`: the daemon is not ready without this reader."""
    reading = reader.reading()
    return SourceHealth(reading.name, reading.joined, reading.problem, needed)


def show_source(metrics: Metrics, reader: TopicReader) -> None:
    """Update the gauges of this reader."""
    reading = reader.reading()
    metrics.source_up.labels(reader.name).set(reading.joined)
    metrics.source_partitions.labels(reader.name).set(reading.partitions)
    metrics.source_lag.labels(reader.name).set(reading.lag)
    metrics.sink_lag_records.labels(reader.name).set(reading.lag)
    for channel, count in reader.held().items():
        metrics.in_journal.labels(channel).set(count)
