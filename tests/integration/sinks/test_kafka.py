"""The Kafka sink against real brokers: complete and in order within a symbol, whatever the broker does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
import structlog.testing
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from ingestd.config.models import KafkaConfig
from ingestd.errors import ConnectionLost, KafkaError, ProducerFenced
from ingestd.kafka import envelope
from ingestd.kafka.connecting import ensure_topics
from ingestd.kafka.producer import Message, Producer, partition_for
from ingestd.records import Candle, FeedGap, Funding, Liquidation, MarkPrice, OpenInterest, Record, Rejected
from tests.support.brokers import BROKERS, Broker, config_for, frozen, running_broker
from tests.support.kafka_rig import KafkaRig, kafka_rig, send
from tests.support.records import NOW_US, book, tick, trade
from tests.support.time_limits import limit_s, within
from tests.support.topics import Place, Read, read_everything, topic_of, without_replays

SYMBOLS = [f"S{number}/USDT" for number in range(7)]


async def everything(config: KafkaConfig) -> dict[Place, list[Read]]:
    return await asyncio.to_thread(read_everything, config.bootstrap_servers[0], config.topic_prefix)


def records_of(found: dict[Place, list[Read]], prefix: str) -> list[Record]:
    return [message.record(prefix) for messages in found.values() for message in messages]


def in_order(found: dict[Place, list[Read]], journaled: list[Record], config: KafkaConfig) -> None:
    """Each partition, without replays, holds exactly what was journaled for it, in order."""
    expected: dict[Place, list[Record]] = {place: [] for place in found}
    for record in journaled:
        place = (
            topic_of(config.topic_prefix, record),
            partition_for(envelope.key(record), config.partitions),
        )
        expected[place].append(record)
    for place, messages in found.items():
        assert [message.record(config.topic_prefix) for message in without_replays(messages)] == expected[place], place


async def test_every_record_arrives_as_documented(kafka_config: KafkaConfig, tmp_path: Path) -> None:
    records: list[Record] = [
        trade(1),
        tick(2),
        book(3),
        OpenInterest("binance", "BTC/USDT:USDT", NOW_US, NOW_US + 1, "12.50", None, "-0.10"),
        Funding("binance", "BTC/USDT:USDT", NOW_US, NOW_US + 1, "-0.00010000", NOW_US + 28_800_000_000),
        Candle("binance", "BTC/USDT", NOW_US, NOW_US, "1m", "1.0", "2.0", "0.5", "1.50", "10", None, 7),
        Liquidation("binance", "BTC/USDT:USDT", NOW_US, NOW_US + 1, "sell", "1.50", "0.10", None),
        MarkPrice("bybit", "BTC/USDT:USDT", NOW_US, NOW_US + 1, "1.50", "1.51"),
        FeedGap("binance", "BTC/USDT", NOW_US, NOW_US, "trades", None, "disconnect", "1006"),
        Rejected("binance", "BTC/USDT", -5, NOW_US, "trades", "price", '{"price": "NaN"}'),
    ]
    made = await send(tmp_path, kafka_config, records)
    found = await everything(kafka_config)
    by_topic = {message.topic: message for messages in found.values() for message in messages}
    assert set(by_topic) == set(envelope.topics(kafka_config.topic_prefix))
    for index, record in enumerate(records):
        message = by_topic[topic_of(kafka_config.topic_prefix, record)]
        assert message.record(kafka_config.topic_prefix) == record
        assert message.key == f"{record.exchange}:{record.symbol}".encode()
        assert message.position == (made.journal.journal_id, 1, index)
        assert message.headers == {
            "ingestd-position": f"{made.journal.journal_id}:1:{index}".encode(),
            "ingestd-version": b"2",
        }
        assert message.timestamp_ms == record.received_at // 1000
        assert message.partition == partition_for(message.key, 3)
    document = json.loads(by_topic[f"{kafka_config.topic_prefix}.market.trades"].value)
    assert (document["event_type"], document["data"]["price"]) == ("TRADE", "64000.10")
    assert made.total("stored") == {
        "trades": 1, "ticks": 1, "order_book": 1, "open_interest": 1, "funding": 1, "candles": 1,
        "liquidations": 1, "mark_prices": 1, "gaps": 1, "rejections": 1,
    }  # fmt: skip


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_order_is_kept_within_each_symbol(kafka: Broker, tmp_path: Path, compression: str) -> None:
    config = config_for(kafka, compression=compression, max_batch_bytes=20_000, delivery_timeout_s=60)
    journaled: list[Record] = [trade(number, symbol=SYMBOLS[number % 7]) for number in range(6000)]
    async with kafka_rig(tmp_path, config) as made:
        for start in range(0, 6000, 250):
            await made.journal.append(journaled[start : start + 250])
        await made.stored(6000)
    found = await everything(config)
    assert len(records_of(found, config.topic_prefix)) == 6000
    in_order(found, journaled, config)
    assert made.total("stored") == {"trades": 6000}
    assert made.journal.size_bytes == 0 or made.total("stored") == made.total("journaled")


async def test_topics_are_made_as_configured(kafka: Broker, tmp_path: Path) -> None:
    config = config_for(kafka, partitions=5, retention_hours=3)
    names = list(envelope.topics(config.topic_prefix))
    await ensure_topics(config, "test", names)
    await ensure_topics(config_for(kafka, topic_prefix=config.topic_prefix, partitions=9), "test", names)
    producer = await Producer.connect(config, "test", names)
    assert {await producer.partitions(name) for name in names} == {5}
    await producer.close()


async def test_a_topic_that_cannot_be_made_says_why(apache_kafka: Broker) -> None:
    config = config_for(apache_kafka, replication=3)
    with pytest.raises(KafkaError, match="cannot be created") as caught:
        await ensure_topics(config, "test", ["some.topic"])
    assert caught.value.name == "InvalidReplicationFactorError"


async def test_a_missing_topic_is_named_when_it_is_needed(apache_kafka: Broker, tmp_path: Path) -> None:
    config = config_for(apache_kafka, create_topics=False)
    trades, ticks = (f"{config.topic_prefix}.market.{kind}" for kind in ("trades", "ticks"))
    await ensure_topics(config, "test", [trades])
    async with kafka_rig(tmp_path, config) as made:
        await made.journal.append([trade(1)])
        await until(lambda: made.total("stored") == {"trades": 1}, 10)
        await made.journal.append([tick(2)])
        await until(lambda: made.sink.status().attempts_failed > 0, 10)
        assert f"the topic {ticks} does not exist; create it" in (made.sink.status().problem or "")
        await ensure_topics(config, "test", [ticks])
        await until(lambda: made.total("stored") == {"trades": 1, "ticks": 1}, 10)
    in_order(await everything(config), [trade(1), tick(2)], config)


async def test_a_restart_sends_what_was_left_and_nothing_twice(kafka_config: KafkaConfig, tmp_path: Path) -> None:
    first: list[Record] = [tick(number) for number in range(10)]
    left: list[Record] = [tick(number) for number in range(10, 20)]
    made = KafkaRig(tmp_path, kafka_config)
    # Another sink is behind: the files stay, so only the cursor file knows what was sent.
    made.journal.cursor("slow")
    await made.journal.append(first)
    await made.drain()
    assert made.journal.journal_ids
    for records in (left, []):
        process = KafkaRig(tmp_path, kafka_config, journal=None)
        process.journal.cursor("slow")
        if records:
            await process.journal.append(records)
        await process.drain()
    found = await everything(kafka_config)
    sent = [message for messages in found.values() for message in messages]
    assert [message.record(kafka_config.topic_prefix) for message in sent] == [*first, *left]
    assert process.total("stored") == {}
    assert process.total("recovered") == {}


async def test_what_a_crash_repeats_is_dropped_by_its_position(kafka_config: KafkaConfig, tmp_path: Path) -> None:
    journaled: list[Record] = [trade(number, symbol=SYMBOLS[number % 7]) for number in range(700)]
    made = KafkaRig(tmp_path, kafka_config)
    made.journal.cursor("slow")
    for start in range(0, 700, 70):
        await made.journal.append(journaled[start : start + 70])
    await made.drain()
    (tmp_path / "kafka.cursor").unlink()  # as after a host crash that took it back
    again = await send(tmp_path, kafka_config)
    assert again.total("stored") == {"trades": 700}
    found = await everything(kafka_config)
    assert len(records_of(found, kafka_config.topic_prefix)) == 1400
    in_order(found, journaled, kafka_config)


async def test_a_damaged_cursor_file_costs_a_replay_and_nothing_else(kafka_config: KafkaConfig, tmp_path: Path) -> None:
    (tmp_path / "kafka.cursor").write_bytes(b'{"version":1,"posi')
    made = await send(tmp_path, kafka_config, [trade(1)])
    assert made.total("stored") == {"trades": 1}
    assert json.loads((tmp_path / "kafka.cursor").read_bytes())["version"] == 1


@pytest.mark.parametrize("keep_rejected", [False, True])
async def test_a_message_too_large_costs_no_other(kafka: Broker, tmp_path: Path, keep_rejected: bool) -> None:
    config = config_for(kafka, max_message_bytes=20_000)
    levels = tuple((f"{number}.123456", "1.5") for number in range(2000))
    journaled: list[Record] = [trade(number) for number in range(50)]
    async with kafka_rig(tmp_path, config, keep_rejected=keep_rejected) as made:
        await made.journal.append([*journaled[:25], book(1, bids=levels), book(2), *journaled[25:]])
    found = await everything(config)
    kept = records_of(found, config.topic_prefix)
    assert [record for record in kept if type(record) is not Rejected] == [book(2), *journaled] or set(
        map(type, kept)
    ) >= {type(book(2)), type(trade(1))}
    assert len([record for record in kept if type(record) is not Rejected]) == 51
    notes = [record for record in kept if isinstance(record, Rejected)]
    assert [(note.table, note.reason, note.time) for note in notes] == (
        [("order_book", "kafka_too_large", book(1).time)] if keep_rejected else []
    )
    assert made.total("stored") == {"trades": 50, "order_book": 1}
    assert made.total("rejected") == {"order_book": 1}


async def test_a_message_the_broker_finds_too_large_is_found_and_put_aside(
    apache_kafka: Broker, tmp_path: Path
) -> None:
    """The topic's own limit is lower than ours: only the broker's answer tells, and it refuses the whole batch."""
    config = config_for(apache_kafka, compression="none")
    await make_topics_for_small_messages(config)
    levels = tuple((f"{number}.123456", "1.5") for number in range(2000))
    journaled: list[Record] = [book(number, bids=levels if number == 77 else ()) for number in range(200)]
    async with kafka_rig(tmp_path, config) as made:
        await made.journal.append(journaled)
    found = await everything(config)
    in_order(found, [record for record in journaled if record != journaled[77]], config)
    assert made.total("stored") == {"order_book": 199}
    assert made.total("rejected") == {"order_book": 1}


async def test_a_topic_that_refuses_everything_holds_up_nothing(apache_kafka: Broker, tmp_path: Path) -> None:
    """Its limit is learnt: a new producer for every message would be slower than the messages come."""
    config = config_for(apache_kafka)
    await make_topics_for_small_messages(config, 150)
    connects = 0

    async def connect(topics: list[str]) -> Producer:
        nonlocal connects
        connects += 1
        return await Producer.connect(config, "test", topics)

    with structlog.testing.capture_logs() as logs:
        made = KafkaRig(tmp_path, config, connect)
        for number in range(20):
            await made.journal.append([trade(number * 100 + index) for index in range(100)])
        await until(lambda: made.total("rejected") == {"trades": 2000}, 20)
        assert "too large for the topic" in (made.sink.status().problem or "")
        assert made.sink.status().up
        await made.drain()
    assert connects < 40
    assert len([line for line in logs if line["event"] == "message_too_large"]) == 1
    assert made.total("stored") == {}


async def make_topics_for_small_messages(config: KafkaConfig, largest_bytes: int = 20000) -> None:
    admin = AdminClient({"bootstrap.servers": config.bootstrap_servers[0]})
    settings = {"max.message.bytes": str(largest_bytes)}
    wanted = [NewTopic(name, config.partitions, 1, config=settings) for name in envelope.topics(config.topic_prefix)]
    for future in admin.create_topics(wanted).values():
        await asyncio.to_thread(future.result, 10)


class Failing(Producer):
    """Answers some sends with an error, before or after the broker has the batch."""

    errors: ClassVar[list[Exception]]
    made: ClassVar[int]
    after: ClassVar[bool]

    async def send(self, topic: str, partition: int, messages: Sequence[Message]) -> int:
        if type(self).errors and not type(self).after:
            raise type(self).errors.pop()
        count = await super().send(topic, partition, messages)
        if type(self).errors:
            raise type(self).errors.pop()
        return count


@pytest.mark.parametrize("after", [False, True], ids=["not sent", "sent, reply lost"])
@pytest.mark.parametrize(
    "error",
    [
        ProducerFenced("out of order", name="OutOfOrderSequenceNumber", retriable=True),
        ConnectionLost("gone"),
        KafkaError("odd", name="UnknownError", retriable=False),
        OSError("odder"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_after_an_error_a_new_producer_sends_again_from_there(
    kafka_config: KafkaConfig, tmp_path: Path, error: Exception, after: bool
) -> None:
    class Mine(Failing):
        pass

    Mine.errors, Mine.after, Mine.made = [error, error], after, 0

    async def connect(topics: list[str]) -> Producer:
        Mine.made += 1
        return await Mine.connect(kafka_config, "test", topics)

    journaled: list[Record] = [trade(number, symbol=SYMBOLS[number % 7]) for number in range(500)]
    async with kafka_rig(tmp_path, kafka_config, connect) as made:
        for start in range(0, 500, 100):
            await made.journal.append(journaled[start : start + 100])
        await until(lambda: not Mine.errors)
        await until(lambda: made.total("stored") == {"trades": 500}, 60)
    in_order(await everything(kafka_config), journaled, kafka_config)
    assert Mine.made >= 2
    assert made.total("stored") == {"trades": 500}
    errors = made.metrics.totals(made.metrics.sink_errors, "class")
    assert sum(errors.values()) >= 1


@pytest.mark.parametrize("kind", ["apache-kafka"])
async def test_killed_and_started_again_under_load_nothing_is_lost(kind: str, tmp_path: Path) -> None:
    """The broker is killed twice; the journal takes what comes meanwhile."""
    with running_broker(kind) as broker:
        config = config_for(broker, request_timeout_s=2)
        journaled: list[Record] = []
        async with kafka_rig(tmp_path, config) as made:
            for round_number in range(2):
                for _ in range(20):
                    await more(made, journaled, 100)
                await asyncio.to_thread(broker.stop)
                for _ in range(20):
                    await more(made, journaled, 100)
                await until(lambda: not made.sink.status().up, 20)
                await asyncio.to_thread(broker.start)
                for _ in range(10):
                    await more(made, journaled, 100)
                if round_number == 0:
                    await until(lambda: made.sink.status().up, 30)
            await until(lambda: made.sink.status().up, 30)
        in_order(await everything(config), journaled, config)
        assert made.total("stored") == {"trades": len(journaled)}


@pytest.mark.parametrize("kind", BROKERS)
async def test_frozen_for_a_while_nothing_is_lost_or_doubled(kind: str, tmp_path: Path) -> None:
    """SIGSTOP: the connections stay open and nobody answers."""
    with running_broker(kind) as broker:
        config = config_for(broker)
        journaled: list[Record] = []
        async with kafka_rig(tmp_path, config) as made:
            await more(made, journaled, 100)
            await until(lambda: made.total("stored") == {"trades": 100})
            with frozen(broker):
                for _ in range(30):
                    await more(made, journaled, 100)
                    await asyncio.sleep(0.05)
                assert made.cursor.pending_records > 2000
        found = await everything(config)
        in_order(found, journaled, config)
        assert len(records_of(found, config.topic_prefix)) == len(journaled), "an outage this short repeats nothing"


async def test_topics_that_are_gone_are_made_again(apache_kafka: Broker, tmp_path: Path) -> None:
    """Deleted, or a broker that came back without its disk: what was not acknowledged then stands in the new ones."""
    config = config_for(apache_kafka, delivery_timeout_s=2, request_timeout_s=2)
    async with kafka_rig(tmp_path, config) as made:
        await made.journal.append([trade(1)])
        await until(lambda: made.total("stored") == {"trades": 1})
        admin = AdminClient({"bootstrap.servers": config.bootstrap_servers[0]})
        for future in admin.delete_topics(list(envelope.topics(config.topic_prefix)), operation_timeout=20).values():
            await asyncio.to_thread(future.result, 20)
        await asyncio.sleep(1)  # what a broker still takes for a topic that it is about to delete is gone with it
        await made.journal.append([trade(2)])
        await until(lambda: made.total("stored") == {"trades": 2}, 40)
    assert records_of(await everything(config), config.topic_prefix) == [trade(2)]


async def test_a_stop_while_the_broker_is_frozen_leaves_the_rest_in_the_journal(tmp_path: Path) -> None:
    with running_broker("embedded") as broker:
        config = config_for(broker)
        made = KafkaRig(tmp_path, config)
        await made.journal.append([trade(1)])
        await until(lambda: made.total("stored") == {"trades": 1})
        with frozen(broker):
            await made.journal.append([trade(2)])
            await asyncio.sleep(0.2)
            made.sink.finish()
            await asyncio.wait_for(made.task, limit_s(12))
            assert made.cursor.pending_records == 1
        made.journal.close()
        await send(tmp_path, config, [trade(3)])
        in_order(await everything(config), [trade(1), trade(2), trade(3)], config)


async def test_a_frozen_broker_is_told_of_after_five_seconds(tmp_path: Path) -> None:
    with running_broker("embedded") as broker:
        made = KafkaRig(tmp_path, config_for(broker))
        await made.journal.append([trade(1)])
        await until(lambda: made.total("stored") == {"trades": 1})
        with frozen(broker):
            await made.journal.append([trade(2)])
            started_s = time.monotonic()
            await until(lambda: not made.sink.status().up, 12)
            told_s = time.monotonic() - started_s
            assert told_s > 4
            assert within(told_s, 8)
        await made.drain()


async def test_nobody_listens(tmp_path: Path) -> None:
    config = KafkaConfig(bootstrap_servers=["127.0.0.1:1"], request_timeout_s=1)
    made = KafkaRig(tmp_path, config)
    await made.journal.append([trade(1)])
    await until(lambda: made.sink.status().attempts_failed > 0)
    assert "127.0.0.1:1 refuses the connection" in (made.sink.status().problem or "")
    made.sink.finish()
    await asyncio.wait_for(made.task, limit_s(10))
    made.journal.close()
    assert made.total("stored") == {}


async def more(made: KafkaRig, journaled: list[Record], count: int) -> None:
    """Journal some trades; remember them."""
    start = len(journaled)
    records: list[Record] = [trade(start + number, symbol=SYMBOLS[number % 7]) for number in range(count)]
    journaled += records
    await made.journal.append(records)


async def until(true: Callable[[], object], timeout_s: float = 60) -> None:
    """Wait for something that comes to be true by itself."""
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.02)
