"""One flush: rows and the positions they came from in one transaction, so that each batch is stored exactly once.

UPDATE ingest_positions … WHERE position = <what it was>     no row: already stored, or fenced off
COPY each table                                              duplicates: through a staging table
COMMIT                                                       reply lost: the position row tells
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ingestd.errors import DatabaseError, Reaction, copy_line, reaction_to
from ingestd.records import Record
from ingestd.sinks.timescale import copy_text
from ingestd.sinks.timescale.positions import Move, advance, mark
from ingestd.sinks.timescale.tables import TABLES, OnConflict, Table
from ingestd.storage.database import Database

# So many bad rows are picked out one COPY each; beyond that the table is written in small portions.
_FEW_BAD_ROWS = 8
_PORTION_ROWS = 100


@dataclass(slots=True)
class Rows:
    """The rows of one table in one flush, and the records they came from."""

    table: Table
    lines: list[str]
    records: list[Record]
    staged: bool = False  # a unique violation was met: go through the staging table
    in_portions: bool = False  # many bad rows were met


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row the server refused, and its answer."""

    table: Table
    record: Record
    sqlstate: str
    error: str


@dataclass(slots=True)
class Outcome:
    """What one transaction did, by channel; true only once it is known to be committed."""

    stored: dict[str, int] = field(default_factory=dict)
    duplicate: dict[str, int] = field(default_factory=dict)
    bad: list[BadRow] = field(default_factory=list)


@dataclass(slots=True)
class Flush:
    """What is to be stored with which steps, and what the last transaction that reached its COMMIT did.

    `origin` says where a row came from, for the error text of one that the server refuses.
    """

    moves: tuple[Move, ...]
    marks: Mapping[str, int]
    tables: dict[str, Rows]
    origin: Callable[[Record], str] | None = None
    bad: list[BadRow] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)


def prepare(
    moves: Sequence[Move],
    records: Sequence[Record],
    *,
    marks: Mapping[str, int] | None = None,
    origin: Callable[[Record], str] | None = None,
) -> Flush:
    """Build every COPY line once; a retry reuses them."""
    grouped: dict[str, list[Record]] = {}
    for record in records:
        grouped.setdefault(copy_text.table_of(record), []).append(record)
    tables = {
        name: Rows(TABLES[name], copy_text.lines(members), members, staged=_replaces(TABLES[name]))
        for name, members in grouped.items()
    }
    return Flush(tuple(moves), marks or {}, tables, origin)


async def write(database: Database, flush: Flush) -> None:
    """Store the flush, whatever its rows: bad ones are put aside, duplicates counted.

    Raises ConnectionLost when the outcome is unknown, Superseded when the position is not where it was, DatabaseError
    for what only time or a person can cure.
    """
    while True:
        try:
            await _attempt(database, flush)
        except _TableError as failure:
            _learn(flush, failure)
        else:
            return


class _TableError(Exception):
    """A COPY or merge of one table failed with something this module can cure."""

    def __init__(self, rows: Rows, error: DatabaseError) -> None:
        super().__init__(str(error))
        self.rows = rows
        self.error = error


def _learn(flush: Flush, failure: _TableError) -> None:
    """Change the flush so that the next attempt gets further: every call shrinks, stages or splits something."""
    rows, error = failure.rows, failure.error
    if reaction_to(error) is Reaction.DEDUPLICATE and not rows.staged:
        rows.staged = True
        return
    if rows.in_portions:
        raise error
    line = copy_line(error.context)
    few = sum(bad.table is rows.table for bad in flush.bad) < _FEW_BAD_ROWS
    if line is not None and few and 0 < line <= len(rows.lines):
        rows.lines.pop(line - 1)
        flush.bad.append(_bad_row(rows.table, rows.records.pop(line - 1), error))
    else:
        rows.in_portions = True


async def _attempt(database: Database, flush: Flush) -> None:
    outcome = Outcome(bad=list(flush.bad))
    async with database.transaction():
        await advance(database, flush.moves)
        await mark(database, flush.marks)
        for rows in flush.tables.values():
            if rows.lines:
                await _write_table(database, rows, outcome)
        await _write_rejected(database, flush, outcome.bad)
        # Set before the COMMIT is sent: when its reply is lost and the position says committed, this is what it did.
        flush.outcome = outcome


async def _write_table(database: Database, rows: Rows, outcome: Outcome) -> None:
    table = rows.table
    target = table.name
    if rows.staged:
        target = table.staging
        await database.execute(table.create_staging())
    copied = len(rows.lines)
    if rows.in_portions:
        bad = await _copy_in_portions(database, rows, target)
        outcome.bad.extend(bad)
        copied -= len(bad)
    else:
        async with _blamed_on(rows):
            await database.copy_text(target, table.columns, copy_text.payload(rows.lines))
    stored = copied
    if rows.staged:
        async with _blamed_on(rows):
            stored = await database.execute(table.merge_staging())
    outcome.stored[table.channel] = stored
    outcome.duplicate[table.channel] = copied - stored


async def _copy_in_portions(database: Database, rows: Rows, target: str) -> list[BadRow]:
    bad: list[BadRow] = []
    for start in range(0, len(rows.lines), _PORTION_ROWS):
        end = start + _PORTION_ROWS
        bad += await _copy_portion(database, rows, target, rows.lines[start:end], rows.records[start:end])
    return bad


async def _copy_portion(
    database: Database, rows: Rows, target: str, lines: list[str], records: list[Record]
) -> list[BadRow]:
    """Each attempt in a savepoint; the rows the server refuses are returned, the others are stored."""
    bad: list[BadRow] = []
    while lines:
        try:
            async with database.savepoint():
                await database.copy_text(target, rows.table.columns, copy_text.payload(lines))
        except DatabaseError as error:
            if reaction_to(error) is Reaction.DEDUPLICATE and not rows.staged:
                raise _TableError(rows, error) from error
            if reaction_to(error) is not Reaction.REJECT_ROW:
                raise
            line = copy_line(error.context)
            if line is None and len(lines) > 1:
                half = len(lines) // 2
                bad += await _copy_portion(database, rows, target, lines[:half], records[:half])
                lines, records = lines[half:], records[half:]
                continue
            index = (line or 1) - 1
            bad.append(_bad_row(rows.table, records[index], error))
            lines = lines[:index] + lines[index + 1 :]
            records = records[:index] + records[index + 1 :]
        else:
            break
    return bad


@asynccontextmanager
async def _blamed_on(rows: Rows) -> AsyncIterator[None]:
    try:
        yield
    except DatabaseError as error:
        if reaction_to(error) in (Reaction.DEDUPLICATE, Reaction.REJECT_ROW):
            raise _TableError(rows, error) from error
        raise


def _bad_row(table: Table, record: Record, error: DatabaseError) -> BadRow:
    return BadRow(table, record, error.sqlstate, str(error))


async def _write_rejected(database: Database, flush: Flush, bad: list[BadRow]) -> None:
    if bad:
        lines = [
            copy_text.rejected_row(row.record, row.table.name, row.sqlstate, _with_origin(flush, row)) for row in bad
        ]
        await database.copy_text("rejected_records", TABLES["rejected_records"].columns, copy_text.payload(lines))


def _with_origin(flush: Flush, row: BadRow) -> str:
    return row.error if flush.origin is None else f"{row.error} ({flush.origin(row.record)})"


def _replaces(table: Table) -> bool:
    return table.on_conflict is OnConflict.REPLACE
