"""One flush: rows and the positions they came from in one transaction, so that each batch is stored exactly once.

UPDATE ingest_positions … WHERE position = <what it was>     no row: already stored, or fenced off
COPY each table                                              duplicates: through a staging table
COMMIT                                                       reply lost: read the position row
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from ingestd.errors import DatabaseError, MarkRefused, NoneTaken, Reaction, copy_line, may_be_of_a_row, reaction_to
from ingestd.failpoints import passing
from ingestd.ops.metrics import Metrics
from ingestd.records import Record
from ingestd.storage.database import Database
from ingestd.storage.leases import Fence
from ingestd.storage.writer import copy_text, two_times
from ingestd.storage.writer.positions import Mark, Move, advance, mark
from ingestd.storage.writer.refused import Kept, is_blamed, no_table_takes_it, put_aside, require_some_taken
from ingestd.storage.writer.rows import RowMaker, Rows
from ingestd.storage.writer.tables import TABLES, Table
from ingestd.validation import as_json
from ingestd.venues.market_names import UNKNOWN_MARKET, Names

log = structlog.get_logger()

# Up to this many bad rows are found with one COPY each; beyond that the table is written in small portions.
_FEW_BAD_ROWS = 8
_PORTION_ROWS = 100
_REJECTIONS = TABLES["rejected_records"].channel

# A row with the key of a compressed row makes the server decompress that batch; by default it refuses beyond 100,000
# rows.
_TOO_MUCH_UNPACKED = "53400"
_UNPACK_FREELY = "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0"

DIRECT_COMPRESS = "timescaledb.enable_direct_compress_copy"
"""The server's setting by which a COPY into a table without a unique index writes columnar chunks, since 2.21."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that the server refused, and its answer."""

    table: Table
    record: Record
    answer: DatabaseError


@dataclass(slots=True)
class Outcome:
    """What one transaction stored, by channel; valid once it is known to be committed."""

    stored: dict[str, int] = field(default_factory=dict)
    duplicate: Counter[str] = field(default_factory=Counter)
    missing: dict[str, int] = field(default_factory=dict)  # not in the table, though no error was raised
    bad: list[BadRow] = field(default_factory=list)
    unknown: Mapping[str, int] = field(default_factory=dict)  # of unknown markets: stored as rejections

    def count(self, metrics: Metrics, sink: str, took_s: float) -> None:
        """Add a flush that is known to be committed to the metrics, and log what the server refused or lost."""
        rejections = sum(self.unknown.values())
        for channel, count in self.stored.items():
            own = max(0, count - rejections) if channel == _REJECTIONS else count
            metrics.stored.labels(sink, channel).inc(own)
        for channel, count in self.unknown.items():
            metrics.rejected.labels(channel, UNKNOWN_MARKET).inc(count)
        for channel, count in self.duplicate.items():
            if count:
                metrics.duplicate.labels(sink, channel).inc(count)
        for bad in self.bad:
            metrics.rejected.labels(bad.table.channel, f"server_{bad.answer.sqlstate}").inc()
            metrics.refused.add(bad.table.channel, 1)
        if self.bad:
            log.warning("rows_refused_by_server", rows=len(self.bad), first=str(self.bad[0].answer))
        for channel, count in self.missing.items():
            metrics.rejected.labels(channel, "server_missing").inc(count)
            metrics.missing.add(channel, count)
            look_at = "its triggers, rules, policies"
            log.error("rows_not_in_table", sink=sink, channel=channel, rows=count, look_at=look_at)
        metrics.flushes.labels(sink).inc()
        metrics.flush_s.labels(sink).observe(took_s)


@dataclass(slots=True)
class Flush:
    """The rows and positions to store, and the outcome of the last transaction that reached its COMMIT.

    `origin` says where a row came from, for the error text of a refused row. `copying` is set while the server receives
    the rows. The last three are set after a failure: write each mark by itself, check constraints with each statement
    instead of at the commit, and let the server decompress any number of rows.
    """

    moves: tuple[Move, ...]
    marks: Mapping[str, Mark | None]
    tables: dict[str, Rows]
    origin: Callable[[Record], str] | None = None
    fence: Fence | None = None
    direct_compress: bool = False
    copying: asyncio.Event | None = None
    stored_by_another: Mapping[str, int] = field(default_factory=dict)  # by channel, counted as duplicates
    unknown: Mapping[str, int] = field(default_factory=dict)  # by channel, of unknown markets
    bad: list[BadRow] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)
    marks_apart: bool = False
    checked_at_once: bool = False
    unpacks_freely: bool = False


