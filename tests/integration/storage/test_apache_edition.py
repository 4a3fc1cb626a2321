"""TimescaleDB's Apache edition: hypertables, with the candles and the retention of plain PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from ingestd.storage import migrate, retention, rollups
from ingestd.storage.engine import Engine
from tests.integration.storage.test_candles import candles, store
from tests.support.candles import BUCKETS, TradeRow, expected_candles
from tests.support.postgres import DatabaseForTest, default_config, running_server, temporary_database


@pytest.fixture
def apache_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseForTest]:
    """A migrated database on a server that loads the Apache edition only."""
    monkeypatch.delenv("INGESTD_TEST_DSN", raising=False)
    with (
        running_server("timescaledb", **{"timescaledb.license": "apache"}) as server,
        temporary_database(server) as database,
    ):
        yield database


async def test_candles_retention_and_the_way_back(apache_database: DatabaseForTest) -> None:
    db = await apache_database.connect()
    engine = await migrate.check_schema(db)
    assert engine is Engine.TIMESCALEDB_APACHE
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = [
        TradeRow(today - timedelta(days=age, seconds=number), "BTC/USDT", f"{age}-{number}", number, "buy", "1.50", "2")
        for age in (40, 3)
        for number in range(4)
    ]
    await store(db, rows)
    assert await rollups.refresh(db, engine) > 0
    for relation, bucket in BUCKETS.items():
        assert await candles(db, relation) == expected_candles(rows, bucket), relation
    config = default_config(retention={"trades_days": 10}, chunks={"trades_days": 2})
    assert await migrate.migrate(db, config) == [
        "trades: chunk interval 1 day -> 2 days (chunks that exist stay as they are)"
    ]
    await retention.purge(db, engine, config)
    assert await db.fetchval("SELECT count(*) FROM trades") == 4
    assert await candles(db, "candles_1d") == expected_candles(rows, BUCKETS["candles_1d"])
    await migrate.down(db, 0)
    await db.close()
