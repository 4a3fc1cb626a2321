"""Measures how fast the Kafka sink empties a journal, and how fast it catches up under live load."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from pathlib import Path

from ingestd.clock import monotonic_s
from ingestd.config.models import JournalConfig, KafkaConfig
from ingestd.journal.journal import Journal
from ingestd.kafka.producer import Producer
from ingestd.lab.bench import rig
from ingestd.lab.bench.figures import Figures
from ingestd.lab.bench.rig import Plan
from ingestd.lab.bench.sample import portions, trades
from ingestd.ops.metrics import Metrics
from ingestd.records import Record
from ingestd.sinks.kafka.sink import KafkaSink

_BATCH_RECORDS = 2000
_LIVE_PER_S = 5000
_LIVE_EVERY_S = 0.02
# of the rows, put before the sink starts; it has caught up when at most 1 s of records is pending
_BACKLOG_SHARE = 0.75


async def measure(plan: Plan, figures: Figures) -> None:
    """Measure sending the trades `rounds` times, then once more behind a live stream."""
    records = trades(plan.rows)
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as state:
        folder = Path(state)
        with rig.broker(plan.kafka) as settings:
            rates = []
            for number in range(plan.rounds):
                plan.say(f"round {number + 1} of {plan.rounds}: {plan.rows:,} trades to Kafka")
                rates.append(await _sink_run(settings, folder / f"kafka-{number}", records))
            plan.say(f"catching up with {_LIVE_PER_S:,} records/s going on")
            caught_up = await _catch_up(settings, folder / "kafka-catch-up", records)
    figures.rate("kafka.sink", "Kafka: the sink, from the journal", rates, note=f"broker: {plan.kafka or 'embedded'}")
    figures.add("kafka.live", "Kafka: live while it catches up", _LIVE_PER_S, "/s")
    figures.add("kafka.catch_up", "Kafka: catching up, live going on", caught_up, "/s", "kafka.live")


class _Run:
    """A journal and a sink with its own topics."""

    def __init__(self, settings: dict[str, object], state_dir: Path) -> None:
        config = KafkaConfig.model_validate({**settings, "topic_prefix": f"bench{uuid.uuid4().hex[:8]}"})
        self.metrics = Metrics()
        self.journal = Journal(state_dir, JournalConfig(), self.metrics)
        self.journal.open()
        self.cursor = self.journal.cursor("kafka")
        self.sink = KafkaSink(
            cursor=self.cursor,
            journal_ids=lambda: self.journal.journal_ids,
            connect=lambda topics: Producer.connect(config, "bench", topics),
            config=config,
            state_dir=state_dir,
            metrics=self.metrics,
        )

    async def fill(self, trades: list[Record]) -> None:
        for portion in portions(trades, _BATCH_RECORDS):
            await self.journal.append(portion)

    async def connected(self) -> None:
        while not self.sink.status().up:  # noqa: ASYNC110 # the status announces nothing
            await asyncio.sleep(0.001)


async def _sink_run(settings: dict[str, object], state_dir: Path, trades: list[Record]) -> float:
    """Time the sink emptying a journal that was filled before; connecting is not counted."""
    run = _Run(settings, state_dir)
    await run.fill(trades)
    sending = asyncio.create_task(run.sink.run())
    try:
        await run.connected()
        started_s = monotonic_s()
        run.sink.finish()
        await sending
        return len(trades) / (monotonic_s() - started_s)
    finally:
        sending.cancel()
        await asyncio.wait({sending})
        run.journal.close()


async def _catch_up(settings: dict[str, object], state_dir: Path, trades: list[Record]) -> float:
    run = _Run(settings, state_dir)
    backlog = int(len(trades) * _BACKLOG_SHARE)
    await run.fill(trades[:backlog])
    sending = asyncio.create_task(run.sink.run())
    live = asyncio.create_task(_live(run, trades[backlog:]))
    try:
        await run.connected()
        started_s = monotonic_s()
        while run.cursor.pending_records > _LIVE_PER_S:  # noqa: ASYNC110 # the cursor announces nothing
            await asyncio.sleep(0.01)
        took_s = monotonic_s() - started_s
        stored = sum(run.metrics.totals(run.metrics.stored).values())
        return stored / took_s
    finally:
        for task in (live, sending):
            task.cancel()
        await asyncio.wait({live, sending})
        run.journal.close()


async def _live(run: _Run, trades: list[Record]) -> None:
    """Put the same trades repeatedly at the live rate."""
    portion = int(_LIVE_PER_S * _LIVE_EVERY_S)
    due_s = monotonic_s()
    start = 0
    while True:
        await run.journal.append(trades[start : start + portion])
        start = (start + portion) % (len(trades) - portion)
        due_s += _LIVE_EVERY_S
        await asyncio.sleep(max(0, due_s - monotonic_s()))
