"""A journal and the sink into InfluxDB, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ingestd.config.models import JournalConfig
from ingestd.journal.journal import Journal
from ingestd.ops.account import account
from ingestd.ops.metrics import Metrics
from ingestd.sinks.influx.options import InfluxConfig
from ingestd.sinks.influx.server import InfluxServer
from ingestd.sinks.influx.sink import InfluxSink
from ingestd.venues.market_names import Names


class InfluxRig:
    """One process's life of the durable part."""

    def __init__(self, state_dir: Path, config: InfluxConfig) -> None:
        self.metrics = Metrics()
        self.journal = Journal(state_dir, JournalConfig(), self.metrics)
        self.journal.open()
        self.cursor = self.journal.cursor("influx")
        self.sink = InfluxSink(
            cursor=self.cursor,
            journal_ids=lambda: self.journal.journal_ids,
            connect=partial(InfluxServer.connect, config),
            config=config,
            state_dir=state_dir,
            metrics=self.metrics,
            names=Names(config.symbol_style),
        )
        self.task = asyncio.create_task(self.sink.run())

    def terms(self) -> dict[str, int]:
        """The terms of the conservation law that are not zero, over all channels."""
        counts = account(self.metrics, {"influx": self.cursor})["sinks"]["influx"]
        return {term: total for term, of in counts.items() if (total := sum(of.values()))}

    async def until(self, holds: Callable[[], object], timeout_s: float = 60) -> None:
        async with asyncio.timeout(timeout_s):
            while not holds():
                await asyncio.sleep(0.02)

    async def drain(self) -> None:
        """The orderly end."""
        self.sink.finish()
        await asyncio.wait_for(self.task, 60)
        self.journal.close()

    async def crash(self) -> None:
        """The sink is cut at whatever it awaits."""
        self.task.cancel()
        await asyncio.wait({self.task})
        self.journal.close()


@asynccontextmanager
async def influx_rig(state_dir: Path, config: InfluxConfig) -> AsyncIterator[InfluxRig]:
    """Runs the sink; leaving the block drains it."""
    made = InfluxRig(state_dir, config)
    try:
        yield made
        await made.drain()
    finally:
        if not made.task.done():
            await made.crash()
