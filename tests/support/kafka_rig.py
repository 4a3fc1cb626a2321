"""A journal and the Kafka sink on a broker, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from ingestd.config.models import JournalConfig, KafkaConfig
from ingestd.journal.journal import Journal
from ingestd.kafka.producer import Producer
from ingestd.ops.metrics import Metrics
from ingestd.records import Record
from ingestd.sinks.kafka.sink import KafkaSink

Connect = Callable[[list[str]], Awaitable[Producer]]


class KafkaRig:
    """One process's life of the durable part."""

    def __init__(
        self,
        state_dir: Path,
        config: KafkaConfig,
        connect: Connect | None = None,
        *,
        keep_rejected: bool = False,
        journal: JournalConfig | None = None,
    ) -> None:
        self.metrics = Metrics()
        self.config = config
        self.journal = Journal(state_dir, journal or JournalConfig(), self.metrics)
        self.journal.open()
        self.cursor = self.journal.cursor("kafka")
        self.sink = KafkaSink(
            cursor=self.cursor,
            journal_ids=lambda: self.journal.journal_ids,
            connect=connect or (lambda topics: Producer.connect(config, "test", topics)),
            config=config,
            state_dir=state_dir,
            metrics=self.metrics,
            keep_rejected=keep_rejected,
        )
        self.task = asyncio.create_task(self.sink.run())

    def total(self, name: str) -> dict[str, int]:
        return {channel: count for channel, count in self.metrics.totals(getattr(self.metrics, name)).items() if count}

    async def stored(self, records: int, timeout_s: float = 120) -> None:
        """Wait until so many records are acknowledged: a sink that finishes waits a few seconds only."""
        async with asyncio.timeout(timeout_s):
            while sum(self.total("stored").values()) < records:
                await asyncio.sleep(0.02)

    async def drain(self, timeout_s: float = 60) -> None:
        """The orderly end: everything is sent."""
        self.sink.finish()
        await asyncio.wait_for(self.task, timeout_s)
        self.journal.close()

    async def crash(self) -> None:
        """The sink is cut at whatever it awaits; what it had not yet written down is forgotten."""
        self.task.cancel()
        await asyncio.wait({self.task})
        self.journal.close()


@asynccontextmanager
async def kafka_rig(
    state_dir: Path, config: KafkaConfig, connect: Connect | None = None, *, keep_rejected: bool = False
) -> AsyncIterator[KafkaRig]:
    """Runs the sink; leaving the block drains it."""
    made = KafkaRig(state_dir, config, connect, keep_rejected=keep_rejected)
    try:
        yield made
        await made.drain()
    finally:
        if not made.task.done():
            await made.crash()


async def send(state_dir: Path, config: KafkaConfig, *batches: list[Record]) -> KafkaRig:
    """Journal these batches and send them."""
    async with kafka_rig(state_dir, config) as made:
        for records in batches:
            await made.journal.append(records)
    return made
