"""What a member says and does when its broker is dead, frozen, emptied, or lacks a topic; and while the database is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
from confluent_kafka.admin import AdminClient

from ingestd.config.models import KafkaConfig
from ingestd.kafka import envelope
from ingestd.kafka.connecting import ensure_topics
from ingestd.kafka.consumer import GroupConsumer
from ingestd.kafka.messages import Part
from ingestd.kafka.producer import partition_for
from ingestd.records import Record
from ingestd.sources.base import ReaderStatus
from tests.support.brokers import Broker, config_for, frozen, running_broker
from tests.support.group import Member, market_messages, member, publish, until
from tests.support.postgres import DatabaseForTest
from tests.support.records import tick, trade


async def says(made: Member, holds: Callable[[ReaderStatus], bool], timeout_s: float) -> None:
    """Wait until the reader says so."""
    try:
        async with asyncio.timeout(timeout_s):
            while not holds(made.reader.reading()):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"after {timeout_s} s it says {made.reader.reading()}") from None


def is_silent(reading: ReaderStatus) -> bool:
    return not reading.joined and "no broker answers" in (reading.problem or "")


def is_well(reading: ReaderStatus) -> bool:
    return reading.joined and reading.problem is None


async def test_a_broker_that_is_frozen_or_dead_is_told_of_within_ten_seconds(
    postgres_database: DatabaseForTest,
) -> None:
    with running_broker("apache-kafka") as broker:
        config = config_for(broker)
        async with member(config, postgres_database.dsn) as made:
            await made.until_joined()
            with frozen(broker):
                await says(made, is_silent, 10)
            await says(made, is_well, 30)
            broker.stop()
            await says(made, is_silent, 10)
            broker.start()
            await says(made, is_well, 30)


async def test_the_lag_is_true_while_the_database_is_away(
    postgres_database: DatabaseForTest, apache_kafka: Broker
) -> None:
    config = config_for(apache_kafka, partitions=1)
    db = await postgres_database.connect()
    async with member(config, postgres_database.dsn) as made:
        await made.until_joined()
        await publish(config, market_messages(config, "j", 1, [trade(1)]))
        await until(db, "SELECT count(*) FROM trades", 1)
        async with db.transaction():
            await db.execute("LOCK TABLE trades IN ACCESS EXCLUSIVE MODE")  # a database that does not answer
            for position in range(2, 12):
                records = [trade(position * 1000 + number) for number in range(300)]
                await publish(config, market_messages(config, "j", position, records))
            await says(made, lambda reading: reading.lag == 3000, 10)
        await until(db, "SELECT count(*) FROM trades", 3001)
        await says(made, lambda reading: reading.lag == 0, 10)
    await db.close()


async def test_the_lag_is_true_when_partitions_move_while_the_database_is_away(
    postgres_database: DatabaseForTest, apache_kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: set[Part] = set()
    commit = GroupConsumer.commit

    async def noted(consumer: GroupConsumer, offsets: Mapping[Part, int]) -> None:
        await commit(consumer, offsets)
        told.update(offsets)

    monkeypatch.setattr(GroupConsumer, "commit", noted)
    config = config_for(apache_kafka)
    db = await postgres_database.connect()
    records: list[Record] = [tick(number, symbol=f"S{number}/USDT") for number in range(200)]
    async with member(config, postgres_database.dsn) as made:
        await made.until_joined()
        other = Member(config, postgres_database.dsn)
        await other.until_joined()
        had = {part for part in made.assigned if part[0].endswith(".ticks")}
        assert 0 < len(had) < 3
        await says(made, lambda _: told >= had, 10)
        async with db.transaction():
            await db.execute("LOCK TABLE ingest_positions IN ACCESS EXCLUSIVE MODE")
            await publish(config, market_messages(config, "j", 1, records))
            await other.crash()
            await says(made, lambda reading: len(made.assigned) == 30 and not reading.partitions, 30)
            left = [r for r in records if partition_for(envelope.key(r), 3) in {number for _, number in had}]
            await says(made, lambda reading: len(left) <= reading.lag <= 200, 10)
        await until(db, "SELECT count(*) FROM market_ticks", 200)
    await db.close()


async def test_a_broker_that_comes_back_empty_is_read_again(postgres_database: DatabaseForTest) -> None:
    with running_broker("embedded") as broker:
        config = config_for(broker, partitions=1)
        db = await postgres_database.connect()
        async with member(config, postgres_database.dsn) as made:
            await made.until_joined()
            await publish(config, market_messages(config, "j", 1, [trade(1), trade(2)]))
            await until(db, "SELECT count(*) FROM trades", 2)
            broker.stop()
            broker.start()
            await publish(config, market_messages(config, "j", 2, [trade(3)]))
            await until(db, "SELECT count(*) FROM trades", 3, timeout_s=60)
            await says(made, is_well, 20)
        await db.close()


def delete(config: KafkaConfig, topics: list[str]) -> None:
    admin = AdminClient({"bootstrap.servers": config.bootstrap_servers[0]})
    for future in admin.delete_topics(topics, operation_timeout=20).values():
        future.result(20)


async def test_topics_that_were_deleted_are_made_again_and_read(
    postgres_database: DatabaseForTest, apache_kafka: Broker
) -> None:
    config = config_for(apache_kafka, partitions=1)
    db = await postgres_database.connect()
    async with member(config, postgres_database.dsn) as made:
        await made.until_joined()
        await publish(config, market_messages(config, "j", 1, [trade(1)]))
        await until(db, "SELECT count(*) FROM trades", 1)
        await asyncio.to_thread(delete, config, list(envelope.topics(config.topic_prefix)))
        async with asyncio.timeout(60):
            admin = AdminClient({"bootstrap.servers": config.bootstrap_servers[0]})
            topic = f"{config.topic_prefix}.market.trades"
            while topic not in (await asyncio.to_thread(admin.list_topics, timeout=5)).topics:
                await asyncio.sleep(0.2)
        without = config.model_copy(update={"create_topics": False})
        await publish(without, market_messages(config, "j", 2, [trade(2), trade(3)]))
        await until(db, "SELECT count(*) FROM trades", 3)
        await says(made, is_well, 10)
    await db.close()


async def test_a_topic_made_anew_is_read_from_its_start_also_when_it_has_outgrown_what_was_stored(
    postgres_database: DatabaseForTest, apache_kafka: Broker
) -> None:
    config = config_for(apache_kafka, partitions=1)
    topics = list(envelope.topics(config.topic_prefix))
    db = await postgres_database.connect()
    async with member(config, postgres_database.dsn) as made:
        await made.until_joined()
        await publish(config, market_messages(config, "j", 1, [trade(1), trade(2)]))
        await until(db, "SELECT count(*) FROM trades", 2)
    await asyncio.to_thread(delete, config, topics)
    async with asyncio.timeout(60):
        admin = AdminClient({"bootstrap.servers": config.bootstrap_servers[0]})
        while set(topics) & (await asyncio.to_thread(admin.list_topics, timeout=5)).topics.keys():
            await asyncio.sleep(0.2)
    await ensure_topics(config, "test", topics)
    await publish(config, market_messages(config, "j", 2, [trade(number) for number in range(3, 8)]))
    async with member(config, postgres_database.dsn):
        await until(db, "SELECT count(*) FROM trades", 7)
        await publish(config, market_messages(config, "j", 3, [trade(8)]))
        await until(db, "SELECT count(*) FROM trades", 8)
    await db.close()


async def test_a_missing_topic_is_named_and_holds_up_only_its_own_records(
    postgres_database: DatabaseForTest, apache_kafka: Broker
) -> None:
    config = config_for(apache_kafka, create_topics=False)
    topics = list(envelope.topics(config.topic_prefix))
    missing = f"{config.topic_prefix}.market.order_book"
    topics.remove(missing)
    await ensure_topics(config, "test", topics)
    db = await postgres_database.connect()
    async with member(config, postgres_database.dsn) as made:
        await publish(config, market_messages(config, "j", 1, [trade(1)]))
        await until(db, "SELECT count(*) FROM trades", 1)
        await says(made, lambda reading: missing in (reading.problem or ""), 10)
        assert made.reader.reading().joined
        await ensure_topics(config, "test", [missing])
        await says(made, is_well, 10)
    await db.close()