def prepare(
    moves: Sequence[Move],
    records: Sequence[Record],
    names: Names,
    *,
    marks: Mapping[str, Mark | None] | None = None,
    origin: Callable[[Record], str] | None = None,
) -> Flush:
    """Build a flush of these records, with symbols as `names` says. Its COPY text is made once, and retries reuse it.

    Raises MarketUnknown while a feed is still to bring its list of markets.
    """
    maker = RowMaker(names)
    maker.add(records)
    return Flush(tuple(moves), marks or {}, maker.rows(), origin, unknown=maker.unknown())


async def write(database: Database, flush: Flush) -> None:
    """Store the flush: bad rows are put aside, duplicates counted.

    Raises ConnectionLost if the outcome is unknown, Superseded if the position was moved by another, Fenced if another
    daemon has taken the lease, DatabaseError for what only time or a person can fix.
    """
    while True:
        try:
            await _attempt(database, flush)
        except _TableError as failure:
            _learn(flush, failure)
        except MarkRefused:
            flush.marks_apart = True
        except _CommitError:
            flush.checked_at_once = True
        else:
            return


class _TableError(Exception):
    """A COPY or merge of one table failed in a way that the next attempt can avoid."""

    def __init__(self, rows: Rows, error: DatabaseError) -> None:
        super().__init__(str(error))
        self.rows = rows
        self.error = error


class _CommitError(Exception):
    """The server refused the commit, because of a constraint that it checks only then."""


def _learn(flush: Flush, failure: _TableError) -> None:
    """Change the flush so that the next attempt gets further: remove a row, use staging, or split."""
    rows, error = failure.rows, failure.error
    if reaction_to(error) is Reaction.DEDUPLICATE and not rows.staged:
        rows.staged = True
        return
    if error.sqlstate == _TOO_MUCH_UNPACKED:
        if flush.unpacks_freely:
            raise error
        flush.unpacks_freely = rows.in_portions = True  # a small portion stays within the call's time limit
        return
    if not is_blamed(error, rows.doubts):
        rows.doubts += 1
    if rows.in_portions or not is_blamed(error, rows.doubts):
        raise error
    line = copy_line(error.context)
    few = sum(bad.table is rows.table for bad in flush.bad) < _FEW_BAD_ROWS
    if line is not None and few and line <= rows.count and no_table_takes_it(error):
        flush.bad.append(BadRow(rows.table, rows.take_out(line), error))
    else:
        rows.in_portions = True


async def _attempt(database: Database, flush: Flush) -> None:
    outcome = Outcome(bad=list(flush.bad), duplicate=Counter(flush.stored_by_another), unknown=flush.unknown)
    is_committing = False
    try:
        async with database.transaction():
            await _write_all(database, flush, outcome)
            # Set before the COMMIT is sent: if its reply is lost and the position says that it was committed, this
            # is its outcome.
            flush.outcome = outcome
            passing("database.commit.before")
            is_committing = True
    except DatabaseError as error:
        if is_committing and may_be_of_a_row(error) and not flush.checked_at_once:
            raise _CommitError from error
        raise
    passing("database.commit.after")


async def _write_all(database: Database, flush: Flush, outcome: Outcome) -> None:
    if flush.checked_at_once:
        await database.script("SET CONSTRAINTS ALL IMMEDIATE")
    if flush.unpacks_freely:
        await database.script(_UNPACK_FREELY)
    await advance(database, flush.moves, flush.fence)
    await mark(database, flush.marks, apart=flush.marks_apart)
    if flush.direct_compress:
        await database.script(f"SET LOCAL {DIRECT_COMPRESS} = on")
    passing("database.position")
    most = max((len(rows.payload) for rows in flush.tables.values()), default=0)
    for rows in flush.tables.values():
        if flush.copying is not None and len(rows.payload) == most:
            flush.copying.set()
        if rows.count or rows.left_out:
            await _write_table(database, rows, outcome)
            passing("database.copy.after")
    await put_aside(database, [_kept(flush, row) for row in outcome.bad])


