"""TimescaleDB's Apache edition: hypertables, with the candles and the retention of plain PostgreSQL."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from ingestd.config.values import SymbolStyle
from ingestd.storage import migrate, retention, rollups
from ingestd.storage.doctor.description import schema_of
from ingestd.storage.engine import Engine
from ingestd.venues.market_names import KnownMarkets, Names
from tests.integration.storage.test_candles import candles, store
from tests.integration.test_sources import mistakes, prepare
from tests.support.candles import BUCKETS, TradeRow, expected_candles
from tests.support.postgres import DatabaseForTest, Server, default_config, running_server, temporary_database
from tests.support.sources import DOCUMENTS, ROOT, fixtures


@pytest.fixture(scope="module")
def apache_server() -> Iterator[Server]:
    """A server that loads the Apache edition only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("INGESTD_TEST_DSN", raising=False)
        with running_server("timescaledb", **{"timescaledb.license": "apache"}) as server:
            yield server


@pytest.fixture
def apache_database(apache_server: Server) -> Iterator[DatabaseForTest]:
    """A migrated database on it."""
    with temporary_database(apache_server) as database:
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


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_the_statements_of_the_documents(apache_server: Server, name: str) -> None:
    """Those that hold on both engines, and the document's profile. Then the pack goes."""
    document = DOCUMENTS[name]
    with temporary_database(apache_server.direct()) as created:
        database = DatabaseForTest(created.dsn, Engine.TIMESCALEDB_APACHE.value)
        await prepare(await database.connect(), document)
        failures = [
            f"{fixture.path}: {what}"
            for fixture in fixtures(name)
            if fixture.holds_on(database.engine)
            for what in await mistakes(database, document, fixture)
        ]
        assert not failures, "\n".join(failures)
        style: SymbolStyle = "compact" if name == "platform" else "unified"  # as its rows are
        db = await database.connect(names=Names(style, KnownMarkets(list)))
        profile = ROOT / "config" / "profiles" / f"{name}.toml"
        sections = tomllib.loads(profile.read_text(encoding="utf-8")) if profile.exists() else {}
        config = default_config(**{**sections, **document.config})
        await migrate.migrate(db, config)
        assert await migrate.migrate(db, config) == []
        await retention.purge(db, Engine.TIMESCALEDB_APACHE, config)
        await migrate.down(db, 0, pack=name)
        assert await db.fetchval("SELECT to_regnamespace($1)::text", schema_of(name)) is None
        await db.close()
