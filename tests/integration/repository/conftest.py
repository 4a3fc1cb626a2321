"""A front of the repository on a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ingestd.repository import make_engine
from tests.integration.repository.fronts import Front, OnAsyncpg, OnSqlAlchemy
from tests.support.postgres import DatabaseForTest
from tests.support.time_limits import AT_LENGTH

# The code of both is the same, but for sending a query. At length each is tried on each engine.
_USUAL = {"timescaledb": "sqlalchemy", "postgres": "asyncpg"}


@pytest.fixture(params=["sqlalchemy", "asyncpg"] if AT_LENGTH else ["usual"])
def front(request: pytest.FixtureRequest, database: DatabaseForTest) -> Iterator[Front]:
    """SQLAlchemy on TimescaleDB, asyncpg on PostgreSQL; at length each front on each engine."""
    kind = _USUAL[database.engine] if request.param == "usual" else request.param
    if kind == "asyncpg":
        yield OnAsyncpg(database.dsn)
        return
    engine = make_engine(database.dsn, pool_size=1, max_overflow=1)
    yield OnSqlAlchemy(engine)
    engine.dispose()
