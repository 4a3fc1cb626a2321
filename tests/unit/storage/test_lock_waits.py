"""What cannot get its locks is tried again, and gives up with the name of who holds them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from ingestd.errors import DatabaseError, SchemaError
from ingestd.storage import lock_waits
from ingestd.storage.database import Database


class Server:
    """Answers the one question that is asked in the end."""

    target = "market on db1"

    async def fetchrow(self, _sql: str) -> dict[str, Any]:
        return {"name": "psql", "pid": 4711, "xact_start": datetime(2026, 11, 1, 9, 30, tzinfo=UTC)}


class Work:
    """Fails with these SQLSTATEs first, one after the other, then succeeds."""

    def __init__(self, *sqlstates: str) -> None:
        self.failures = list(sqlstates)
        self.attempts = 0

    async def __call__(self) -> str:
        self.attempts += 1
        if self.failures:
            raise DatabaseError("canceling statement due to lock timeout", sqlstate=self.failures.pop(0))
        return "done"


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch) -> Database:
    async def at_once(_delay_s: float) -> None: ...

    monkeypatch.setattr("asyncio.sleep", at_once)
    return cast(Database, Server())


async def test_a_lock_that_is_not_free_and_a_deadlock_are_tried_again(db: Database) -> None:
    work = Work("55P03", "40P01", "55P03")
    assert await lock_waits.retried(db, "migration 0026_a", work) == "done"
    assert work.attempts == 4


@pytest.mark.parametrize("sqlstate", ["42P07", "57014", "53100"])
async def test_any_other_error_is_not(db: Database, sqlstate: str) -> None:
    work = Work(sqlstate)
    with pytest.raises(DatabaseError):
        await lock_waits.retried(db, "migration 0026_a", work)
    assert work.attempts == 1


async def test_it_gives_up_and_names_the_oldest_transaction(db: Database) -> None:
    work = Work(*["55P03"] * 50)
    with pytest.raises(SchemaError) as raised:
        await lock_waits.retried(db, "migration 0026_a", work, give_up_after_s=-1)
    assert str(raised.value) == (
        "market on db1: migration 0026_a got no lock within -1 s: the oldest transaction is of 'psql', server process "
        "4711, open since 09:30:00 UTC; it is not done: end that transaction, or try again later"
    )
    assert work.attempts == 1