async def _write_table(database: Database, rows: Rows, outcome: Outcome) -> None:
    channel = rows.table.channel
    if rows.has_two_times:
        rows.leave_out(await two_times.already_stored(database, rows.records))
        outcome.duplicate[channel] += rows.left_out
    if not rows.count:
        return
    if rows.staged:
        await database.execute(rows.table.create_staging())
    taken = _Taken()
    if rows.in_portions:
        await _store_in_portions(database, rows, taken)
    else:
        try:
            await _store_rows(database, rows, rows.payload, rows.count, taken)
        except DatabaseError as error:
            if may_be_of_a_row(error) or error.sqlstate == _TOO_MUCH_UNPACKED:
                raise _TableError(rows, error) from error
            raise
    outcome.bad += taken.bad
    outcome.stored[channel] = taken.stored
    if taken.missing:
        outcome.missing[channel] = taken.missing
    outcome.duplicate[channel] += rows.count - len(taken.bad) - taken.stored - taken.missing


@dataclass(slots=True)
class _Taken:
    """What became of the rows of one table: how many were new, how many are not in the table although they are no
    duplicates, and those that the server refuses."""

    stored: int = 0
    missing: int = 0
    bad: list[BadRow] = field(default_factory=list)


async def _store_rows(database: Database, rows: Rows, payload: bytes, count: int, taken: _Taken) -> None:
    """COPY rows into their table, through the staging table if needed."""
    table = rows.table
    if rows.staged:
        await database.copy_text(table.staging, rows.columns, payload, schema="pg_temp")
        passing("database.merge")
        stored = await database.execute(table.merge_staging())
        missing = int(await database.fetchval(table.count_missing())) if stored < count else 0
        if rows.in_portions:
            await database.execute(f"TRUNCATE pg_temp.{table.staging}")
    else:
        stored = await database.copy_text(table.name, rows.columns, payload)
        missing = count - stored
    taken.stored += stored
    taken.missing += missing


async def _store_in_portions(database: Database, rows: Rows, taken: _Taken) -> None:
    """Store the rows in portions. Raises NoneTaken if no bad row may be put aside; then all are tried at once."""
    lines = copy_text.split(rows.payload)
    for start in range(0, len(lines), _PORTION_ROWS):
        end = start + _PORTION_ROWS
        await _store_portion(database, rows, lines[start:end], rows.records[start:end], taken)
    answers, passed = [row.answer for row in taken.bad], rows.count - len(taken.bad) - taken.missing
    try:
        require_some_taken(
            f"{rows.table.name} takes", "rows", answers, tried=rows.count, passed=passed, stored=taken.stored
        )
    except NoneTaken:
        rows.in_portions = False
        raise


async def _store_portion(
    database: Database, rows: Rows, lines: list[bytes], records: list[Record], taken: _Taken
) -> None:
    """Store these rows, each attempt in a savepoint, without those that the server refuses."""
    while lines:
        try:
            async with database.savepoint():
                await _store_rows(database, rows, b"".join(lines), len(lines), taken)
        except DatabaseError as error:
            unstaged = reaction_to(error) is Reaction.DEDUPLICATE and not rows.staged
            unforeseen = may_be_of_a_row(error) and not is_blamed(error, rows.doubts)
            if unstaged or unforeseen or error.sqlstate == _TOO_MUCH_UNPACKED:
                raise _TableError(rows, error) from error
            if not may_be_of_a_row(error):
                raise
            line = copy_line(error.context)
            if line is None and len(lines) > 1:
                half = len(lines) // 2
                await _store_portion(database, rows, lines[:half], records[:half], taken)
                lines, records = lines[half:], records[half:]
                continue
            index = (line or 1) - 1
            taken.bad.append(BadRow(rows.table, records[index], error))
            del lines[index], records[index]
        else:
            return


def _kept(flush: Flush, row: BadRow) -> Kept:
    record, answer = row.record, row.answer
    error = str(answer) if flush.origin is None else f"{answer} ({flush.origin(record)})"
    return Kept(record.received_at, row.table.name, "server", answer.sqlstate, as_json(record), error)
