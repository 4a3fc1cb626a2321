"""The durable sink into InfluxDB: reads the journal with its own cursor and writes its records as points.

A point that is written twice replaces itself, so after a crash it is enough to go on from the last position noted in
`influx.cursor`. `points.py` says which record becomes which point, `delivery.py` what becomes of refused ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from ingestd.clock import monotonic_s
from ingestd.journal.journal import Batch, Cursor
from ingestd.ops.metrics import Metrics
from ingestd.sinks.cursor_file import Progress
from ingestd.sinks.gather import Gatherer, observe_latency
from ingestd.sinks.influx.options import InfluxConfig
from ingestd.sinks.influx.points import Flush, Preparer
from ingestd.sinks.influx.server import InfluxServer
from ingestd.sinks.influx.writing import PointWriter
from ingestd.status import SinkStatus
from ingestd.venues.market_names import Names


class InfluxSink:
    """Writes every journaled record that becomes a point, as `sinks.base.DurableSink` promises. Refused records are
    kept in `influx.refused`."""

    name = "influx"

    def __init__(
        self,
        cursor: Cursor,
        journal_ids: Callable[[], list[str]],
        connect: Callable[[], Awaitable[InfluxServer]],
        config: InfluxConfig,
        state_dir: Path,
        metrics: Metrics,
        names: Names,
    ) -> None:
        self._cursor = cursor
        self._metrics = metrics
        self._progress = Progress(cursor, journal_ids, state_dir, self.name)
        self._preparer = Preparer(config, names)
        self._writer = PointWriter(self.name, connect, state_dir, metrics, waiting=lambda: cursor.pending_records)
        finish_asked = self._writer.finish_asked
        self._gatherer = Gatherer(cursor, config.flush_ms, config.max_flush_records, finish_asked, metrics)

    def status(self) -> SinkStatus:
        return self._writer.status()

    def finish(self) -> None:
        self._writer.finish_asked.set()
        self._cursor.wake()

    async def run(self) -> None:
        async with self._progress.kept():
            try:
                await self._write_all()
            finally:
                await self._writer.close()

    async def _write_all(self) -> None:
        if not await self._writer.greet():
            return
        while batches := await self._gatherer.next():
            if not await self._store(batches):
                return

    async def _store(self, batches: list[Batch]) -> bool:
        """Write the batches until every point is stored or refused. False: the daemon stops, and they stay in the
        journal."""

        async def read() -> Flush:
            return self._preparer.prepare(batches)

        started_s = monotonic_s()
        flush = await self._writer.store(read)
        if flush is None:
            return False
        self._preparer.remember(flush)
        self._count(batches, flush, monotonic_s() - started_s)
        self._progress.acknowledge(batches)
        return True

    def _count(self, batches: list[Batch], flush: Flush, took_s: float) -> None:
        metrics = self._metrics
        observe_latency(metrics, self.name, batches)
        rejected = Counter((refusal.channel, refusal.reason) for refusal in flush.refusals)
        stored: Counter[str] = Counter()
        for batch in batches:
            stored.update(batch.counts)
        stored.subtract(flush.left_out)
        stored.subtract(flush.duplicate)
        for (channel, reason), count in rejected.items():
            metrics.rejected.labels(channel, reason).inc(count)
            stored[channel] -= count
        counts = ((metrics.stored, stored), (metrics.left_out, flush.left_out), (metrics.duplicate, flush.duplicate))
        for counter, by_channel in counts:
            for channel, count in by_channel.items():
                if count:
                    counter.labels(self.name, channel).inc(count)
        metrics.flushes.labels(self.name).inc()
        metrics.flush_s.labels(self.name).observe(took_s)
