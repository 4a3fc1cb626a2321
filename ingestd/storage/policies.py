"""Chunk intervals, compression and retention: made equal to the configuration by `ingestd migrate`."""

from __future__ import annotations

from dataclasses import dataclass

from ingestd.config import Config
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the database and the configuration: said, and as the SQL that removes it."""

    text: str
    sql: str


async def changes(db: Database, engine: Engine, config: Config) -> list[Change]:
    """What differs now; changes nothing."""
    return []


async def converge(db: Database, engine: Engine, config: Config) -> list[str]:
    """Remove every difference; what was changed, one line each."""
    found = await changes(db, engine, config)
    for change in found:
        await db.script(change.sql)
    return [change.text for change in found]
