"""The durable sink into PostgreSQL or TimescaleDB: reads the journal with its own cursor and flushes it.

While the server works on one flush, the next one is read from the journal and its COPY text is built, so that the
server need not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import structlog

from ingestd.clock import monotonic_s
from ingestd.config.models import DatabaseConfig
from ingestd.errors import Fenced, MarketUnknown, NoneTaken, SchemaError
from ingestd.failpoints import passing
from ingestd.journal.journal import Batch, Cursor
from ingestd.ops.metrics import Metrics
from ingestd.sinks.gather import Gatherer, count_records, observe_latency
from ingestd.sinks.retry import PersistentWriter
from ingestd.status import SinkStatus
from ingestd.storage.database import Database
from ingestd.storage.leases import Terms, Title, disconnect_stalled
from ingestd.storage.writer import positions
from ingestd.storage.writer.positions import Move, Place
from ingestd.storage.writer.rows import RowMaker
from ingestd.storage.writer.writer import DIRECT_COMPRESS, Flush, write
from ingestd.venues.market_names import Names

log = structlog.get_logger()

# A row takes a few bytes. Without it, a journal that comes back would be stored twice.
_POSITIONS_KEPT_DAYS = 365

T = TypeVar("T")


@dataclass(slots=True)
class _Portion:
    """The input of one flush: batches of one journal, and the COPY text prepared from them."""

    batches: list[Batch] = field(default_factory=list)
    flush: Flush | None = None  # of the last `prepared` batches; its move is set when it is written
    prepared: int = 0
    tried: Flush | None = None  # what the last attempt wrote or tried to write
    terms: Terms | None = None  # the lease terms by which `flush` was prepared


class Prefetcher(Generic[T]):
    """Prepares at most one item in the background. Used by one consumer, which closes it."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._make = make
        self._task: asyncio.Task[T] | None = None

    async def take(self) -> T:
        """Wait for the next item, and start to prepare the one after it. Raises what preparing the item raised."""
        if self._task is None:
            self._task = asyncio.create_task(self._make())
        made = await self._task
        self._task = asyncio.create_task(self._make())
        return made

    def ready(self) -> T | None:
        """The next item if it is ready, so that `take` would not wait; else None."""
        task = self._task
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    async def close(self) -> None:
        """Stop preparing, and drop an item that was not taken."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.exception()  # mark the exception as retrieved


class TimescaleSink:
    """Stores every journaled batch once, as `sinks.base.DurableSink` promises."""

    name = "timescale"

    def __init__(
        self,
        cursor: Cursor,
        journal_ids: Callable[[], list[str]],
        connect: Callable[[], Awaitable[Database]],
        config: DatabaseConfig,
        metrics: Metrics,
        title: Title | None = None,
        names: Names | None = None,
    ) -> None:
        """`title`: the lease under which it stores; without a lease it stores everything it reads. `names`: of the
        style in which the tables hold symbols; None: unified symbols."""
        self._names = Names() if names is None else names
        self._cursor = cursor
        self._title = title
        self._journal_ids = journal_ids
        self._metrics = metrics
        self._places: dict[str, Place] = {}  # by journal id, as last read from or written to the database
        self._copying = asyncio.Event()  # set while the server copies: time to prepare the next flush
        self._copying.set()
        self._held: list[Batch] = []  # read already, but of another journal than the previous flush
        self._writer = PersistentWriter(
            self.name, connect, metrics, waiting=lambda: cursor.pending_records, doubtful=self._count_doubtful
        )
        self._knows_places = False
        self._finish_asked = self._writer.finish_asked
        self._direct_compress = config.direct_compress
        self._stalled_after_s = config.flush_timeout_s
        self._max_flush_records = config.max_flush_records
        self._gatherer = Gatherer(cursor, config.flush_ms, config.max_flush_records, self._finish_asked, metrics)

    def status(self) -> SinkStatus:
        return self._writer.status

    def finish(self) -> None:
        self._finish_asked.set()
        self._cursor.wake()

    async def run(self) -> None:
        try:
            if not await self._writer.until_done(self._catch_up_with_positions):
                return
            self._knows_places = True
            prefetcher = Prefetcher(self._make_portion)
            try:
                while (portion := await self._next_portion(prefetcher)).batches:
                    if not await self._store(portion, prefetcher):
                        return
            finally:
                await prefetcher.close()
        finally:
            self._writer.disconnect()

    def _count_doubtful(self) -> int:
        """The number of records left by an earlier run, until the database has told which of them it has."""
        return 0 if self._knows_places else sum(self._cursor.recovered.values())

    async def _next_portion(self, prefetcher: Prefetcher[_Portion]) -> _Portion:
        self._gatherer.requested.set()
        self._cursor.wake()
        try:
            return await prefetcher.take()
        finally:
            self._gatherer.requested.clear()
            self._copying.clear()

    async def _make_portion(self) -> _Portion:
        """Read the next flush, and prepare what needs no database. No batches: finished and drained."""
        await self._copying.wait()
        portion = _Portion(terms=Terms() if self._title is None else self._title.known)
        maker = None if portion.terms is None else self._row_maker(portion.terms)
        async for batches in self._next_batches():
            portion.batches += batches
            for batch in batches:
                try:
                    if maker is not None:
                        maker.add(batch.records)
                except MarketUnknown:
                    maker = None  # prepared again when it is written, and repeated until the feed has its list
                await asyncio.sleep(0)  # the server may be waiting for an answer
        if maker is not None:
            portion.flush, portion.prepared = _flush(maker), len(portion.batches)
        return portion

    async def _next_batches(self) -> AsyncIterator[list[Batch]]:
        """Yield the batches of one flush, all of one journal, and hold others back. Nothing: finished and drained."""
        held, self._held = self._held, []
        if held:
            yield self._of_one_journal(held, held[0].journal_id)
            return
        journal_id = None
        async for batches in self._gatherer.portion():
            journal_id = journal_id or batches[0].journal_id
            yield self._of_one_journal(batches, journal_id)

    def _of_one_journal(self, batches: list[Batch], journal_id: str) -> list[Batch]:
        self._held += [batch for batch in batches if batch.journal_id != journal_id]
        return [batch for batch in batches if batch.journal_id == journal_id]

    async def _store(self, portion: _Portion, prefetcher: Prefetcher[_Portion]) -> bool:
        """Write until the portion is stored. False: given up at shutdown; it stays in the journal."""
        batches, journal_id = portion.batches, portion.batches[0].journal_id

        async def attempt(database: Database) -> None:
            await self._attempt(database, portion, prefetcher)

        started_s = monotonic_s()
        try:
            if not await self._writer.until_done(attempt, after_failure=self._forget):
                return False
        finally:
            self._copying.set()
        self._places[journal_id] = Place(batches[-1].position, self._places[journal_id].epoch)
        if portion.tried is not None:
            portion.tried.outcome.count(self._metrics, self.name, monotonic_s() - started_s)
            observe_latency(self._metrics, self.name, batches)
        passing("sink.acknowledge")
        self._cursor.acknowledge(batches)
        return True

    async def _attempt(self, database: Database, portion: _Portion, prefetcher: Prefetcher[_Portion]) -> None:
        """Write the batches that the database does not have; an attempt whose reply was lost may have stored them."""
        batches = portion.batches
        await self._free_rows(database)
        place = await self._place(database, batches[0].journal_id)
        if portion.tried is not None and place.position >= batches[-1].position:
            self._metrics.commits_resolved.labels(self.name, "committed").inc()
            return None
        while True:
            left = [batch for batch in batches if batch.position > place.position]
            if not left:
                portion.tried = None
                return None
            move = Move(_source(batches[0].journal_id), place.position, batches[-1].position, place.epoch)
            portion.tried = await self._prepared(database, move, left, portion)
            try:
                return await write(database, portion.tried)
            except NoneTaken:
                if not await self._add_next(batches, prefetcher):
                    raise
            except Fenced as fenced:
                log.warning("flush_fenced", because=str(fenced), records=count_records(left))
                self._metrics.lease_fenced.inc()
                assert self._title is not None
                self._title.forget()

    async def _add_next(self, batches: list[Batch], prefetcher: Prefetcher[_Portion]) -> bool:
        """Add the next batches of the journal to a flush of which a table refuses every row. False: there are none yet,
        they are of another journal, or the flush is large enough."""
        self._gatherer.requested.set()
        self._cursor.wake()
        more = prefetcher.ready()
        if more is None or not more.batches or more.batches[0].journal_id != batches[0].journal_id:
            return False
        if count_records(batches) >= 2 * self._max_flush_records:
            return False
        batches += (await prefetcher.take()).batches
        return True

    def _row_maker(self, terms: Terms) -> RowMaker:
        return RowMaker(self._names, terms.belongs_to_another if terms.name_others else None)

    def _forget(self) -> None:
        """Forget what is known about the database: after a reconnect it may be different."""
        self._places.clear()
        if self._title is not None:
            self._title.forget()

    async def _prepared(self, database: Database, move: Move, left: list[Batch], portion: _Portion) -> Flush:
        """The flush to write: as prepared, unless some of it is stored already or the lease terms have changed."""
        terms = Terms() if self._title is None else await self._title.terms(database)
        flush = portion.flush
        if flush is None or portion.prepared != len(left) or portion.terms != terms:
            maker = self._row_maker(terms)
            for batch in left:
                maker.add(batch.records)
            flush, portion.prepared, portion.terms = _flush(maker), len(left), terms
        fence = None if self._title is None else self._title.fence()
        portion.flush = replace(
            flush, moves=(move,), fence=fence, direct_compress=self._direct_compress, copying=self._copying
        )
        return portion.flush

    async def _catch_up_with_positions(self, database: Database) -> None:
        """Skip the batches that an earlier process has stored, once at the start."""
        await self._free_rows(database)
        if self._direct_compress:
            await self._look_for_direct_compress(database)
        ids = self._journal_ids()
        sources = [_source(journal_id) for journal_id in ids]
        await positions.forget(database, _source(""), older_than_days=_POSITIONS_KEPT_DAYS, but=sources)
        places = await positions.read(database, sources)
        for journal_id in ids:
            place = places.get(_source(journal_id))
            if place is not None and place.position:
                await self._cursor.skip_to(journal_id, place.position)

    async def _look_for_direct_compress(self, database: Database) -> None:
        if not await database.fetchval("SELECT EXISTS (SELECT FROM pg_settings WHERE name = $1)", DIRECT_COMPRESS):
            log.warning("direct_compress_not_offered", setting=DIRECT_COMPRESS, so="rows are compressed by policy only")
            self._direct_compress = False

    async def _free_rows(self, database: Database) -> None:
        """Release row locks that a failed flush may still hold. If the network lost the connection silently, the server
        keeps waiting for it until TCP gives up, by default after two hours."""
        if self._writer.status.attempts_failed:
            await disconnect_stalled(database, self._stalled_after_s)

    async def _place(self, database: Database, journal_id: str) -> Place:
        place = self._places.get(journal_id)
        if place is None:
            source = _source(journal_id)
            await database.execute(
                "INSERT INTO ingest_positions (source, position, epoch) VALUES ($1, 0, 1) ON CONFLICT DO NOTHING",
                source,
            )
            place = (await positions.read(database, [source])).get(source)
            if place is None:
                raise SchemaError(f"the row of {source} in ingest_positions was deleted; start ingestd again")
            self._places[journal_id] = place
        return place


def _flush(maker: RowMaker) -> Flush:
    """The flush of the rows made; its move is not set yet."""
    return Flush((), {}, maker.rows(), stored_by_another=maker.withheld(), unknown=maker.unknown())


def _source(journal_id: str) -> str:
    """The key of a journal's position. Journal ids are globally unique, so an instance may be renamed or sharded."""
    return f"journal:{journal_id}"
