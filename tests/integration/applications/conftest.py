"""A database with the pack platform and one user, and a Redis of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from ingestd.applications import Cache
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate
from tests.support.postgres import DatabaseForTest, default_config

USER = 7


@pytest.fixture
async def platform(postgres_database: DatabaseForTest) -> DatabaseForTest:
    """A migrated database with the pack, and users 7 and 8."""
    db = await postgres_database.connect()
    await migrate(db, default_config(database={"dsn": postgres_database.dsn, "packs": ["platform"]}), engine="postgres")
    await db.execute(
        "INSERT INTO platform.users (id, username, email, password_hash)"
        " VALUES (7, 'alice', 'a@example.org', '-'), (8, 'bob', 'b@example.org', '-')"
    )
    await db.close()
    return postgres_database


@pytest.fixture
async def db(platform: DatabaseForTest) -> AsyncIterator[Database]:
    connection = await platform.connect(call_timeout_s=60)
    yield connection
    await connection.close()


@pytest.fixture
async def cache(make_server: Callable[..., EmbeddedValkey]) -> AsyncIterator[Cache]:
    async with Cache.at(make_server().url, reply_timeout_s=10) as cache:
        yield cache
