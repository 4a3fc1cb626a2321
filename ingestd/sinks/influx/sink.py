"""The durable sink into InfluxDB: reads the journal with its own cursor and writes its records as points.

A point that is written twice replaces itself, so after a crash it is enough to go on from the last position noted in
`influx.cursor`. `points.py` says which record becomes which point, `delivery.py` what becomes of refused ones.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from ingestd.channels import channel_of
from ingestd.clock import monotonic_s, wait_at_most
from ingestd.errors import ConnectionLost, InfluxError
from ingestd.journal.journal import Batch, Cursor
from ingestd.ops.metrics import Metrics
from ingestd.sinks.cursor_file import CursorFile
from ingestd.sinks.gather import Gatherer, observe_latency
from ingestd.sinks.influx.delivery import Delivery
from ingestd.sinks.influx.options import InfluxConfig
from ingestd.sinks.influx.points import Flush, Preparer
from ingestd.sinks.influx.refused import RefusedFile
from ingestd.sinks.influx.server import InfluxServer, settled
from ingestd.sinks.retry import PersistentWriter
from ingestd.status import SinkStatus
from ingestd.venues.market_names import Names

_LAST_DELIVERY_S = 3.0  # time to write at shutdown; unwritten batches stay in the journal
_LONGEST_ASKED_S = 60.0  # of the waits that a server may ask for


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
        self._journal_ids = journal_ids
        self._metrics = metrics
        self._marks = CursorFile(state_dir, self.name)
        self._refused = RefusedFile(state_dir)
        self._preparer = Preparer(config, names)
        self._taken: set[str] = set()  # measurements of which the server has stored a point
        self._writer = PersistentWriter(self.name, connect, metrics, waiting=lambda: cursor.pending_records)
        self._finish_asked = self._writer.finish_asked
        self._gatherer = Gatherer(cursor, config.flush_ms, config.max_flush_records, self._finish_asked, metrics)

    def status(self) -> SinkStatus:
        status = self._writer.status
        if status.up:
            status.problem = self._refused.problem
        return status

    def finish(self) -> None:
        self._finish_asked.set()
        self._cursor.wake()

    async def run(self) -> None:
        await self._skip_what_was_written()
        keeper = asyncio.create_task(self._marks.keep(), name="influx-cursor")
        try:
            await self._write_all()
        finally:
            keeper.cancel()
            await asyncio.wait({keeper})
            self._writer.disconnect()
            await self._marks.save()
            await settled()
        if not keeper.cancelled():
            keeper.result()

    async def _write_all(self) -> None:
        if not await self._writer.until_done(_greet):
            return
        while batches := await self._gatherer.next():
            if not await self._store(batches):
                return

    async def _skip_what_was_written(self) -> None:
        ids = self._journal_ids()
        self._marks.load(ids)
        for journal_id in ids:
            if position := self._marks.positions.get(journal_id, 0):
                await self._cursor.skip_to(journal_id, position)

    async def _store(self, batches: list[Batch]) -> bool:
        """Write the batches until every point is stored or refused. False: the daemon stops, and they stay in the
        journal."""
        flush: Flush | None = None
        delivery: Delivery | None = None

        async def attempt(server: InfluxServer) -> None:
            nonlocal flush, delivery
            if flush is None or delivery is None:
                flush = self._preparer.prepare(batches)
                delivery = Delivery(flush, self._taken)
            try:
                await self._until_stopped(delivery.write(server))
            except InfluxError as error:
                await wait_at_most(min(error.retry_after_s, _LONGEST_ASKED_S), self._finish_asked)
                raise
            if delivery.refusals:
                await asyncio.to_thread(self._refused.keep, delivery.refusals)

        started_s = monotonic_s()
        if not await self._writer.until_done(attempt):
            return False
        assert flush is not None, "an attempt has succeeded"
        assert delivery is not None, "as above"
        self._refused.tell(delivery.refusals)
        self._preparer.remember(flush)
        self._count(batches, flush, delivery, monotonic_s() - started_s)
        for batch in batches:
            self._marks.acknowledge(batch.journal_id, batch.position)
        self._cursor.acknowledge(batches)
        self._marks.forget_all_but(self._journal_ids())
        return True

    async def _until_stopped(self, work: Awaitable[None]) -> None:
        """Do the work; if the daemon stops, for a few seconds more at most."""
        working = asyncio.ensure_future(work)
        stop = asyncio.create_task(self._finish_asked.wait())
        try:
            await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await asyncio.wait({working}, timeout=_LAST_DELIVERY_S)
            if not working.done():
                raise ConnectionLost(f"the server has not taken the points within {_LAST_DELIVERY_S:g} s of the stop")
            working.result()
        finally:
            stop.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait({working})

    def _count(self, batches: list[Batch], flush: Flush, delivery: Delivery, took_s: float) -> None:
        metrics = self._metrics
        observe_latency(metrics, self.name, batches)
        rejected = Counter((channel_of(refusal.record), refusal.reason) for refusal in delivery.refusals)
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


async def _greet(_: InfluxServer) -> None:
    """Only connect, so that the status is known before the first record."""
