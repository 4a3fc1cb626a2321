"""How fast one, two and three sinks empty the same topics: `python -m benchmarks.sinks [records]`.

The broker, the database server and the sinks share the machine, so the gain ends where its cores do.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from ingestd.clock import now_us
from ingestd.config.models import KafkaConfig
from ingestd.kafka.producer import Message, Producer, partition_for
from ingestd.storage.database import Database
from tests.support.brokers import config_for, running_broker
from tests.support.daemon import running, write_config
from tests.support.group import market_messages
from tests.support.postgres import DatabaseForTest, running_server, temporary_database
from tests.support.records import trade

BATCH = 5000


async def fill(config: KafkaConfig, records: int) -> None:
    """Publish so many trades of 60 symbols."""
    topic = f"{config.topic_prefix}.market.trades"
    producer = await Producer.connect(config, "bench", [topic])
    partitions = await producer.partitions(topic)
    for position, start in enumerate(range(0, records, BATCH), 1):
        chains: dict[int, list[Message]] = {}
        now = now_us()
        batch = [
            trade(number, symbol=f"S{number % 60}/USDT", time=now, received_at=now)
            for number in range(start, start + BATCH)
        ]
        for _, message in market_messages(config, "bench", position, list(batch)):
            chains.setdefault(partition_for(message[1], partitions), []).append(message)
        for partition, messages in chains.items():
            left = messages
            while left:
                left = left[await producer.send(topic, partition, left) :]
    await producer.close()


async def empty(config: KafkaConfig, database: DatabaseForTest, sinks: int, records: int) -> tuple[float, float]:
    """Seconds from the first stored row to the last, and rows a second over them."""
    db = await Database.connect(database.dsn)
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            for number in range(sinks):
                place = Path(folder) / str(number)
                place.mkdir()
                document = {
                    "instance": {"name": f"bench-{number}", "role": "sink"},
                    "database": {"dsn": database.dsn},
                    "kafka": {
                        "bootstrap_servers": config.bootstrap_servers,
                        "topic_prefix": config.topic_prefix,
                        "group_id": config.topic_prefix,
                    },
                }
                await stack.enter_async_context(running(write_config(place, document)))
            begun_s, first = 0.0, 0
            while (stored := await db.fetchval("SELECT count(*) FROM trades")) < records:
                # Every sink is at work a second after the first row; the start of the processes is not measured.
                if not begun_s and stored:
                    await asyncio.sleep(1.0)
                    begun_s, first = time.monotonic(), await db.fetchval("SELECT count(*) FROM trades")
                await asyncio.sleep(0.05)
            took_s = time.monotonic() - begun_s
    await db.close()
    return took_s, (records - first) / took_s


def main(records: int) -> None:
    """Print a table."""
    print(f"{records} trades, 6 partitions\n\n| sinks | s | rows/s |\n|---|---|---|")
    with running_broker("apache-kafka") as broker, running_server("postgres") as server:
        for sinks in (1, 2, 3):
            config = config_for(broker, partitions=6)
            asyncio.run(fill(config, records))
            with temporary_database(server) as database:
                took_s, rate = asyncio.run(empty(config, database, sinks, records))
            print(f"| {sinks} | {took_s:.1f} | {rate:,.0f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400_000)
