"""Reports to InfluxDB on a database of their own, for tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from ingestd.events.messages import Event, read_event
from ingestd.ops.metrics import Metrics
from ingestd.sinks.influx.options import InfluxConfig
from ingestd.sinks.influx.reports import Reading, Report, Source
from ingestd.sinks.influx.server import InfluxServer
from ingestd.sinks.influx.trade_events import TradeEvents
from ingestd.storage.access import DatabaseAccess
from ingestd.venues.market_names import Names
from tests.support.postgres import DatabaseForTest, default_config


def event(event_type: str, at: datetime, event_id: str | None = None, **data: Any) -> Event:
    """An event as a program has published it."""
    said = {**data, **({} if event_id is None else {"event_id": event_id})}
    value = json.dumps({"event_type": event_type, "timestamp": at.isoformat(), "data": said})
    return read_event(event_type, value.encode(), [], at)


def reading(database: DatabaseForTest) -> Reading:
    """A connection to this database, as a daemon opens it."""
    return Reading(DatabaseAccess(default_config(database={"dsn": database.dsn})))


def trade_events(database: DatabaseForTest, *, default_exchange: str | None = None, count: int = 1000) -> TradeEvents:
    """The source of `trade_event`, for the server `test`."""
    names = Names("dash")
    return TradeEvents(reading(database), "test", names, default_exchange=default_exchange, count=count)


class Running:
    """A report that runs."""

    def __init__(self, source: Source, config: InfluxConfig, state_dir: Path) -> None:
        self.metrics = Metrics()
        connect = partial(InfluxServer.connect, config)
        self.report = Report(source, connect, state_dir, self.metrics, logs_outages=True)
        self.task = asyncio.create_task(self.report.run())

    def outcomes(self) -> dict[str, int]:
        """How many points had which outcome so far."""
        return self.metrics.totals(self.metrics.influx_points, "outcome")

    async def until(self, holds: Callable[[], object], timeout_s: float = 60) -> None:
        async with asyncio.timeout(timeout_s):
            while not holds():
                await asyncio.sleep(0.02)

    async def crash(self) -> None:
        """Cut at whatever it awaits."""
        self.task.cancel()
        await asyncio.wait({self.task})


@asynccontextmanager
async def running(source: Source, config: InfluxConfig, state_dir: Path) -> AsyncIterator[Running]:
    """Runs the report; leaving the block ends it in order, unless it has crashed."""
    made = Running(source, config, state_dir)
    try:
        yield made
        made.report.finish()
        if not made.task.cancelled():
            await asyncio.wait_for(asyncio.shield(made.task), 60)
    finally:
        if not made.task.done():
            await made.crash()
