"""Migrations on real servers: up, down, again, and every way a database can contradict the files."""

from __future__ import annotations

import pytest

from ingestd.errors import ConfigError, SchemaError
from ingestd.status import MarketInfo
from ingestd.storage import engine as engines
from ingestd.storage import migrate, symbols
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migration_steps import LOCK_KEY
from ingestd.storage.migrations import Migration
from tests.support.postgres import DatabaseForTest, default_config
from tests.support.time_limits import AT_LENGTH


async def test_up_down_up_leaves_nothing_behind(empty_database: DatabaseForTest) -> None:
    async with connected(empty_database) as db:
        assert await migrate.migrate(db, default_config(), engine=empty_database.choice)
        first = await relations(db)
        assert await migrate.check_schema(db) is Engine(empty_database.engine)
        undone = await migrate.down(db, 0)
        assert undone[-1] == "undid 0001_market_tables"
        assert await relations(db) == {"ingestd_migrations"}
        assert await migrate.down(db, 0) == []
        assert await migrate.migrate(db, default_config(), engine=empty_database.choice)
        assert await relations(db) == first


async def test_each_step_can_be_undone_alone(database: DatabaseForTest) -> None:
    async with connected(database) as db:
        await db.execute("ANALYZE")  # as autovacuum does sooner or later: the server then chooses other plans
        before = [line for line in await migrate.status(db) if line.applied_at is not None]
        for target in sorted((line.version for line in before[:-1]), reverse=True):
            await migrate.down(db, target)
            assert max(line.version for line in await migrate.status(db) if line.applied_at is not None) == target
            if AT_LENGTH or target % 4 == 1:  # up again takes long: beside other tests from every fourth
                await migrate.migrate(db, default_config())
                await migrate.check_schema(db)


async def test_markets_that_shared_a_short_name_get_their_own_at_the_next_listing(database: DatabaseForTest) -> None:
    old = [("BTC/USD:BTC", "BTCUSD"), ("BTC/USD:USD", "BTCUSD"), ("ETH/USD:USD", "ETHUSD")]
    async with connected(database) as db:
        await migrate.down(db, 11)
        for symbol, compact in old:
            await db.execute(
                "INSERT INTO symbols (exchange, symbol, compact) VALUES ('krakenfutures', $1, $2)", symbol, compact
            )
        await migrate.migrate(db, default_config())
        listed = [MarketInfo("krakenfutures", name, name, "", "USD", "swap", True) for name, _ in old[:2]]
        await symbols.upsert_symbols(db, listed)
        rows = await db.fetch("SELECT symbol, compact FROM symbols ORDER BY symbol")
        assert [tuple(row.values()) for row in rows] == [
            ("BTC/USD:BTC", "BTCUSD.BTC"),
            ("BTC/USD:USD", "BTCUSD"),
            ("ETH/USD:USD", "ETH/USD:USD"),  # no longer listed: its old name may be another's by now
        ]


async def test_a_second_run_changes_nothing(db: Database) -> None:
    assert await migrate.migrate(db, default_config()) == []
    assert await migrate.plan(db, default_config()) == ""


async def test_plan_shows_the_sql_and_changes_nothing(empty_database: DatabaseForTest) -> None:
    async with connected(empty_database) as db:
        before = await relations(db)
        text = await migrate.plan(db, default_config(), engine=empty_database.choice)
        assert "CREATE TABLE market_ticks" in text
        assert ("CREATE EXTENSION" in text) == (empty_database.engine == "timescaledb")
        assert await relations(db) == before


async def test_an_unmigrated_database_is_refused(empty_database: DatabaseForTest) -> None:
    async with connected(empty_database) as db:
        with pytest.raises(SchemaError, match="run `ingestd migrate -c FILE`"):
            await migrate.check_schema(db)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE ingestd_migrations SET checksum = 'x' WHERE version = 2", "has changed since it was applied"),
        ("UPDATE ingestd_migrations SET version = 9999 WHERE version = 2", "newer than this program knows"),
        (
            "INSERT INTO ingestd_migrations (version, name, checksum, engine, program_version)"
            " SELECT 0, 'gone', 'x', engine, '0' FROM ingestd_migrations LIMIT 1",
            "its file is missing",
        ),
        ("DELETE FROM ingestd_migrations WHERE version = 1", "was never applied although"),
        ("UPDATE ingestd_migrations SET engine = 'other'", "was set up for other but is now"),
    ],
)
async def test_contradictions_are_refused(db: Database, damage: str, message: str) -> None:
    await db.execute(damage)
    with pytest.raises(SchemaError, match=message):
        await migrate.check_schema(db)
    with pytest.raises(SchemaError, match=message):
        await migrate.migrate(db, default_config())


