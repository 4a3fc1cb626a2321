"""The readers of one daemon, from its configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from ingestd.config import DatabaseConfig, InstanceConfig, KafkaConfig
from ingestd.kafka_consumer import GroupConsumer
from ingestd.ops.metrics import Metrics
from ingestd.sources.base import Consumer, Membership, Store
from ingestd.sources.reader import ReaderLimits, TopicReader
from ingestd.storage.database import Database


def build_reader(
    store: Store,
    instance: InstanceConfig,
    kafka: KafkaConfig,
    database: DatabaseConfig,
    connect: Callable[[], Awaitable[Database]],
    metrics: Metrics,
) -> TopicReader:
    """A reader of this store's topics, in a group of its own: `group_id-market`, `group_id-events`."""

    def make_consumer(topics: Sequence[str], membership: Membership) -> Consumer:
        client_id = f"ingestd {instance.name}"
        return GroupConsumer(
            topics, membership, config=kafka, client_id=client_id, group_id=f"{kafka.group_id}-{store.name}"
        )

    limits = ReaderLimits(
        flush_s=database.flush_ms / 1000,
        max_records=database.max_flush_records,
        session_timeout_s=kafka.session_timeout_s,
        stalled_after_s=database.flush_timeout_s,
    )
    return TopicReader(store, make_consumer, connect, kafka.topic_prefix, limits, metrics)
