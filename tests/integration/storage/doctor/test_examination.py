"""The doctor on servers: what was damaged is found, its remedy runs, and then nothing is found any more."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from ingestd.config import dsn as config_dsn
from ingestd.config.models import Config
from ingestd.storage.database import Database
from ingestd.storage.doctor import growth, indexes, sizes
from ingestd.storage.doctor.checks import CHECKS, Report, examine
from ingestd.storage.doctor.description import describe_pack, described
from ingestd.storage.doctor.drift import compare
from ingestd.storage.doctor.findings import Finding
from ingestd.storage.engine import Engine
from ingestd.storage.migrate import migrate
from ingestd.venues.market_names import KnownMarkets, Names
from tests.support.described import with_packs
from tests.support.postgres import DatabaseForTest, Server, default_config, running_server, temporary_database

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
CONFIG = default_config()


@dataclass(frozen=True)
class Damage:
    """What was done, and the check that finds it, with a word of its subject."""

    sql: str
    check: str
    subject: str
    level: str = "error"


ON_BOTH = [
    Damage("ALTER TABLE trades DROP COLUMN kind", "schema", "public.trades.kind"),
    Damage("ALTER TABLE symbols DROP COLUMN contract_size", "schema", "public.symbols.contract_size"),
    Damage("ALTER TABLE feed_gaps ALTER COLUMN detail TYPE varchar(9)", "schema", "public.feed_gaps.detail"),
    Damage("ALTER TABLE orders ADD COLUMN mine integer NOT NULL", "schema", "public.orders.mine"),
    Damage("ALTER TABLE symbols DROP CONSTRAINT symbols_venue_name_unique", "schema", "public.symbols"),
    Damage("ALTER TABLE feed_gaps ALTER COLUMN status DROP NOT NULL", "schema", "public.feed_gaps.status", "warning"),
    Damage("ALTER TABLE symbols DROP COLUMN compact CASCADE", "schema", "public.symbols.compact"),
    Damage("DROP TABLE venue_pauses", "schema", "public.venue_pauses"),
    Damage("DROP TABLE audit.trade_logs", "schema", "audit.trade_logs"),
    Damage("DROP VIEW candles_1month", "schema", "public.candles_1month"),
    Damage("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mine'::regclass", "indexes", "public.mine"),
]
ON_POSTGRES = [
    Damage("ALTER TABLE trades DISABLE TRIGGER USER", "schema", "public.trades"),
    Damage("DROP FUNCTION ingestd_refresh_candles", "schema", "public.ingestd_refresh_candles"),
    Damage(
        "CREATE OR REPLACE FUNCTION ingestd_mark_candles() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NULL; END'",
        "schema",
        "public.ingestd_mark_candles",
    ),
    Damage("DROP FUNCTION ingestd_mark_candles CASCADE", "schema", "public.ingestd_mark_candles"),
    Damage("DROP INDEX trades_time", "schema", "public.trades", "warning"),
    Damage("DROP TABLE candles_4h", "schema", "public.candles_4h"),
]
# Of packs, with the pack as the check.
OF_PACKS = [
    Damage("ALTER TABLE kairos.orders DROP COLUMN error_message", "kairos", "kairos.orders.error_message"),
    Damage("ALTER TABLE platform.users ALTER COLUMN email TYPE varchar(9)", "platform", "platform.users.email"),
    Damage("DROP TABLE platform.strategies CASCADE", "platform", "platform.strategies"),
    Damage("DROP TABLE fks.trades CASCADE", "fks", "fks.trades"),
    Damage("DROP INDEX fks.idx_positions_open", "fks", "fks.positions", "warning"),
    Damage("DROP VIEW kairos.market_ticks", "kairos", "kairos.market_ticks"),
    Damage(
        "DROP VIEW kairos.balances; CREATE VIEW kairos.balances AS SELECT asset, exchange, locked FROM balances",
        "kairos",
        "kairos.balances",
    ),
    Damage("DROP TRIGGER write_candle ON fks.ohlcv_data", "fks", "fks.ohlcv_data"),
    Damage("DROP TRIGGER ingestd_kairos_orders ON orders", "kairos", "ingestd_kairos_orders"),
    Damage("DROP FUNCTION kairos.keep_order CASCADE", "kairos", "kairos.keep_order()"),
    Damage("DROP FUNCTION ingestion.option_exchange CASCADE", "ingestion", "ingestion.option_exchange()"),
    Damage("DROP TABLE analytics.performance_metrics", "wolfinch", "analytics.performance_metrics"),
    Damage(
        "CREATE OR REPLACE FUNCTION analytics.measure_added() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NULL; END'",
        "wolfinch",
        "analytics.measure_added()",
    ),
]
AGGREGATES = [
    Damage("DROP MATERIALIZED VIEW fks.hourly_exchange_ohlcv CASCADE", "fks", "fks.hourly_exchange_ohlcv"),
    Damage("DROP TABLE platform.performance_metrics", "platform", "platform.performance_metrics"),
]
WITHOUT_EXTENSION = [
    Damage(
        "DROP FUNCTION fks.first_state CASCADE", "fks", "fks.first_state(text[],anyelement,timestamp with time zone)"
    ),
    Damage("DROP VIEW fks.hourly_exchange_ohlcv CASCADE", "fks", "fks.hourly_exchange_ohlcv"),
]
JOB = "(SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = '{}' AND hypertable_name = '{}')"
REFRESH = JOB.format("policy_refresh_continuous_aggregate", "candles_1m")
STAT = (
    "INSERT INTO _timescaledb_internal.bgw_job_stat SELECT job_id, now(), now(), now() + interval '1 minute', {},"
    " {}, 3, '0', '0', 0, 3, 0, 3, 0, 0 FROM timescaledb_information.jobs WHERE job_id = " + REFRESH
)
ON_TIMESCALEDB = [
    Damage("DROP MATERIALIZED VIEW candles_5m", "schema", "public.candles_5m"),
    Damage("DROP MATERIALIZED VIEW candles_1m CASCADE", "schema", "public.candles_1m"),
    Damage("ALTER TABLE trades DROP COLUMN in_candles CASCADE", "schema", "public.trades.in_candles"),
    Damage("DROP TABLE mark_prices", "schema", "public.mark_prices"),
    Damage("SELECT remove_retention_policy('trades')", "policies", "trades", "warning"),
    Damage("SELECT set_chunk_time_interval('trades', INTERVAL '3 days')", "policies", "trades", "warning"),
    Damage(
        f'SELECT alter_job({REFRESH}, config => config || \'{{"start_offset": "400 days"}}\')'
        f" FROM timescaledb_information.jobs WHERE job_id = {REFRESH}",
        "refresh windows",
        "public.candles_1m",
    ),
    Damage(f"SELECT alter_job({REFRESH}, scheduled => false)", "jobs", "candles_1m"),
    Damage("SELECT remove_continuous_aggregate_policy('candles_15m')", "aggregates", "public.candles_15m"),
]

# Functions with their owner's rights that anybody may call.
CALLABLE_BY_ALL = (
    "SELECT oid::regprocedure::text AS name FROM pg_proc WHERE prosecdef AND pronamespace <> 'pg_catalog'::regnamespace"
    " AND EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0) ORDER BY 1"
)


@pytest.fixture
def database(database_server: Server) -> Iterator[DatabaseForTest]:
    with temporary_database(database_server.direct()) as created:
        yield created


@pytest.fixture
def timescaledb_database(timescaledb_server: Server) -> Iterator[DatabaseForTest]:
    with temporary_database(timescaledb_server.direct()) as created:
        yield created


async def findings(db: Database, config: Config = CONFIG) -> dict[str, list[Finding]]:
    """All but notes, and what the test servers lack on purpose (their jobs do not run)."""
    report = await examine(db, config)
    return {
        check: serious
        for check, found in report.findings.items()
        if check != "server" and (serious := [finding for finding in found if finding.level != "note"])
    }


async def mend(db: Database, *found: Finding, config: Config = CONFIG) -> None:
    """Do what the remedies say: their SQL in this order, then their command."""
    for finding in found:
        lines = finding.remedy.splitlines()
        sql = "\n".join(line for line in lines if not line.startswith("ingestd "))
        if "-- or" in lines:
            sql = sql.partition("-- or")[0]
        if sql.startswith("CALL"):
            await db.execute(sql.partition(";")[0])
        elif sql.strip():
            await db.script(sql)
    if any("ingestd migrate -c FILE" in finding.remedy.splitlines() for finding in found):
        await migrate(db, config)


async def test_a_new_database_has_no_finding(db: Database) -> None:
    assert await findings(db) == {}


@pytest.mark.parametrize("damage", ON_BOTH, ids=lambda damage: damage.subject)
async def test_damage_is_found_and_mended(database: DatabaseForTest, damage: Damage) -> None:
    await _found_and_mended(database, damage)


@pytest.mark.parametrize("damage", ON_POSTGRES, ids=lambda damage: damage.subject)
async def test_damage_on_plain_postgresql(postgres_database: DatabaseForTest, damage: Damage) -> None:
    await _found_and_mended(postgres_database, damage)


@pytest.mark.parametrize("damage", ON_TIMESCALEDB, ids=lambda damage: f"{damage.check} {damage.subject}")
async def test_damage_on_timescaledb(timescaledb_database: DatabaseForTest, damage: Damage) -> None:
    await _found_and_mended(timescaledb_database, damage)


async def _found_and_mended(database: DatabaseForTest, damage: Damage) -> None:
    db = await database.connect()
    try:
        if "mine" in damage.subject and damage.check == "indexes":
            await db.execute("CREATE INDEX mine ON symbols (market_id)")
        await db.script(damage.sql)
        found = (await findings(db))[damage.check]
        assert found[0].level == damage.level
        assert damage.subject in found[0].subject
        await mend(db, *found)
        assert await findings(db) == {}
    finally:
        await db.close()


async def test_damage_to_packs(database_server: Server) -> None:
    with temporary_database(database_server.direct()) as database:
        db, config, engine = await database.connect(), with_packs(database.dsn), Engine(database.engine)
        await migrate(db, config)
        callable_by_all = await db.fetch(CALLABLE_BY_ALL)
        for damage in OF_PACKS + (AGGREGATES if engine is Engine.TIMESCALEDB else WITHOUT_EXTENSION):
            expected = described(engine, damage.check)
            assert expected is not None
            await db.script(damage.sql)
            found = list(compare(expected, await describe_pack(db, engine, damage.check)))
            assert (found[0].level, found[0].subject) == (damage.level, damage.subject), damage
            await mend(db, *found, config=config)
            assert list(compare(expected, await describe_pack(db, engine, damage.check))) == [], damage
        assert await db.fetch(CALLABLE_BY_ALL) == callable_by_all
        assert await findings(db, config) == {}
        await db.script(OF_PACKS[0].sql)
        (of_check,) = (await findings(db, config))["schema"]
        assert of_check.subject == OF_PACKS[0].subject
        await db.execute("UPDATE ingestd_pack_migrations SET version = 99 WHERE pack = 'kairos' AND version = 3")
        (of_version,) = (await findings(db))["schema"]
        assert of_version.subject == "pack kairos"
        await db.close()


@pytest.mark.parametrize(
    ("finished", "success", "check"),
    [("'-infinity'", "false", "jobs"), ("now() - interval '2 days'", "true", "aggregates")],
)
async def test_a_job_that_fails_or_is_late(
    timescaledb_database: DatabaseForTest, finished: str, success: str, check: str
) -> None:
    """As the server notes it: it does not run jobs here."""
    db = await timescaledb_database.connect()
    try:
        await db.execute(STAT.format(finished, success))
        (found,) = (await findings(db))[check]
        assert found.level == "error"
        assert "candles_1m" in found.subject
        number = await db.fetchval(f"SELECT {REFRESH}")
        assert found.remedy.endswith(f"CALL run_job({number});")
        await mend(db, Finding("error", "", "", f"CALL run_job({number});"))
    finally:
        await db.close()


@asynccontextmanager
async def trades_of_days(database: DatabaseForTest, days: int, *, late: timedelta) -> AsyncIterator[Database]:
    """A thousand trades for each of the last days, received so late."""
    db = await database.connect()
    try:
        await db.execute(
            "INSERT INTO trades (time, exchange, symbol, trade_id, seq, side, price, quantity, received_at)"
            " SELECT at, 'binance', 'BTC/USDT', number::text, number, 'buy', 1, 1, at + $1::interval"
            " FROM (SELECT number,"
            " $2::timestamptz - number % $3 * INTERVAL '1 day' + number * INTERVAL '1 second' AS at"
            " FROM generate_series(1, 1000 * $3) AS number) AS made",
            late,
            TODAY - timedelta(days=1),
            days,
        )
        yield db
    finally:
        await db.close()


async def test_late_rows_are_found(database: DatabaseForTest) -> None:
    async with trades_of_days(database, 2, late=timedelta(seconds=59)) as db:
        assert "late data" not in await findings(db)
        await db.execute("UPDATE trades SET received_at = time + INTERVAL '3 hours' WHERE seq % 20 = 0")
        (found,) = (await findings(db))["late data"]
        assert "one by 3.0 hours" in found.message
        query = found.remedy.partition("\n")[0].replace("'1 day'", "'9 days'")
        (row,) = await db.fetch(query)
        assert (row["exchange"], row["count"]) == ("binance", 100)


async def test_chunks_that_were_not_compressed(timescaledb_database: DatabaseForTest) -> None:
    async with trades_of_days(timescaledb_database, 9, late=timedelta(0)) as db:
        ended = [TODAY - timedelta(days=days) for days in range(9)]  # of the chunks: at three days, and two of grace
        overdue = [end for end in ended if datetime.now(UTC) - end > timedelta(days=5)]
        for left in range(len(overdue), 0, -1):
            (found,) = (await findings(db))["compression"]
            assert found.message.startswith(f"{left} of its chunks should be compressed")
            await mend(db, found)
        assert "compression" not in await findings(db)


async def test_the_facts_of_chunks_are_the_servers(timescaledb_database: DatabaseForTest) -> None:
    async with trades_of_days(timescaledb_database, 3, late=timedelta(0)) as db:
        oldest = await db.fetchval(
            "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks ORDER BY range_start"
        )
        await db.execute(f"CALL convert_to_columnstore('{oldest}')")
        await db.execute("UPDATE trades SET price = 2 WHERE time = (SELECT min(time) FROM trades)")
        facts = await sizes.read(db, has_columnstore=True)
        (table,) = facts.by_table().items()
        assert table[0] == "public.trades"
        assert [chunk.compressed for chunk in table[1]] == [True, False, False]
        assert [chunk.partial for chunk in table[1]] == [True, False, False]
        assert sum(chunk.bytes for chunk in table[1]) == await db.fetchval(
            "SELECT sum(total_bytes) FROM chunks_detailed_size('trades')"
        )
        before = await db.fetchrow("SELECT * FROM hypertable_compression_stats('trades')")
        assert before is not None
        assert table[1][0].before_bytes == before["before_compression_total_bytes"]
        assert table[1][0].after_bytes == before["after_compression_total_bytes"]
        assert {chunk.compress_after for chunk in table[1]} == {timedelta(days=3)}
        grown = await growth.read(db, Engine.TIMESCALEDB, 7)
        assert grown.free_bytes == 7
        (of_trades,) = grown.tables
        assert of_trades.bytes == sum(chunk.bytes for chunk in table[1])


async def test_an_index_is_counted_with_those_of_its_chunks(database: DatabaseForTest) -> None:
    async with trades_of_days(database, 3, late=timedelta(0)) as db:
        await db.execute("CREATE INDEX mine ON trades (price)")
        engine = Engine(database.engine)
        found = {index.name: index for index in (await indexes.read(db, engine)).indexes}
        expected = await db.fetchval(
            "SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relkind = 'i' AND relname ~ '(^|_)mine$'"
        )
        assert (found["public.mine"].bytes, found["public.mine"].needed) == (expected, False)
        assert found["public.mine"].table == "public.trades"
        assert any(index.needed for index in found.values() if index.table == "public.trades")


async def test_the_size_of_plain_tables(postgres_database: DatabaseForTest) -> None:
    async with trades_of_days(postgres_database, 3, late=timedelta(0)) as db:
        facts = await growth.read(db, Engine.POSTGRES, None)
        (of_trades,) = (table for table in facts.tables if table.table == "public.trades")
        assert of_trades.bytes == await db.fetchval("SELECT pg_total_relation_size('trades')")
        assert of_trades.held_days == pytest.approx(2.03, abs=0.01)  # 3,000 s beyond two days
        assert facts.free_bytes is not None  # the server runs here
        report = await examine(db, CONFIG, free_bytes=1)
        assert [finding.level for finding in report.findings["disk"]] == ["error"]


async def test_a_role_that_lacks_a_right(database: DatabaseForTest) -> None:
    name = f"ingestd_test_{uuid.uuid4().hex[:8]}"
    db = await database.connect()
    other = None
    try:
        await db.script(f"CREATE ROLE {name} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA public, audit TO {name}")
        other = await Database.connect(config_dsn.changed(database.dsn, user=name, password="x"))
        await db.script(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
        found = await findings(other)
        assert found.keys() == {"rights"}
        await mend(db, *found["rights"])
        assert await findings(other) == {}
    finally:
        if other is not None:
            await other.close()
        await db.script(f"DROP OWNED BY {name}; DROP ROLE {name}")
        await db.close()


async def test_a_database_without_a_schema(empty_database: DatabaseForTest) -> None:
    db = await empty_database.connect()
    report = await examine(db, CONFIG)
    await db.close()
    (found,) = report.findings["migrations"]
    assert (found.level, found.remedy) == ("error", "ingestd migrate -c FILE")
    assert set(report.findings) == {"server", "migrations"}
    assert "schema" in report.left_out


async def test_a_database_of_another_style(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect(names=Names("compact", KnownMarkets(list)))
    report = await examine(db, CONFIG)
    await db.close()
    (found,) = report.findings["migrations"]
    assert (found.level, found.remedy) == ("error", "ingestd migrate -c FILE --rename-symbols")


async def test_an_extension_whose_library_is_gone(timescaledb_server: Server) -> None:
    with temporary_database(timescaledb_server.direct(), migrated=False) as database:
        blind = await asyncpg.connect(database.dsn, server_settings={"timescaledb.disable_load": "on"})
        await blind.execute("CREATE EXTENSION timescaledb")
        await blind.close()
        blind = await asyncpg.connect(database.dsn, server_settings={"timescaledb.disable_load": "on"})
        await blind.execute("UPDATE pg_extension SET extversion = '2.19.0' WHERE extname = 'timescaledb'")
        await blind.close()
        report = await _examined(database.dsn)
    (found,) = report.findings["server"]
    assert found.level == "error"
    assert "timescaledb-2.19.0" in found.message
    assert 'psql -X -d DATABASE -c "ALTER EXTENSION timescaledb UPDATE"' in found.remedy
    assert report.engine is None
    assert report.left_out == tuple(check.name for check in CHECKS)


async def test_a_server_whose_jobs_do_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INGESTD_TEST_DSN", raising=False)  # the jobs of another server may run
    with running_server("timescaledb") as server, temporary_database(server.direct()) as database:
        report = await _examined(database.dsn)
    assert [finding.level for finding in report.findings["server"]] == ["error"]
    assert "max_background_workers = 16" in report.findings["server"][0].remedy


async def test_a_database_that_is_not_utf8(postgres_server: Server) -> None:
    name = f"ingestd_test_{uuid.uuid4().hex[:12]}"
    admin = await Database.connect(postgres_server.admin_dsn)
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        report = await _examined(config_dsn.changed(postgres_server.admin_dsn, dbname=name))
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()
    (found,) = report.findings["server"]
    assert "the encoding is LATIN1" in found.message
    assert "ENCODING 'UTF8'" in found.remedy


async def _examined(dsn: str, **options: Any) -> Report:
    db = await Database.connect(dsn)
    try:
        return await examine(db, CONFIG, **options)
    finally:
        await db.close()
