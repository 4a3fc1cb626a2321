"""The durable sink into Kafka: reads the journal with its own cursor and sends every record to its topic.

A partition holds its part of the journal completely and in order, once a consumer has dropped repeated messages by
their `ingestd-position` header. `flush.py` explains why, `sinks/cursor_file.py` what a crash repeats, docs/kafka.md
what is promised.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from ingestd.clock import monotonic_s
from ingestd.config.models import KafkaConfig
from ingestd.errors import ConnectionLost
from ingestd.journal.journal import Batch, Cursor
from ingestd.kafka.producer import Producer, SizeLimits, settled
from ingestd.ops.metrics import Metrics
from ingestd.sinks.cursor_file import Progress
from ingestd.sinks.gather import Gatherer, observe_latency
from ingestd.sinks.kafka.flush import Chain, Flush, Preparer
from ingestd.sinks.retry import PersistentWriter
from ingestd.status import SinkStatus
from ingestd.venues.market_names import Names

_SLOW_S = 5.0  # for one flush: then the status reports it, while the client still tries
_LAST_DELIVERY_S = 3.0  # time to send at shutdown; unsent batches stay in the journal
_CLOSE_S = 2.0


class KafkaSink:
    """Sends every journaled batch, as `sinks.base.DurableSink` promises. "Stored" means acknowledged by all in-sync
    replicas, "once" means once for each `ingestd-position`."""

    name = "kafka"

    def __init__(
        self,
        cursor: Cursor,
        journal_ids: Callable[[], list[str]],
        connect: Callable[[list[str]], Awaitable[Producer]],
        config: KafkaConfig,
        state_dir: Path,
        metrics: Metrics,
        *,
        names: Names | None = None,
        keep_rejected: bool = False,
    ) -> None:
        """`connect` gets the topics to write to. `names`: None for unified symbols. `keep_rejected`: this daemon has no
        other durable sink, so a record that Kafka cannot take is reported in the topic of rejections."""
        self._cursor = cursor
        self._connect = connect
        self._metrics = metrics
        self._progress = Progress(cursor, journal_ids, state_dir, self.name)
        symbols = Names() if names is None else names
        self._preparer = Preparer(config.topic_prefix, config.max_message_bytes, symbols, keep_rejected=keep_rejected)
        self._partitions: dict[str, int] = {}  # by topic, for the topics that this connection has used
        self._limits = SizeLimits()
        self._writer = PersistentWriter(self.name, self._connected, metrics, waiting=lambda: cursor.pending_records)
        self._finish_asked = self._writer.finish_asked
        self._gatherer = Gatherer(cursor, config.flush_ms, config.max_flush_records, self._finish_asked, metrics)

    def status(self) -> SinkStatus:
        status = self._writer.status
        if status.up:
            status.problem = self._preparer.put_aside.problem
        return status

    def finish(self) -> None:
        self._finish_asked.set()
        self._cursor.wake()

    async def run(self) -> None:
        async with self._progress.kept():
            try:
                await self._send_all()
            finally:
                self._writer.disconnect()
                await settled(_CLOSE_S)

    async def _send_all(self) -> None:
        if not await self._writer.until_done(_greet):
            return
        while batches := await self._gatherer.next():
            if not await self._store(batches):
                return

    async def _store(self, batches: list[Batch]) -> bool:
        """Send the batches until all are acknowledged. False: the daemon stops, and they stay in the journal."""
        flush: Flush | None = None
        needed = self._preparer.needed(batches)

        async def attempt(producer: Producer) -> None:
            nonlocal flush
            for topic in needed - self._partitions.keys():
                self._partitions[topic] = await producer.partitions(topic)
            # If a topic was recreated with another number of partitions, the whole flush is sent again.
            if flush is None or any(flush.partitions[topic] != self._partitions[topic] for topic in needed):
                flush = self._preparer.prepare(batches, self._partitions)
            while too_large := await self._delivered(flush, producer):
                for chain in too_large:
                    flush.shrink(chain)
                if flush.spoilt:
                    # The refused batch used sequence numbers that the broker never saw.
                    producer = await self._writer.reconnected()

        started_s = monotonic_s()
        if not await self._writer.until_done(attempt):
            return False
        assert flush is not None, "an attempt has succeeded"
        self._count(batches, flush.rejected, monotonic_s() - started_s)
        self._progress.acknowledge(batches)
        return True

    async def _delivered(self, flush: Flush, producer: Producer) -> list[Chain]:
        """Run `flush.send`. Report a slow delivery in the status; give up soon when the daemon stops."""
        sending = asyncio.create_task(flush.send(producer), name="kafka-flush")
        stop = asyncio.create_task(self._finish_asked.wait())
        started_s, waited_s = monotonic_s(), 0.0
        try:
            while not sending.done():
                if self._finish_asked.is_set():
                    await asyncio.wait({sending}, timeout=0.2)
                else:
                    # Check once delivery counts as slow, and every second after that.
                    within_s = max(0.01, _SLOW_S - waited_s) if waited_s < _SLOW_S else 1.0
                    await asyncio.wait({sending, stop}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
                waited_s = monotonic_s() - started_s
                if sending.done():
                    break
                if self._finish_asked.is_set() and waited_s > _LAST_DELIVERY_S:
                    raise ConnectionLost(f"no broker has acknowledged anything for {waited_s:.0f} s")
                if waited_s >= _SLOW_S:
                    self._show_slow(waited_s)
            return sending.result()
        finally:
            stop.cancel()
            if not sending.done():
                sending.cancel()
                await asyncio.wait({sending})

    def _show_slow(self, waited_s: float) -> None:
        status = self._writer.status
        status.up, status.problem = False, f"no broker has acknowledged anything for {waited_s:.0f} s"
        self._metrics.sink_up.labels(self.name).set(0)

    async def _connected(self) -> Producer:
        producer = await self._connect(self._preparer.topics)
        producer.limits = self._limits
        self._partitions.clear()
        return producer

    def _count(self, batches: list[Batch], rejected: Counter[tuple[str, str]], took_s: float) -> None:
        metrics = self._metrics
        observe_latency(metrics, self.name, batches)
        counts: Counter[str] = Counter()
        for batch in batches:
            counts.update(batch.counts)
        for (channel, reason), count in rejected.items():
            metrics.rejected.labels(channel, reason).inc(count)
            counts[channel] -= count
        for channel, count in counts.items():
            metrics.stored.labels(self.name, channel).inc(count)
        metrics.flushes.labels(self.name).inc()
        metrics.flush_s.labels(self.name).observe(took_s)


async def _greet(_: Producer) -> None:
    """Only connect, so that the topics exist and the status is known before the first record."""
