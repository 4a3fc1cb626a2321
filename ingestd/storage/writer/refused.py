"""Rows that the server refuses: when to give one up, and how it is kept in `rejected_records`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from ingestd.errors import DatabaseError, NoneTaken, Reaction, may_be_of_a_row, reaction_to
from ingestd.storage.database import Database
from ingestd.storage.writer import copy_text
from ingestd.storage.writer.tables import TABLES

log = structlog.get_logger()

# After this many failures in a row with an unknown error, the writer looks for the row that causes it.
DOUBTS_ENOUGH = 3

_BEGINNING = 500  # characters kept of a document that the table refuses as a whole
_of_code = re.compile(r"^(?:PL/|SQL)", re.MULTILINE).search  # a line of CONTEXT about a function
_BLAMED = (Reaction.REJECT_ROW, Reaction.REJECT_AMONG_OTHERS, Reaction.DEDUPLICATE)


class Kept(NamedTuple):
    """A row of `rejected_records`: `document` is the JSON of what was refused."""

    at_us: int
    table: str
    reason: str
    sqlstate: str | None
    document: str
    error: str | None

    def shortened(self) -> Kept:
        """This row with a document that any table accepts: the beginning of its own, in ASCII."""
        document = json.dumps({"characters": len(self.document), "begins": self.document[:_BEGINNING]})
        error = None if self.error is None else self.error.encode("ascii", "backslashreplace").decode()[:_BEGINNING]
        return self._replace(document=document, error=error)


def is_blamed(error: DatabaseError, doubts: int) -> bool:
    """Whether to look for the row that causes this error: at once for errors known to be of a row, for unknown ones
    after DOUBTS_ENOUGH consecutive failures. `doubts` is their number."""
    return reaction_to(error) in _BLAMED or (may_be_of_a_row(error) and doubts >= DOUBTS_ENOUGH)


def no_table_takes_it(error: DatabaseError) -> bool:
    """Whether the row is refused for its values alone, and not by a trigger or function, which may raise any error."""
    return reaction_to(error) is Reaction.REJECT_ROW and not _of_code(error.context)


def require_some_taken(
    taker: str, what: str, errors: Sequence[DatabaseError], *, tried: int, passed: int, stored: int
) -> None:
    """Raise NoneTaken, with the server's answer, if a table refused rows and none of them may be put aside.

    `tried` rows were sent, `passed` were not refused, `stored` of these are stored by the same transaction. If all of
    several rows are refused, the constraint is wrong, or what it needs is missing. After an unknown error only another
    stored row shows that the table works.
    """
    for error in errors:
        if no_table_takes_it(error):
            continue
        may_go = stored if reaction_to(error) not in _BLAMED else passed or tried == 1
        if not may_go:
            raise NoneTaken(
                f"{taker} none of the {tried} {what} that wait: {error}",
                sqlstate=error.sqlstate,
                context=error.context,
                detail=error.detail,
            )


async def put_aside(database: Database, rows: Sequence[Kept]) -> None:
    """Store these in `rejected_records`, in the caller's transaction; if it refuses one, store the beginning of it."""
    if not rows:
        return
    try:
        await _copy(database, rows)
    except DatabaseError as error:
        if not may_be_of_a_row(error):
            raise
        for row in rows:
            try:
                await _copy(database, [row])
            except DatabaseError as refusal:
                if not may_be_of_a_row(refusal):
                    raise
                log.error("rejection_shortened", table=row.table, error=str(refusal))
                await _copy(database, [row.shortened()])


async def _copy(database: Database, rows: Sequence[Kept]) -> None:
    async with database.savepoint():
        payload = copy_text.payload(copy_text.rejected(*row) for row in rows)
        await database.copy_text("rejected_records", TABLES["rejected_records"].columns, payload)
