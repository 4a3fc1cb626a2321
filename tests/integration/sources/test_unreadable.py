"""Batches that hold more than they should, or are damaged on the broker's disk: put aside, and the reading goes on."""

from __future__ import annotations

import asyncio
import json
import resource
from pathlib import Path

import pytest
from confluent_kafka import Producer

from ingestd.config.models import KafkaConfig
from ingestd.ops.metrics import Metrics
from ingestd.sources.base import Store
from ingestd.sources.trading_events import EventTopics
from ingestd.storage.database import Database
from tests.support.brokers import ApacheKafka, Broker, config_for
from tests.support.group import Member, market_messages, member, publish, until
from tests.support.postgres import DatabaseForTest
from tests.support.records import trade

TRADES = "SELECT count(*) FROM trades"
CODECS = ["gzip", "snappy", "lz4", "zstd"]
BOMB_BYTES = 40_000_000


def throw(config: KafkaConfig, topic: str, codec: str, value: bytes) -> None:
    """Another program's message, in a batch of its own."""
    producer = Producer(
        {
            "bootstrap.servers": config.bootstrap_servers[0],
            "compression.type": codec,
            "message.max.bytes": 1_000_000_000,
            "linger.ms": 0,
        }
    )
    answers: list[object] = []
    producer.produce(topic, value, partition=0, on_delivery=lambda error, _: answers.append(error))
    assert producer.flush(60) == 0
    assert answers == [None]


async def put_aside(db: Database) -> list[tuple[str, int, int, str, str]]:
    rows = await db.fetch("SELECT record, reason, table_name FROM rejected_records ORDER BY (record->>'offset')::int")
    found = []
    for row in rows:
        record = json.loads(row["record"]) if isinstance(row["record"], str) else row["record"]
        found.append((record["topic"], record["first_offset"], record["offset"], row["reason"], row["table_name"]))
    return found


async def test_bombs_in_every_codec_are_put_aside_and_nothing_else(
    postgres_database: DatabaseForTest, apache_kafka: Broker
) -> None:
    config = config_for(apache_kafka, partitions=1, max_message_bytes=4_000_000)
    topic = f"{config.topic_prefix}.market.trades"
    db = await postgres_database.connect()
    await publish(config, market_messages(config, "j", 1, [trade(1)]))
    for number, codec in enumerate(CODECS):
        await asyncio.to_thread(throw, config, topic, codec, bytes(BOMB_BYTES))
        await publish(config, market_messages(config, "j", 2 + number, [trade(2 + number)]))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with member(config, postgres_database.dsn) as made:
        await until(db, TRADES, 5)
        await until(db, "SELECT count(*) FROM rejected_records", 4)
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) * 1024
    assert grown_bytes < 2 * BOMB_BYTES
    assert await put_aside(db) == [(topic, at, at, "too_large", "trades") for at in (1, 3, 5, 7)]
    assert made.metrics.totals(made.metrics.rejected) == {"trades": 4}
    assert made.balance() == 0
    async with member(config, postgres_database.dsn) as again:  # a restart begins behind them
        await publish(config, market_messages(config, "j", 9, [trade(9)]))
        await until(db, TRADES, 6)
    assert again.total("rejected") == {}
    assert again.total("duplicate") == {}
    assert await db.fetchval("SELECT position FROM ingest_positions WHERE source LIKE '%market.trades:0'") == 10
    await db.close()


async def test_a_bomb_in_an_event_topic_is_put_aside(postgres_database: DatabaseForTest, apache_kafka: Broker) -> None:
    def event_store(config: KafkaConfig, metrics: Metrics) -> Store:
        return EventTopics(config.topic_prefix, metrics)

    config = config_for(apache_kafka, partitions=1)
    topic = f"{config.topic_prefix}.orders.submitted"
    db = await postgres_database.connect()
    async with member(config, postgres_database.dsn, event_store) as made:
        await made.until_joined()
        await asyncio.to_thread(throw, config, topic, "zstd", bytes(BOMB_BYTES))
        await asyncio.to_thread(throw, config, topic, "zstd", b"{}")
        await until(db, "SELECT count(*) FROM rejected_records", 2)
    rows = await db.fetch("SELECT reason FROM rejected_records ORDER BY (record->>'offset')::int")
    assert [row["reason"] for row in rows] == ["too_large", "poison"]
    await db.close()


def damage_second_batch(broker: Broker, topic: str) -> None:
    """Turn over some bits of its records, in the file where the broker has the topic."""
    assert isinstance(broker, ApacheKafka)
    [file] = Path(broker.home).glob(f"data/{topic}-0/*0.log")
    data = file.read_bytes()
    second = 12 + int.from_bytes(data[8:12], "big")
    with file.open("r+b") as opened:
        opened.seek(second + 100)
        opened.write(bytes(byte ^ 0xFF for byte in data[second + 100 : second + 110]))


@pytest.mark.parametrize("compression", ["none", "lz4"])
async def test_a_batch_that_is_damaged_on_the_brokers_disk_does_not_stop_the_partition(
    postgres_database: DatabaseForTest, apache_kafka: Broker, compression: str
) -> None:
    config = config_for(apache_kafka, partitions=1, compression=compression)
    topic = f"{config.topic_prefix}.market.trades"
    db = await postgres_database.connect()
    batches = [[trade(1)], [trade(number, symbol="MARK/USDT") for number in (2, 3, 4)], [trade(5)]]
    for position, records in enumerate(batches):
        await publish(config, market_messages(config, f"journal{position}", position, records))
    await asyncio.to_thread(damage_second_batch, apache_kafka, topic)
    made = Member(config, postgres_database.dsn)
    try:
        await until(db, TRADES, 2)
        await until(db, "SELECT count(*) FROM rejected_records", 1)
        await publish(config, market_messages(config, "journal3", 3, [trade(6)]))
        await until(db, TRADES, 3)
        await made.leave()
    finally:
        await made.crash()
    assert await put_aside(db) == [(topic, 1, 3, "unreadable", "trades")]
    assert await db.fetchval("SELECT position FROM ingest_positions WHERE source LIKE '%market.trades:0'") == 6
    await db.close()
