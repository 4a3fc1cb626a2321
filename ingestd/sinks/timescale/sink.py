"""The durable sink into PostgreSQL or TimescaleDB: reads the journal with its own cursor, flushes, retries.

This is the only place that retries a write. What `errors.reaction_to` says of an error is carried out here; which rows
of a batch are bad or duplicate is settled inside one flush, by the writer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from ingestd.backoff import Backoff
from ingestd.clock import monotonic_s, now_us
from ingestd.config import DatabaseConfig
from ingestd.errors import DatabaseError, IngestdError, Reaction, SchemaError, is_known, reaction_to
from ingestd.journal import Batch, Cursor
from ingestd.ops.metrics import Metrics
from ingestd.sinks.base import SinkStatus
from ingestd.sinks.timescale.tables import TABLES
from ingestd.sinks.timescale.writer import Flush, prepare, write
from ingestd.storage.database import Database

log = structlog.get_logger()

_RETRY_CAP_S = 1.5  # the first commit comes soon after the server is back
_PAUSE_CAP_S = 15.0
_LAST_RETRY_S = 0.2  # between the attempts that are left once finishing
_POSITIONS_KEPT_DAYS = 30


class TimescaleSink:
    """Stores every journaled batch once; see `sinks.base.Sink` for the promise."""

    name = "timescale"

    def __init__(
        self,
        cursor: Cursor,
        journal_ids: Callable[[], list[str]],
        connect: Callable[[], Awaitable[Database]],
        config: DatabaseConfig,
        instance: str,
        metrics: Metrics,
    ) -> None:
        self._cursor = cursor
        self._journal_ids = journal_ids
        self._connect = connect
        self._config = config
        self._instance = instance
        self._metrics = metrics
        self._database: Database | None = None
        self._places: dict[str, tuple[int, int]] = {}  # journal id -> position, epoch as last read or written
        self._held: list[Batch] = []  # read, and of another journal than the flush before them
        self._finish_asked = asyncio.Event()
        self._status = SinkStatus(self.name, problem="it has not reached the database yet")
        self._retry = Backoff(base_s=0.1, cap_s=_RETRY_CAP_S)
        self._pause = Backoff(base_s=1.0, cap_s=_PAUSE_CAP_S)

    def status(self) -> SinkStatus:
        return self._status

    def finish(self) -> None:
        self._finish_asked.set()
        self._cursor.wake()

    async def run(self) -> None:
        try:
            if not await self._until_done(self._catch_up_with_positions):
                return
            while batches := await self._next_batches():
                if not await self._store(batches):
                    return
        finally:
            await self._disconnect()

    async def _next_batches(self) -> list[Batch]:
        """What one flush takes: as much as there is, or what `flush_ms` brings. Empty once finished and drained."""
        batches = self._held or await self._cursor.read(self._config.max_flush_records)
        self._held = []
        while not batches and not self._finish_asked.is_set():
            await self._cursor.wait()
            batches = await self._cursor.read(self._config.max_flush_records)
        if not batches:
            return []
        await self._linger(batches)
        journal_id = batches[0].journal_id
        self._held = [batch for batch in batches if batch.journal_id != journal_id]
        return [batch for batch in batches if batch.journal_id == journal_id]

    async def _linger(self, batches: list[Batch]) -> None:
        due_s = monotonic_s() + self._config.flush_ms / 1000 - max(0, now_us() - batches[0].sealed_at) / 1e6
        count = sum(len(batch.records) for batch in batches)
        while count < self._config.max_flush_records and not self._finish_asked.is_set() and monotonic_s() < due_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due_s - monotonic_s()):
                    await self._cursor.wait()
            more = await self._cursor.read(self._config.max_flush_records - count)
            batches.extend(more)
            count += sum(len(batch.records) for batch in more)

    async def _store(self, batches: list[Batch]) -> bool:
        """Until they are stored. False: given up at shutdown, they stay in the journal."""
        flush: Flush | None = None

        async def attempt() -> None:
            nonlocal flush
            database = await self._connected()
            position, epoch = await self._place(database, batches[0].journal_id)
            if flush is not None and position >= flush.to_position:
                self._metrics.commits_resolved.labels(self.name, "committed").inc()
                return
            left = [batch for batch in batches if batch.position > position]
            if not left:
                flush = None
                return
            if flush is None or flush.from_position != position:
                records = [record for batch in left for record in batch.records]
                flush = prepare(self._source(batches[0].journal_id), position, left[-1].position, epoch, records)
            await write(database, flush)

        started_s = monotonic_s()
        if not await self._until_done(attempt):
            return False
        self._places[batches[0].journal_id] = (
            batches[-1].position,
            self._places[batches[0].journal_id][1],
        )
        if flush is not None:
            self._count(flush, batches, monotonic_s() - started_s)
        self._cursor.acknowledge(batches)
        return True

    async def _until_done(self, attempt: Callable[[], Awaitable[None]]) -> bool:
        """Repeat `attempt` by what its errors ask for. False: shutting down, and the database does not answer."""
        while True:
            try:
                await attempt()
            except (IngestdError, OSError, TimeoutError) as error:
                self._note(error)
                await self._disconnect()
                self._places.clear()
                if self._finish_asked.is_set() and self._status.attempts_failed > 1:
                    log.warning("sink_leaves_records_in_journal", sink=self.name, records=self._cursor.pending_records)
                    return False
                await self._pause_for(self._delay_s(error))
            else:
                self._recovered()
                return True

    async def _pause_for(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._finish_asked.wait()
        if self._finish_asked.is_set():
            await asyncio.sleep(min(delay_s, _LAST_RETRY_S))

    def _delay_s(self, error: Exception) -> float:
        if isinstance(error, SchemaError):
            return self._pause.next_s()
        reaction = reaction_to(error)
        if reaction is Reaction.PAUSE or (reaction is Reaction.RECONNECT and self._status.attempts_failed > 1):
            return self._pause.next_s()
        return self._retry.next_s()

    def _note(self, error: Exception) -> None:
        status = self._status
        status.up, status.problem = False, str(error) or type(error).__name__
        status.attempts_failed += 1
        self._metrics.sink_up.labels(self.name).set(0)
        kind = error.sqlstate if isinstance(error, DatabaseError) else type(error).__name__
        self._metrics.sink_errors.labels(self.name, kind).inc()
        alarming = not is_known(error) or reaction_to(error) is Reaction.PAUSE
        if alarming:
            self._metrics.sink_alarms.labels(self.name).inc()
        # The first failures and then every 16th: an outage of hours must not fill the disk with its own report.
        if status.attempts_failed <= 3 or status.attempts_failed % 16 == 0:
            report = log.error if alarming else log.warning
            report(
                "sink_write_failed",
                sink=self.name,
                error=status.problem,
                kind=kind,
                attempts=status.attempts_failed,
                records_in_journal=self._cursor.pending_records,
            )

    def _recovered(self) -> None:
        if self._status.attempts_failed:
            log.info("sink_writes_again", sink=self.name, after_attempts=self._status.attempts_failed)
        self._status.up, self._status.problem, self._status.attempts_failed = True, None, 0
        self._metrics.sink_up.labels(self.name).set(1)
        self._retry.settled()
        self._pause.settled()

    async def _connected(self) -> Database:
        if self._database is None or self._database.is_closed:
            self._database = await self._connect()
        return self._database

    async def _disconnect(self) -> None:
        # After an error the connection may hold half a COPY: it is cut, not closed politely.
        if self._database is not None:
            self._database.terminate()
            self._database = None

    async def _catch_up_with_positions(self) -> None:
        """Once at the start: skip what an earlier process had stored of the journals it left."""
        database = await self._connected()
        ids = self._journal_ids()
        sources = {self._source(journal_id): journal_id for journal_id in ids}
        await database.execute(
            "DELETE FROM ingest_positions WHERE starts_with(source, $1) AND source <> ALL($2::text[]) "
            "AND updated_at < now() - make_interval(days => $3)",
            self._source(""),
            list(sources),
            _POSITIONS_KEPT_DAYS,
        )
        rows = await database.fetch(
            "SELECT source, position FROM ingest_positions WHERE source = ANY($1::text[])", list(sources)
        )
        positions = {sources[row["source"]]: row["position"] for row in rows}
        for journal_id in ids:
            if positions.get(journal_id, 0):
                await self._cursor.skip_to(journal_id, positions[journal_id])
        journaled = self._metrics.totals(self._metrics.journaled)
        for channel, count in self._cursor.pending.items():
            self._metrics.recovered.labels(channel).inc(max(0, count - journaled.get(channel, 0)))

    async def _place(self, database: Database, journal_id: str) -> tuple[int, int]:
        place = self._places.get(journal_id)
        if place is None:
            source = self._source(journal_id)
            await database.execute(
                "INSERT INTO ingest_positions (source, position, epoch) VALUES ($1, 0, 1) ON CONFLICT DO NOTHING",
                source,
            )
            row = await database.fetchrow("SELECT position, epoch FROM ingest_positions WHERE source = $1", source)
            if row is None:
                raise SchemaError(f"the row of {source} in ingest_positions was deleted; start ingestd again")
            place = self._places[journal_id] = (row["position"], row["epoch"])
        return place

    def _source(self, journal_id: str) -> str:
        return f"journal:{self._instance}:{journal_id}"

    def _count(self, flush: Flush, batches: list[Batch], took_s: float) -> None:
        metrics, outcome = self._metrics, flush.outcome
        for channel, count in outcome.stored.items():
            metrics.stored.labels(self.name, channel).inc(count)
        for channel, count in outcome.duplicate.items():
            if count:
                metrics.duplicate.labels(self.name, channel).inc(count)
        for bad in outcome.bad:
            metrics.rejected.labels(TABLES[bad.table.name].channel, f"server_{bad.sqlstate}").inc()
        if outcome.bad:
            log.warning("rows_refused_by_server", rows=len(outcome.bad), first=outcome.bad[0].error)
        metrics.flushes.labels(self.name).inc()
        metrics.flush_s.labels(self.name).observe(took_s)
        now = now_us()
        for batch in batches:
            if batch.records:
                latency_s = max(0, now - batch.records[0].received_at) / 1e6
                metrics.commit_latency_s.labels(self.name).observe(latency_s)
