"""Sends what is in no journal: trading events, values of indicators, and the daemon's own metrics.

Each measurement has a task and a connection of its own, so that one that the server refuses holds up no other. Where it
reads, and from where it goes on after a crash, is told in `trade_events.py`, `indicators.py` and `own_metrics.py`. What
was not noted as sent is sent again, with the same series and time, so that it replaces itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from ingestd.clock import wait_at_most
from ingestd.ops.metrics import Metrics, count_by
from ingestd.sinks.influx.points import Flush
from ingestd.sinks.influx.server import InfluxServer
from ingestd.sinks.influx.writing import PointWriter
from ingestd.status import SinkStatus
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.migrate import check_schema

_TURN_S = 1.0


class Source(Protocol):
    """Where the points of one measurement come from."""

    measurement: str

    async def read(self) -> Flush:
        """The next points, none if there are none; the same ones again until `sent` was called."""

    async def sent(self) -> None:
        """Note that the server has the points of the last `read`. May be repeated."""

    async def close(self) -> None:
        """Let go of what it holds."""


class Report:
    """Sends one measurement until `finish`, after which it sends once more what there is."""

    def __init__(
        self,
        source: Source,
        connect: Callable[[], Awaitable[InfluxServer]],
        state_dir: Path,
        metrics: Metrics,
        *,
        logs_outages: bool,
    ) -> None:
        """`logs_outages`: no other sink of this daemon logs that the server is away."""
        self.name = f"influx_{source.measurement}"
        self._source = source
        self._metrics = metrics
        self._writer = PointWriter(self.name, connect, state_dir, metrics, waiting=lambda: 0, logs_outages=logs_outages)

    def status(self) -> SinkStatus:
        return self._writer.status()

    def finish(self) -> None:
        self._writer.finish_asked.set()

    async def run(self) -> None:
        finish_asked = self._writer.finish_asked
        try:
            if not await self._writer.greet():
                return
            is_last = False
            while not is_last:
                is_last = finish_asked.is_set()
                flush = await self._writer.store(self._source.read, self._source.sent)
                if flush is None:
                    return
                self._count(flush)
                if not flush.points and not flush.refusals:
                    await wait_at_most(_TURN_S, finish_asked)
        finally:
            await self._source.close()
            await self._writer.close()

    def _count(self, flush: Flush) -> None:
        counts = Counter((refusal.channel, refusal.reason) for refusal in flush.refusals)
        refused = {id(refusal.record) for refusal in flush.refusals}
        counts[self._source.measurement, "stored"] = sum(
            id(point.record) not in refused for points in flush.points.values() for point in points
        )
        count_by(self._metrics.influx_points, counts)


class Reading:
    """The connection to the database that a source reads on."""

    def __init__(self, access: DatabaseAccess) -> None:
        self._access = access
        self._database: Database | None = None

    async def database(self) -> Database:
        """The connection, opened if need be. Raises what connecting raises; SchemaError if the schema does not fit."""
        if self._database is None or self._database.is_closed:
            database = await self._access.connect_bounded()
            try:
                await check_schema(database)
            except BaseException:
                database.terminate()
                raise
            self._database = database
        return self._database

    async def close(self) -> None:
        """Drop the connection; a statement that runs is rolled back."""
        if self._database is not None:
            self._database.terminate()
            self._database = None
