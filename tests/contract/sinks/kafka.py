"""The sink into Kafka."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ingestd.config.models import KafkaConfig
from ingestd.journal.journal import Cursor, Journal
from ingestd.kafka.producer import Producer
from ingestd.ops.metrics import Metrics
from ingestd.records import MarketRecord
from ingestd.sinks.base import DurableSink
from ingestd.sinks.kafka.sink import KafkaSink
from tests.contract.sinks import Ids
from tests.support.brokers import Broker, config_for
from tests.support.records import book
from tests.support.topics import read_everything, without_replays

SERVERS = ("apache", "embedded")


def harness(request: pytest.FixtureRequest, server: str) -> KafkaHarness:
    broker: Broker = request.getfixturevalue(f"{server}_kafka")
    return KafkaHarness(config_for(broker, max_flush_records=50, max_message_bytes=8_000, delivery_timeout_s=5))


class KafkaHarness:
    name = "kafka"

    def __init__(self, config: KafkaConfig) -> None:
        self.config = config
        self.trouble: Exception | None = None

    async def connect(self, topics: list[str]) -> Producer:
        if self.trouble is not None:
            raise self.trouble
        return await Producer.connect(self.config, "contract", topics)

    def make(self, cursor: Cursor, journal: Journal, state_dir: Path, metrics: Metrics) -> DurableSink:
        return KafkaSink(cursor, lambda: journal.journal_ids, self.connect, self.config, state_dir, metrics)

    def bad_record(self) -> MarketRecord:
        return book(9_999, bids=tuple((str(number), "1") for number in range(2000)))

    async def stored_ids(self) -> Ids:
        found = await asyncio.to_thread(read_everything, self.config.bootstrap_servers[0], self.config.topic_prefix)
        kept = [message for messages in found.values() for message in without_replays(messages)]
        records = [message.record(self.config.topic_prefix) for message in kept]
        return [record.trade_id for record in records if hasattr(record, "trade_id")]
