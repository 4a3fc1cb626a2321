"""Three sinks share a group while one is frozen past its session timeout and one is killed, again and again.

The sinks are real processes, the broker and the database real servers. `make fault` runs it for two minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from ingestd.clock import now_us
from ingestd.config.models import KafkaConfig
from ingestd.kafka.producer import Message, Producer, partition_for
from ingestd.records import Record, Tick
from tests.support.brokers import Broker, config_for
from tests.support.daemon import Daemon, running, write_config
from tests.support.group import market_messages, until
from tests.support.postgres import DatabaseForTest
from tests.support.records import tick, trade
from tests.support.time_limits import within

SECONDS = float(os.environ.get("INGESTD_FAULT_SECONDS", "25"))
SESSION_TIMEOUT_S = 2.0
PER_BATCH, EVERY_S = 250, 0.1  # 2,500 a second
SYMBOLS = 40


class Publisher:
    """A feed: batches of a journal to the topics, at a steady rate."""

    def __init__(self, config: KafkaConfig) -> None:
        self.config = config
        self.records: list[Record] = []
        self.task = asyncio.create_task(self._run())
        self._stop = asyncio.Event()
        self.took_s = 0.0

    async def stop(self) -> None:
        self._stop.set()
        await self.task

    async def _run(self) -> None:
        topics = [f"{self.config.topic_prefix}.market.{kind}" for kind in ("ticks", "trades")]
        producer = await Producer.connect(self.config, "test feed", topics)
        partitions = {topic: await producer.partitions(topic) for topic in topics}
        started_s = time.monotonic()
        position = 0
        while not self._stop.is_set():
            position += 1
            batch = [self._record(position * PER_BATCH + number) for number in range(PER_BATCH)]
            chains: dict[tuple[str, int], list[Message]] = {}
            for topic, message in market_messages(self.config, "feed", position, batch):
                chains.setdefault((topic, partition_for(message[1], partitions[topic])), []).append(message)
            await asyncio.gather(*(self._send(producer, *place, left) for place, left in chains.items()))
            self.records += batch
            await asyncio.sleep(max(0.0, started_s + position * EVERY_S - time.monotonic()))
        self.took_s = time.monotonic() - started_s
        await producer.close()

    async def _send(self, producer: Producer, topic: str, partition: int, left: list[Message]) -> None:
        while left:
            left = left[await producer.send(topic, partition, left) :]

    def _record(self, number: int) -> Record:
        now, symbol = now_us(), f"S{number % SYMBOLS}/USDT"
        if number % 2:
            return trade(number, symbol=symbol, time=now, received_at=now)
        return tick(number, symbol=symbol, time=number + now // 10**6 * 10**6, received_at=now, bid_volume=str(number))


class Sink:
    """One process, which may be replaced."""

    def __init__(self, config_file: Path) -> None:
        self.config_file = config_file
        self.stack = AsyncExitStack()
        self.daemon: Daemon | None = None

    async def start(self) -> None:
        self.daemon = await self.stack.enter_async_context(running(self.config_file))

    async def kill(self) -> None:
        assert self.daemon is not None
        self.daemon.signal(signal.SIGKILL)
        await self.daemon.ended()

    async def freeze(self, seconds: float) -> None:
        assert self.daemon is not None
        self.daemon.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.daemon.signal(signal.SIGCONT)


async def havoc(sinks: list[Sink], seconds: float, draw: random.Random) -> Counter[str]:
    """At every moment one sink is frozen past its session timeout; meanwhile another is killed and started again."""
    done: Counter[str] = Counter()
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        frozen, killed = draw.sample(sinks, 2)
        freezing = asyncio.create_task(frozen.freeze(SESSION_TIMEOUT_S + draw.uniform(0.5, 2.5)))
        await asyncio.sleep(draw.uniform(0.2, 2.0))
        await killed.kill()
        await asyncio.sleep(draw.uniform(0.0, 0.5))
        await killed.start()
        await freezing
        done.update(("freezes", "kills"))
        await asyncio.sleep(draw.uniform(0.0, 2.0))
    return done


def configuration(database: DatabaseForTest, kafka: KafkaConfig, number: int) -> dict[str, Any]:
    return {
        "instance": {"name": f"sink-{number}", "role": "sink"},
        "database": {"dsn": database.dsn, "flush_ms": 50, "lock_timeout_s": 1.0, "flush_timeout_s": 3.0},
        "kafka": {
            "bootstrap_servers": kafka.bootstrap_servers,
            "topic_prefix": kafka.topic_prefix,
            "group_id": kafka.topic_prefix,
            "session_timeout_s": SESSION_TIMEOUT_S,
        },
        "retention": {"trades_days": 0, "market_ticks_days": 0},
    }


@pytest.mark.campaign
@pytest.mark.timeout(SECONDS + 300)
async def test_three_sinks_store_every_message_once(
    postgres_database: DatabaseForTest, apache_kafka: Broker, tmp_path: Path
) -> None:
    kafka = config_for(apache_kafka, partitions=6)
    draw = random.Random(seed := random.randrange(10**9))
    db = await postgres_database.connect()
    sinks: list[Sink] = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        sinks.append(Sink(write_config(folder, configuration(postgres_database, kafka, number))))
    async with AsyncExitStack() as stack:
        for sink in sinks:
            await sink.start()
            stack.push_async_callback(sink.stack.aclose)
        await asyncio.sleep(2)
        publisher = Publisher(kafka)
        try:
            done = await havoc(sinks, SECONDS, draw)
        finally:
            await publisher.stop()
        stopped_s = time.monotonic()
        ticks = sum(isinstance(record, Tick) for record in publisher.records)
        trades = len(publisher.records) - ticks
        await until(db, "SELECT count(*) >= $n FROM market_ticks".replace("$n", str(ticks)), True, 60)
        await until(db, "SELECT count(*) >= $n FROM trades".replace("$n", str(trades)), True, 60)
        caught_up_s = time.monotonic() - stopped_s
        await asyncio.sleep(SESSION_TIMEOUT_S)  # a frozen one may still have something to say
        codes = [await sink.daemon.stop() for sink in sinks if sink.daemon is not None]
    rows = await db.fetch("SELECT symbol, bid_volume::text FROM market_ticks")
    stored = Counter((row["symbol"], row["bid_volume"]) for row in rows)
    published = Counter((record.symbol, record.bid_volume) for record in publisher.records if isinstance(record, Tick))
    rate = len(publisher.records) / publisher.took_s
    print(
        f"\nseed {seed}: {len(publisher.records)} records at {rate:.0f}/s, {dict(done)}, "
        f"caught up in {caught_up_s:.1f} s"
    )
    assert within(publisher.took_s, len(publisher.records) / 2_000), "the load is not what the campaign promises"
    assert stored == published, f"seed {seed}"
    assert await db.fetchval("SELECT count(*) FROM trades") == trades
    assert await db.fetchval("SELECT count(*) FROM rejected_records") == 0
    assert codes == [0, 0, 0], [sink.daemon.log()[-3000:] for sink in sinks if sink.daemon is not None]
    await db.close()
    for sink in sinks:
        assert sink.daemon is not None
        assert_balanced(sink.daemon.counts())
    fenced = sum(sink.config_file.with_name("daemon.log").read_text().count("partition_taken_over") for sink in sinks)
    print(f"partitions found taken over by another member: {fenced}")


def assert_balanced(counts: dict[str, dict[str, int]]) -> None:
    """The conservation law, over all channels, of a process's whole life."""
    went = ("stored", "duplicate", "rejected", "dropped", "released", "in_journal")
    assert sum(counts["received"].values()) == sum(sum(counts[name].values()) for name in went), counts
