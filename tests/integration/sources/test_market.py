"""From the market topics of a real broker into the tables: exactly once, whatever the messages and the group do."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from ingestd.clock import now_us
from ingestd.config.models import KafkaConfig
from ingestd.kafka import envelope
from ingestd.kafka.producer import Message
from ingestd.records import Candle, FeedGap, Liquidation, MarkPrice, Record, Rejected
from ingestd.storage.database import Database
from tests.support.brokers import Broker, config_for
from tests.support.group import Member, market_messages, member, publish, until
from tests.support.postgres import DatabaseForTest
from tests.support.records import NOW_US, book, tick, trade

# Any broker must carry what the first test asks for; how groups and offsets behave is asked of Apache Kafka.
TICKS = "SELECT count(*) FROM market_ticks"


@pytest.fixture
def apache_config(apache_kafka: Broker) -> KafkaConfig:
    """Topics of the test's own on Apache Kafka."""
    return config_for(apache_kafka)


def ticks(count: int, first: int = 1) -> list[Record]:
    """Ticks of many symbols, so that every partition has some."""
    return [tick(number, symbol=f"S{number % 20}/USDT") for number in range(first, first + count)]


@pytest.mark.one_server
async def test_every_kind_of_record_arrives(db: Database, database: DatabaseForTest, kafka_config: KafkaConfig) -> None:
    records: list[Record] = [
        trade(1, price="64000.10"),
        tick(2),
        book(3),
        Liquidation("binance", "BTC/USDT:USDT", NOW_US, NOW_US, "sell", "9910.50", "2"),
        MarkPrice("binance", "BTC/USDT:USDT", NOW_US, NOW_US, "11794.15000000", None),
        FeedGap("binance", "BTC/USDT", NOW_US, NOW_US, "trades", None, "disconnect"),
        Rejected("binance", "BTC/USDT", NOW_US, NOW_US, "trades", "price", '{"price":"-1"}'),
    ]
    async with member(kafka_config, database.dsn) as made:
        await publish(kafka_config, market_messages(kafka_config, "j", 1, records))
        await until(db, "SELECT count(*) FROM rejected_records", 1)
        for table in ("trades", "market_ticks", "order_book", "liquidations", "mark_prices", "feed_gaps"):
            await until(db, f"SELECT count(*) FROM {table}", 1)
        assert await db.fetchval("SELECT price::text FROM trades") == "64000.10"
        assert await db.fetchval("SELECT price::text FROM liquidations") == "9910.50"
    assert made.total("stored") == {
        **{"trades": 1, "ticks": 1, "order_book": 1, "liquidations": 1, "mark_prices": 1},
        **{"gaps": 1, "rejections": 1},
    }
    assert made.balance() == 0


async def test_a_replay_is_dropped_also_by_the_next_member(
    postgres_database: DatabaseForTest, apache_config: KafkaConfig
) -> None:
    db = await postgres_database.connect()
    first = market_messages(apache_config, "j", 1, ticks(60))
    async with member(apache_config, postgres_database.dsn):
        await publish(apache_config, first)
        await until(db, TICKS, 60)
    replay = [*first[20:], *market_messages(apache_config, "j", 2, ticks(10, 100))]
    async with member(apache_config, postgres_database.dsn) as second:
        await publish(apache_config, replay)
        await until(db, TICKS, 70)
    assert second.total("duplicate") == {"ticks": 40}
    assert second.balance() == 0
    await db.close()


async def test_poison_is_put_aside_with_its_place(
    postgres_database: DatabaseForTest, apache_config: KafkaConfig
) -> None:
    db = await postgres_database.connect()
    topic = f"{apache_config.topic_prefix}.market.trades"
    good = market_messages(apache_config, "j", 1, [trade(1)])
    key = good[0][1][1]
    wrong: list[bytes] = [b"", b"{", b"\xff\xfe", b"[1]", b'{"event_type":"TICK"}']
    negative = envelope.encode(trade(2)).replace(b"64000.10", b"-64000.10")
    poison: list[tuple[str, Message]] = [(topic, (0, key, value, [])) for value in [*wrong, negative]]
    headless: list[tuple[str, Message]] = [(topic, (0, key, envelope.encode(trade(3)), []))]
    async with member(apache_config, postgres_database.dsn) as made:
        await publish(apache_config, [*good, *poison, *headless])
        await until(db, "SELECT count(*) FROM rejected_records", 6)
        await until(db, "SELECT count(*) FROM trades", 2)
    rows = await db.fetch("SELECT table_name, reason, record::text AS record FROM rejected_records ORDER BY id")
    documents = [json.loads(row["record"]) for row in rows]
    assert [row["reason"] for row in rows] == ["poison"] * 5 + ["price"]
    assert {row["table_name"] for row in rows} == {"trades"}
    assert {document["topic"] for document in documents} == {topic}
    offsets = [document["offset"] for document in documents]
    assert offsets == list(range(offsets[0], offsets[0] + 6))
    assert documents[2]["value"] == "\\xff\\xfe"
    assert made.total("rejected") == {"trades": 6}
    assert made.balance() == 0
    await db.close()