async def test_who_holds_the_lock_is_named(database: DatabaseForTest) -> None:
    holder = await database.connect(application_name="the other migration")
    async with connected(database) as db, holder.transaction():
        await holder.execute(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
        with pytest.raises(SchemaError, match=r"the other migration.*waited 0\.2 s"):
            await migrate.migrate(db, default_config(), lock_timeout_s=0.2)
        assert not db.is_closed
    await holder.close()


async def test_a_failing_migration_leaves_nothing(
    empty_database: DatabaseForTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Migration(1, "broken", "CREATE TABLE half (x integer); SELECT 1/0", "DROP TABLE half")
    monkeypatch.setattr("ingestd.storage.migrations.load", lambda _engine: [broken])
    async with connected(empty_database) as db:
        with pytest.raises(SchemaError, match=r"migration 0001_broken failed: division by zero \[22012\]"):
            await migrate.migrate(db, default_config(), engine=empty_database.choice)
        assert "half" not in await relations(db)


async def test_policies_follow_the_configuration(timescaledb_database: DatabaseForTest) -> None:
    changed = default_config(
        retention={"trades_days": 2, "funding_days": 0},
        chunks={"trades_days": 2},
        compression={"order_book_after_days": 0},
    )
    async with connected(timescaledb_database) as db:
        assert await migrate.migrate(db, changed) == [
            "trades: chunk interval 1 day -> 2 days (chunks that exist stay as they are)",
            "order_book: compressed after 1 day -> never",
            "trades: dropped after 365 days -> 2 days",
            "funding: dropped after 365 days -> never",
            "candles_1m: refreshed every 00:01:00, back to 1 day, up to 00:01:00 ago",
        ]
        assert await migrate.migrate(db, changed) == []
        await db.execute("SELECT remove_retention_policy('candles_1d')")
        assert await migrate.migrate(db, changed) == ["candles_1d: dropped after never -> 3650 days"]


async def test_every_refresh_window_lies_inside_the_retention(timescaledb_database: DatabaseForTest) -> None:
    tight = default_config(retention={"trades_days": 1, "market_ticks_days": 1, "candles_1h_days": 4})
    async with connected(timescaledb_database) as db:
        await migrate.migrate(db, tight)
        unsafe = await db.fetch(
            "SELECT refresh.hypertable_name"
            " FROM timescaledb_information.jobs AS refresh"
            " JOIN timescaledb_information.continuous_aggregates AS view ON view.view_name = refresh.hypertable_name"
            " JOIN timescaledb_information.jobs AS retention ON retention.proc_name = 'policy_retention'"
            " AND retention.hypertable_name IN (view.view_name, CASE view.hypertable_name"
            "   WHEN 'trades' THEN 'trades' WHEN 'market_ticks' THEN 'market_ticks' ELSE ("
            "   SELECT source.view_name FROM timescaledb_information.continuous_aggregates AS source"
            "   WHERE source.materialization_hypertable_name = view.hypertable_name) END)"
            " WHERE refresh.proc_name = 'policy_refresh_continuous_aggregate'"
            " AND (refresh.config->>'start_offset')::interval >= (retention.config->>'drop_after')::interval"
        )
        assert unsafe == []


async def test_a_retention_too_short_for_a_rollup_is_refused(db: Database) -> None:
    with pytest.raises(ConfigError, match=r"retention\.candles_1d_days: is too short to build candles_1w"):
        await migrate.migrate(db, default_config(retention={"candles_1d_days": 7}))


async def test_plain_engine_refuses_a_timescale_database(timescaledb_database: DatabaseForTest) -> None:
    async with connected(timescaledb_database) as db:
        with pytest.raises(SchemaError, match="the plain engine needs a database without"):
            await migrate.migrate(db, default_config(), engine="postgres")


async def test_timescaledb_asked_for_where_it_is_not(postgres_database: DatabaseForTest) -> None:
    async with connected(postgres_database) as db:
        assert await engines.obstacle_to_extension(db) is not None
        await migrate.down(db, 0)
        with pytest.raises(SchemaError, match="does not have the timescaledb extension"):
            await migrate.migrate(db, default_config(), engine="timescaledb")


class connected:
    """A connection for the length of a block."""

    def __init__(self, database: DatabaseForTest) -> None:
        self._database = database

    async def __aenter__(self) -> Database:
        self._connection = await self._database.connect(application_name="test")
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def relations(db: Database) -> set[str]:
    """Every table, view, index, function and trigger of ours."""
    rows = await db.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm', 'S')"
        " UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'ingestd%'"
        " UNION ALL SELECT tgname FROM pg_trigger WHERE tgname LIKE '%_mark_%'"
    )
    return {row["relname"] for row in rows}
