"""Behind PgBouncer in transaction mode: many connections take turns on two backends, and nothing passes between them.

`make pgbouncer` runs the rest of the database's tests the same way.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from ingestd.errors import DatabaseError
from ingestd.storage import leases
from ingestd.storage.database import Database
from ingestd.storage.leases import Tenant
from ingestd.storage.migrate import check_schema, migrate
from ingestd.storage.writer.tables import TABLES
from tests.support.pgbouncer import pooled
from tests.support.postgres import DatabaseForTest, Server, default_config, temporary_database

CONNECTIONS, BACKENDS, ROUNDS = 8, 2, 25


@pytest.fixture
def pooled_database(database_server: Server) -> Iterator[DatabaseForTest]:
    """An empty database of each engine, behind a pooler that has two backends for it."""
    with pooled(database_server.admin_dsn, pool_size=BACKENDS) as dsn:
        behind = Server(database_server.engine, database_server.admin_dsn, pooler_dsn=dsn)
        with temporary_database(behind, migrated=False) as created:
            yield created


@pytest.fixture
async def many(pooled_database: DatabaseForTest) -> AsyncIterator[list[Database]]:
    async with AsyncExitStack() as stack:
        opened = [await pooled_database.connect() for _ in range(CONNECTIONS)]
        for each in opened:
            stack.push_async_callback(each.close)
        await migrate(opened[0], default_config(), engine=pooled_database.choice)
        yield opened


async def test_settings_statements_and_staging_tables_stay_with_their_transaction(many: list[Database]) -> None:
    backends: set[int] = set()

    async def work(number: int, db: Database) -> None:
        draw = random.Random(number)
        for turn in range(ROUNDS):
            assert await db.fetchval("SELECT $1::int + $2::int", number, turn) == number + turn
            async with db.transaction(lock_timeout_s=100 + number):
                assert await db.fetchval("SHOW lock_timeout") == f"{100 + number}s"
                await db.execute(TABLES["trades"].create_staging())
                await asyncio.sleep(draw.random() / 500)
                assert await db.fetchval(f"SELECT count(*) FROM {TABLES['trades'].staging}") == 0
                backends.add(await db.fetchval("SELECT pg_backend_pid()"))
            assert await db.fetchval("SHOW lock_timeout") == "0"
            with pytest.raises(DatabaseError, match="does not exist"):
                await db.fetchval(f"SELECT count(*) FROM {TABLES['trades'].staging}")

    await asyncio.gather(*(work(number, db) for number, db in enumerate(many)))
    assert len(backends) == BACKENDS


async def test_the_schema_and_the_lease_need_no_session(many: list[Database], pooled_database: DatabaseForTest) -> None:
    for db in many:
        assert (await check_schema(db)).value.startswith(pooled_database.engine)
    tenants = [Tenant("desk", f"host-{number}") for number in range(CONNECTIONS)]
    taken = await asyncio.gather(*(leases.take(db, tenant, None, 60) for db, tenant in zip(many, tenants, strict=True)))
    holders = [term.holder for term in taken if term is not None]
    assert len(holders) == 1
    # Whatever backend the next statement gets, the lease is still held, and by the same one.
    for db, tenant in zip(many, tenants, strict=True):
        newest = await leases.newest(db, tenant)
        assert newest is not None
        assert (newest[0].holder, newest[1]) == (holders[0], False)