async def test_a_header_without_a_value_costs_nothing(
    postgres_database: DatabaseForTest, apache_config: KafkaConfig
) -> None:
    db = await postgres_database.connect()
    [(topic, (at, key, value, _))] = market_messages(apache_config, "j", 1, [trade(1)])
    nothing: Any = None  # Kafka knows headers without a value
    async with member(apache_config, postgres_database.dsn) as made:
        await publish(apache_config, [(topic, (at, key, value, [(envelope.POSITION_HEADER, nothing)]))])
        await until(db, "SELECT count(*) FROM trades", 1)
    assert made.balance() == 0
    await db.close()


async def test_messages_that_are_all_refused_wait_for_others_of_their_table(
    postgres_database: DatabaseForTest, apache_config: KafkaConfig
) -> None:
    db = await postgres_database.connect()
    await db.execute("ALTER TABLE feed_gaps ADD CONSTRAINT known CHECK (exchange <> 'bad')")

    def gaps(exchange: str) -> list[Record]:
        return [FeedGap(exchange, symbol, NOW_US, NOW_US, "trades", None, "c") for symbol in "AB"]

    async with member(apache_config, postgres_database.dsn) as made:
        await publish(apache_config, market_messages(apache_config, "j", 1, gaps("bad")))
        async with asyncio.timeout(40):
            while not (made.reader.status().is_stuck or await db.fetchval("SELECT count(*) FROM rejected_records")):
                await asyncio.sleep(0.02)
        await publish(apache_config, market_messages(apache_config, "j", 2, gaps("good")))
        await until(db, "SELECT count(*) FROM feed_gaps", 2)
        await until(db, "SELECT count(*) FROM rejected_records", 2)
    assert made.total("rejected") == {"gaps": 2}
    assert made.balance() == 0
    await db.close()


async def test_a_row_that_the_server_refuses_names_its_place(
    postgres_database: DatabaseForTest, apache_config: KafkaConfig
) -> None:
    db = await postgres_database.connect()
    await db.execute("ALTER TABLE ohlcv_data ADD CONSTRAINT few CHECK (trades_count < 100)")

    def candle(number: int, trades_count: int) -> Candle:
        opened_at = NOW_US + number * 60_000_000
        return Candle("binance", "BTC/USDT", opened_at, NOW_US, "1m", "1", "2", "1", "1", "5", None, trades_count)

    candles: list[Record] = [candle(1, 5), candle(2, 100), candle(3, 7)]
    async with member(apache_config, postgres_database.dsn) as made:
        await publish(apache_config, market_messages(apache_config, "j", 1, candles))
        await until(db, "SELECT count(*) FROM ohlcv_data", 2)
    row = await db.fetchrow("SELECT reason, sqlstate, error FROM rejected_records")
    assert row is not None
    assert (row["reason"], row["sqlstate"]) == ("server", "23514")
    assert f"{apache_config.topic_prefix}.market.candles, partition" in row["error"]
    assert row["error"].endswith("offset 1)")
    assert made.balance() == 0
    await db.close()


async def test_members_share_the_partitions_and_take_over(
    postgres_database: DatabaseForTest, apache_config: KafkaConfig
) -> None:
    config = apache_config.model_copy(update={"session_timeout_s": 2.0})
    db = await postgres_database.connect()
    await publish(config, market_messages(config, "j", 1, ticks(50)))
    first = Member(config, postgres_database.dsn)
    await until(db, TICKS, 50)
    second = Member(config, postgres_database.dsn)
    await second.until_joined()
    for position in range(2, 30):
        await publish(config, market_messages(config, "j", position, ticks(100, position * 1000)))
        if position == 12:
            await first.crash()
        if position == 20:
            first = Member(config, postgres_database.dsn)
    await until(db, TICKS, 50 + 28 * 100)
    await asyncio.sleep(0.3)
    assert await db.fetchval(TICKS) == 50 + 28 * 100
    await first.leave()
    await second.leave()
    assert first.balance() == second.balance() == 0
    await db.close()


async def test_an_outage_of_the_database_only_delays(
    postgres_database: DatabaseForTest, apache_config: KafkaConfig
) -> None:
    db = await postgres_database.connect()
    async with member(apache_config, postgres_database.dsn) as made:
        await made.until_joined()
        for position in range(1, 12):
            await publish(apache_config, market_messages(apache_config, "j", position, ticks(50, position * 100)))
            await db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'ingestd member' AND datname = current_database()"
            )
        await until(db, TICKS, 550)
    assert await db.fetchval(TICKS) == 550
    assert made.balance() == 0
    await db.close()


async def test_what_retention_took_is_counted(postgres_database: DatabaseForTest, apache_config: KafkaConfig) -> None:
    db = await postgres_database.connect()
    prefix, now = apache_config.topic_prefix, now_us()
    await publish(apache_config, market_messages(apache_config, "j", 1, [trade(1)]))
    # As if the topic had been deleted and made anew after a longer life: the row is ahead of its end.
    for number in range(3):
        await db.execute(
            "INSERT INTO ingest_positions (source, position, epoch) VALUES ($1, $2, 4)",
            f"kafka:{prefix}:{prefix}.market.trades:{number}",
            now,
        )
    async with member(apache_config, postgres_database.dsn) as made:
        await until(db, "SELECT count(*) FROM trades", 1)
    assert made.balance() == 0
    await db.close()
