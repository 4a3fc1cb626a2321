"""What becomes of a row that the server refuses: when it is given up, and how it is kept in `rejected_records`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from ingestd.errors import DatabaseError, NoneTaken, Reaction, may_be_of_a_row, reaction_to
from ingestd.storage.database import Database
from ingestd.storage.writer import copy_text
from ingestd.storage.writer.tables import TABLES

log = structlog.get_logger()

# So often in a row a flush fails with what nobody foresaw before it is asked which row that belongs to.
DOUBTS_ENOUGH = 3

_BEGINNING = 500  # characters of a document of which the whole is refused
_of_code = re.compile(r"^(?:PL/|SQL)", re.MULTILINE).search  # a line of CONTEXT about a function
_BLAMED = (Reaction.REJECT_ROW, Reaction.REJECT_AMONG_OTHERS, Reaction.DEDUPLICATE)


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of `rejected_records`: `document` is the JSON of what was refused."""

    at_us: int
    table: str
    reason: str
    sqlstate: str | None
    document: str
    error: str | None

    def line(self) -> str:
        return copy_text.rejected(self.at_us, self.table, self.reason, self.sqlstate, self.document, self.error)

    def shortened(self) -> Kept:
        """What a table takes that refuses the whole: how the document begins, and nothing that is not ASCII."""
        document = json.dumps({"characters": len(self.document), "begins": self.document[:_BEGINNING]})
        error = None if self.error is None else self.error.encode("ascii", "backslashreplace").decode()[:_BEGINNING]
        return Kept(self.at_us, self.table, self.reason, self.sqlstate, document, error)


def is_blamed(error: DatabaseError, doubts: int) -> bool:
    """Whether to look for the row that this belongs to: at once where that is known of such errors, else after `doubts`
    failures in a row."""
    return reaction_to(error) in _BLAMED or (may_be_of_a_row(error) and doubts >= DOUBTS_ENOUGH)


def no_table_takes_it(error: DatabaseError) -> bool:
    """Whether the row is refused for its values alone: a trigger or function of the table may raise any error."""
    return reaction_to(error) is Reaction.REJECT_ROW and not _of_code(error.context)


def require_some_taken(
    taker: str, what: str, errors: Sequence[DatabaseError], *, tried: int, passed: int, stored: int
) -> None:
    """Raises NoneTaken, with the server's answer, if a table refused rows of which none may be put aside.

    `tried` rows were sent, `passed` of them were not refused, `stored` of these are stored by the same transaction. A
    rule that refuses all of several rows is wrong itself, or what it needs is not there yet. After an error that nobody
    foresaw, only another row that is stored shows that the table works.
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
    """Keep these, in the caller's transaction; of one that `rejected_records` itself refuses, how it begins."""
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
        payload = copy_text.payload(row.line() for row in rows)
        await database.copy_text("rejected_records", TABLES["rejected_records"].columns, payload)
