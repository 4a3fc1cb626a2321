"""How far each source is stored: rows of `ingest_positions`, moved in the transaction that stores the records.

A position moves by compare-and-set on (source, position, epoch). So a transaction whose reply was lost is not stored
twice, and a writer that lost its source to another one (which raised the epoch) can store nothing more of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from ingestd.errors import DatabaseError, MarkRefused, Superseded
from ingestd.storage import leases
from ingestd.storage.database import Database
from ingestd.storage.leases import Fence
from ingestd.storage.writer.refused import is_blamed

log = structlog.get_logger()

_LOCK_NOT_AVAILABLE = "55P03"

WRITES_AS = 26
"""The number of the newest expanding migration: this program writes what it added. Kept with each position, so that
`ingestd migrate` knows whether a program of before still writes."""


@dataclass(frozen=True, slots=True)
class Place:
    """A row of `ingest_positions`."""

    position: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Move:
    """One source's step in a flush."""

    source: str
    from_position: int
    to_position: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Mark:
    """The highest stored place of a journal whose messages may come again, and when the newest record up to it was
    received, in microseconds since 1970. The row's column `epoch` holds that time: such a row fences nobody off."""

    position: int
    received_at: int


async def advance(database: Database, moves: Sequence[Move], fence: Fence | None = None) -> None:
    """Move the positions, in the caller's transaction. Raises Superseded, which names the rows that were not where they
    should be, or Fenced if the lease has a newer term than the fence names.

    The fence takes no lock, so a frozen writer does not stop another daemon from taking the lease. What it still stores
    it received in its own term.
    """
    rows = await database.fetch(
        "UPDATE ingest_positions AS stored SET position = step.to_position, updated_at = now(), "
        "schema_version = $7, schema_position = step.to_position "
        "FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) "
        "AS step (source, from_position, to_position, epoch) "
        "WHERE stored.source = step.source AND stored.position = step.from_position AND stored.epoch = step.epoch "
        "AND NOT EXISTS (SELECT FROM ingest_leases WHERE lease = $5 AND ingest_leases.epoch > $6) "
        "RETURNING stored.source",
        [move.source for move in moves],
        [move.from_position for move in moves],
        [move.to_position for move in moves],
        [move.epoch for move in moves],
        None if fence is None else fence.lease,
        None if fence is None else fence.epoch,
        WRITES_AS,
    )
    moved = {row["source"] for row in rows}
    late = [move for move in moves if move.source not in moved]
    if late:
        if fence is not None:
            await leases.require(database, fence)
        first = late[0]
        raise Superseded(
            f"the position of {first.source} is no longer {first.from_position} in epoch {first.epoch}",
            frozenset(move.source for move in late),
        )


async def read(database: Database, sources: Sequence[str]) -> dict[str, Place]:
    """The positions of these sources; a source that was never stored is left out.

    The server may still be committing for a writer that was killed: this waits for its row locks.
    """
    rows = await database.fetch(
        "SELECT source, position, epoch FROM ingest_positions WHERE source = ANY($1::text[]) FOR UPDATE", list(sources)
    )
    return {row["source"]: Place(row["position"], row["epoch"]) for row in rows}


async def claim(database: Database, sources: Sequence[str], *, stalled_after_s: float) -> dict[str, Place]:
    """Take these sources over: raise their epochs, which fences off the writer before. Epoch 1: never stored.

    A writer that froze in the middle of a transaction still holds the rows' locks. If it has kept the server waiting
    for longer than `stalled_after_s`, its session is ended.
    """
    try:
        async with database.transaction():
            rows = await database.fetch(
                "INSERT INTO ingest_positions AS stored (source, position, epoch) "
                "SELECT source, 0, 1 FROM unnest($1::text[]) AS wanted (source) ORDER BY source "
                "ON CONFLICT (source) DO UPDATE SET epoch = stored.epoch + 1 "
                "RETURNING source, position, epoch",
                list(sources),
            )
    except DatabaseError as error:
        if error.sqlstate == _LOCK_NOT_AVAILABLE:
            await leases.disconnect_stalled(database, stalled_after_s)
        raise
    return {row["source"]: Place(row["position"], row["epoch"]) for row in rows}


async def mark(database: Database, marks: Mapping[str, Mark | None], *, apart: bool = False) -> None:
    """Raise these marks, and delete those that are None, inside the caller's transaction.

    Raises MarkRefused if the table refuses one of them. `apart`: each is written by itself; a refused one is logged
    and left out.
    """
    raised = sorted((source, mark) for source, mark in marks.items() if mark is not None)
    written_together = [[one] for one in raised] if apart or not raised else [raised]
    for some in written_together:
        try:
            async with database.savepoint() if apart else contextlib.nullcontext():
                await _raise(database, some)
        except DatabaseError as error:
            if not is_blamed(error, doubts=0):
                raise
            if not apart:
                raise MarkRefused(str(error)) from error
            log.error("mark_refused", source=some[0][0][:200], error=str(error))
    gone = sorted(source for source, mark in marks.items() if mark is None)
    if gone:
        await database.execute("DELETE FROM ingest_positions WHERE source = ANY($1::text[])", gone)


async def _raise(database: Database, marks: Sequence[tuple[str, Mark]]) -> None:
    await database.execute(
        "INSERT INTO ingest_positions (source, position, epoch) "
        "SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) ON CONFLICT (source) "
        "DO UPDATE SET position = EXCLUDED.position, epoch = EXCLUDED.epoch, updated_at = now()",
        [source for source, _ in marks],
        [mark.position for _, mark in marks],
        [mark.received_at for _, mark in marks],
    )


async def forget(database: Database, prefix: str, *, older_than_days: int, but: Sequence[str] = ()) -> None:
    """Delete the rows whose source begins with `prefix` and that did not move for so long, except those named."""
    sql = (
        "DELETE FROM ingest_positions WHERE starts_with(source, $1) AND source <> ALL($2::text[]) "
        "AND updated_at < now() - make_interval(days => $3)"
    )
    await database.execute(sql, prefix, list(but), older_than_days)
