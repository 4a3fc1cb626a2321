"""Statements on the tables of the pack platform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingestd.errors import DatabaseError, SchemaError
from ingestd.storage.database import Database, Row

_NO_TABLE = ("42P01", "3F000")


async def fetch(db: Database, sql: str, *args: object) -> Sequence[Row]:
    """The rows. Raises SchemaError if the database does not have the pack."""
    try:
        return await db.fetch(sql, *args)
    except DatabaseError as error:
        if error.sqlstate in _NO_TABLE:
            hint = 'put packs = ["platform"] into [database], and run `ingestd migrate -c FILE`'
            raise SchemaError(f"{db.target}: has no such table of the pack platform: {hint}") from error
        raise


async def value(db: Database, sql: str, *args: object) -> Any:
    """The first column of the first row, or None."""
    rows = await fetch(db, sql, *args)
    return next(iter(rows[0].values())) if rows else None


async def write(db: Database, sql: str, *args: object) -> Sequence[Row]:
    """What the statement returns, committed. Raises RuntimeError in an open transaction."""
    require_no_transaction(db)
    return await fetch(db, sql, *args)


def require_no_transaction(db: Database) -> None:
    """Raise RuntimeError in an open transaction: a cache may be told of a write only once it is committed."""
    if db.in_transaction:
        raise RuntimeError(
            "a transaction is open: write outside of it, or with SQL of your own and Cache.forget after it"
        )
