"""The conversion of stored symbols when something goes wrong: roles, two at once, a change of mind, unknown names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from ingestd import failpoints
from ingestd.backfill import audit
from ingestd.clock import from_datetime
from ingestd.config.models import Config
from ingestd.config.values import SymbolStyle
from ingestd.errors import DatabaseError, SchemaError, Superseded
from ingestd.records import Candle, FeedGap, Funding, Liquidation, MarkPrice, OpenInterest, Record
from ingestd.status import MarketInfo
from ingestd.storage import engine as engines
from ingestd.storage import indicator_rows, rollups, symbol_style, symbols
from ingestd.storage.database import Database
from ingestd.storage.migrate import check_schema, migrate, plan
from ingestd.storage.writer import positions
from ingestd.storage.writer.writer import prepare, write
from ingestd.venues.market_names import Names
from tests.integration.storage.test_roles import connected as connected_as
from tests.integration.storage.test_roles import make_roles
from tests.integration.storage.test_symbol_rename_texts import config_of as with_packs
from tests.integration.storage.test_symbol_styles import compressed_chunks, config_of, paused_jobs
from tests.support.pgbouncer import pooled
from tests.support.postgres import DatabaseForTest, Server, default_config, running_server, temporary_database
from tests.support.records import book, tick, trade

T0 = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=10)
T0_US = from_datetime(T0)
SPOT, QUOTED = "BTC/USDT", 'O\'Brien "x" \\ é/USDT:USDT'
LISTED = [
    MarketInfo("binance", SPOT, "BTCUSDT", "BTC", "USDT", "spot", True),
    MarketInfo("binance", QUOTED, 'it\'s "that" \\one', "B", "USDT", "swap", True, linear=True),
]
TABLES = (
    *("market_ticks", "trades", "order_book", "ohlcv_data", "oi_snapshots", "funding", "liquidations", "mark_prices"),
    *("feed_gaps", "candle_audit", "candles_1m", "candles_1h", "candles_1d", '"candles_1M"', "ohlcv_1h"),
    *("indicators_cache", "indicator_marks", "indicator_changes"),
)


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm({})


def records_of(symbol: str) -> list[Record]:
    made: list[Record] = []
    for time in (T0_US, T0_US + 8 * 86_400_000_000):
        at = {"symbol": symbol, "time": time, "received_at": time}
        made += [tick(1, **at), trade(1, **at), book(1, **at)]
        made += [
            OpenInterest("binance", symbol, time, time, "12.5", None, None),
            Funding("binance", symbol, time, time, "0.0001", None),
            Liquidation("binance", symbol, time, time, "buy", "1.5", "2"),
            MarkPrice("binance", symbol, time, time, "1.5", None),
            Candle("binance", symbol, time, time, "1h", "1", "2", "1", "2", "5", None, None, None, None),
        ]
    ended = T0_US + 1_000_000
    gaps = [FeedGap("binance", symbol, T0_US, T0_US, "trades", ended, "restart", None)]
    return [*made, *gaps, FeedGap("binance", symbol, T0_US + 2, T0_US, "trades", None, "restart", None)]


async def fill(db: Database) -> None:
    """Every table that has symbols, most chunks of them compressed, and one of them empty."""
    await symbols.store_lists(db, LISTED)
    for symbol in (SPOT, QUOTED):
        await write(db, prepare([], records_of(symbol), db.names))
        candle = Candle("binance", symbol, T0_US, T0_US, "1m", "1", "2", "1", "2", "5", None, None, None, None)
        await audit.record(db, audit.Disagreement(candle, None, "missing"))
        values = [indicator_rows.Value(T0 + timedelta(days=day), "sma_5@1h", None, 5, 1) for day in (0, 8)]
        await indicator_rows.store(db, "binance", symbol, "1h", values, notes_changes=True)
        await indicator_rows.mark(db, "binance", symbol, T0, T0)
    engine = await engines.detect(db)
    await rollups.refresh(db, engine)
    if engine.has_continuous_aggregates:
        for level in ("1m", "1h", "1d"):
            await db.execute(f"CALL refresh_continuous_aggregate('candles_{level}', NULL, now() - INTERVAL '1 day')")
        await db.execute("CALL refresh_continuous_aggregate('ohlcv_1h', NULL, now() - INTERVAL '1 day')")
        await db.script(
            "ALTER MATERIALIZED VIEW candles_1h SET (timescaledb.enable_columnstore,"
            " timescaledb.segmentby = 'exchange, symbol')"
        )
        for table in (*TABLES[:8], "candles_1h", "indicators_cache"):
            await db.fetch(
                f"SELECT compress_chunk(chunk) FROM show_chunks('{table}', older_than => INTERVAL '5 days') AS chunk"
            )
    if engine.has_hypertables:
        await db.execute("DELETE FROM mark_prices WHERE time > $1", T0 + timedelta(days=1))


async def stored(db: Database) -> dict[str, list[str]]:
    return {
        table: [row["symbol"] for row in await db.fetch(f"SELECT symbol FROM {table} ORDER BY symbol")]
        for table in TABLES
    }


def named(before: dict[str, list[str]], names: Names) -> dict[str, list[str]]:
    return {table: sorted(names.name("binance", symbol) for symbol in rows) for table, rows in before.items()}


async def convert(db: Database, style: SymbolStyle) -> list[str]:
    db.names = Names(style)
    return await migrate(db, config_of(style), rename_symbols=True)


async def there_and_back(db: Database) -> None:
    before = await stored(db)
    assert all(set(rows) == {SPOT, QUOTED} for rows in before.values()), before
    engine = await engines.detect(db)
    compressed = await compressed_chunks(db, engine)
    assert bool(compressed) == engine.has_continuous_aggregates
    for style in ("compact", "venue", "dash", "unified"):
        await convert(db, style)
        assert await stored(db) == named(before, db.names), style
        assert await compressed_chunks(db, engine) == compressed
        assert not await paused_jobs(db, engine)
        assert await check_schema(db) is engine


async def test_the_role_that_owns_everything_converts(database_server: Server) -> None:
    with temporary_database(database_server.direct()) as database:
        db = await database.connect(application_name="test")
        await fill(db)
        await make_roles(database)
        await db.close()
        async with connected_as(database, "migrator") as migrator:
            await there_and_back(migrator)
        async with connected_as(database, "writer") as writer:
            with pytest.raises(DatabaseError, match=r"permission denied|must be owner"):
                await convert(writer, "dash")
            db.names = Names()
        async with connected_as(database, "migrator") as migrator:
            await check_schema(migrator)


async def test_the_apache_edition_converts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INGESTD_TEST_DSN", raising=False)
    with (
        running_server("timescaledb", **{"timescaledb.license": "apache"}) as server,
        temporary_database(server) as database,
    ):
        db = await database.connect(application_name="test")
        await fill(db)
        await there_and_back(db)
        await db.close()


@pytest.mark.one_server
async def test_a_poolers_sessions_of_a_stopped_daemon_are_not_taken_for_it(database_server: Server) -> None:
    with temporary_database(database_server.direct()) as database, pooled(database.dsn, idle_timeout_s=60) as dsn:
        daemon, reader = [await Database.connect(dsn, application_name="ingestd main") for _ in "12"]
        async with daemon.transaction():  # so that the pool has two sessions
            await reader.fetchval("SELECT 1")
        await fill(daemon)
        await reader.close()
        db = await Database.connect(dsn, application_name="ingestd main")
        async with daemon.transaction():
            await daemon.fetchval("SELECT 1")
            with pytest.raises(SchemaError, match=r"'ingestd main' from .* is connected: stop every daemon"):
                await convert(db, "dash")
        await daemon.close()
        await asyncio.sleep(10.5)
        db.names = Names()
        await there_and_back(db)
        await db.close()


async def test_a_program_that_stays_connected_stores_nothing_more_in_the_old_style(db: Database) -> None:
    source = "journal:of a test"
    await positions.claim(db, [source], stalled_after_s=1)
    places = await positions.read(db, [source])
    await convert(db, "dash")
    move = positions.Move(source, 0, 1, places[source].epoch)
    with pytest.raises(Superseded):
        await write(db, prepare([move], [trade(1)], Names()))
    assert await db.fetchval("SELECT count(*) FROM trades") == 0


async def test_a_conversion_that_was_begun_can_be_taken_back(db: Database) -> None:
    await fill(db)
    before, engine = await stored(db), await engines.detect(db)
    compressed = await compressed_chunks(db, engine)
    for style in ("compact", "unified", "compact", "unified"):
        failpoints.arm({failpoints.VARIABLE: "migrate.renamed:6:raise", failpoints.TEST_FLAG: "1"})
        with pytest.raises(OSError, match="renamed"):
            await convert(db, style)
        assert (await symbol_style.read(db)) == {"symbol_style": "unified", "symbol_style_next": "compact"}
        db.names = Names("dash")
        with pytest.raises(SchemaError, match="being renamed from the style 'unified' to 'compact': finish that first"):
            await migrate(db, config_of("dash"), rename_symbols=True)
    failpoints.arm({})
    assert (await convert(db, "unified"))[0].startswith("renamed symbols back from the style 'compact' to 'unified'")
    assert await stored(db) == before
    assert await compressed_chunks(db, engine) == compressed
    assert not await paused_jobs(db, engine)
    assert await check_schema(db) is engine
    assert await convert(db, "unified") == []


async def test_two_conversions_at_once_rename_nothing_twice(database: DatabaseForTest) -> None:
    one, other = [await database.connect(application_name="test") for _ in "12"]
    await fill(one)
    before = await stored(one)
    one.names, other.names = Names("compact"), Names("compact")
    results = await asyncio.gather(
        *(migrate(db, config_of("compact"), rename_symbols=True) for db in (one, other)), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            assert isinstance(result, SchemaError)
            assert "another program renames symbols too" in str(result) or "another migration" in str(result)
    await convert(one, "compact")
    assert await stored(one) == named(before, one.names)
    for db in (one, other):
        await db.close()


@pytest.mark.parametrize("style", ["compact", "venue"])
async def test_names_that_no_market_has_are_not_renamed(db: Database, style: SymbolStyle) -> None:
    await convert(db, style)
    await symbols.store_lists(db, LISTED)
    db.names = Names(style)
    await symbol_style.require(db)
    await write(db, prepare([], [trade(1, symbol=SPOT)], db.names))
    await db.execute("UPDATE trades SET symbol = 'B-T/C'")
    with pytest.raises(SchemaError, match=r"1 markets have no name in the style 'dash'.*: B-T/C of binance"):
        await convert(db, "dash")
    assert await symbol_style.read(db) == {"symbol_style": style}
    assert await db.fetchval("SELECT symbol FROM trades") == "B-T/C"


async def test_a_market_that_gets_the_name_of_another_one(db: Database) -> None:
    """Each of two trades takes the other's place in the unique index."""
    listed = [
        MarketInfo("binance", "A/B", "C-D", "A", "B", "spot", True),
        MarketInfo("binance", "C/D", "A-B", "C", "D", "spot", True),
    ]
    await symbols.store_lists(db, listed)
    await convert(db, "dash")
    db.names = Names("dash")
    await write(db, prepare([], [trade(1, symbol="A/B", price="1"), trade(1, symbol="C/D", price="2")], db.names))
    await convert(db, "venue")
    rows = await db.fetch("SELECT symbol, price::text FROM trades ORDER BY price")
    assert [tuple(row.values()) for row in rows] == [("C-D", "1"), ("A-B", "2")]


async def test_jobs_of_others_go_on(timescaledb_database: DatabaseForTest) -> None:
    db = await timescaledb_database.connect(application_name="test")
    await fill(db)
    await db.script(
        "CREATE TABLE theirs (at timestamptz NOT NULL); SELECT create_hypertable('theirs', 'at');"
        "SELECT add_retention_policy('theirs', INTERVAL '1 day')"
    )
    failpoints.arm({failpoints.VARIABLE: "migrate.renamed:2:raise", failpoints.TEST_FLAG: "1"})
    with pytest.raises(OSError, match="renamed"):
        await convert(db, "compact")
    jobs = await db.fetch(
        "SELECT hypertable_name = 'theirs' AS theirs, scheduled FROM timescaledb_information.jobs"
        " WHERE hypertable_name IS NOT NULL"
    )
    assert len(jobs) > 20
    assert all(row["scheduled"] == row["theirs"] for row in jobs)
    await db.execute("SELECT remove_retention_policy('market_ticks')")  # a paused one that is gone by the end
    failpoints.arm({})
    await convert(db, "compact")
    assert not await paused_jobs(db, engines.Engine.TIMESCALEDB)
    await db.close()


async def test_what_would_be_renamed_is_told_beforehand(db: Database) -> None:
    await fill(db)
    config = config_of("dash")
    before = await plan(db, config)
    db.names = Names("dash")
    with pytest.raises(SchemaError, match=r"in the style 'unified', and database.symbol_style is 'dash'"):
        await plan(db, config)
    told = (await plan(db, config, rename_symbols=True)).splitlines()
    assert told[0].startswith("-- rename symbols from the style 'unified' to 'dash', each part in a transaction: ")
    assert len(told) - len(before.splitlines()) > 10
    assert all(line.startswith("--") for line in told[:10])
    assert await symbol_style.read(db) == {"symbol_style": "unified"}


async def test_nothing_is_stored_before_the_style_is_recorded(db: Database) -> None:
    """`migrate` may be killed between the last migration and the record of the style."""
    await db.execute("DELETE FROM ingestd_settings")
    db.names = Names("compact")
    with pytest.raises(SchemaError, match="its style of symbols is not recorded: run `ingestd migrate"):
        await check_schema(db)
    await migrate(db, config_of("compact"))
    assert await symbol_style.read(db) == {"symbol_style": "compact"}
    await check_schema(db)


async def test_the_hours_of_a_pack_that_are_not_made_again_are_renamed(db: Database) -> None:
    """Its policy refreshes three days; the minutes that made older hours may be gone."""

    def config(style: str) -> Config:
        of_database = {"dsn": "postgresql://x/y", "symbol_style": style, "packs": ["fks"]}
        feeds = [{"exchange": "binance", "symbols": ["BTC/USDT"]}]
        return default_config(database=of_database, packs={"fks": {"exchange": "binance"}}, feeds=feeds)

    await migrate(db, config("unified"))
    times = [T0_US, T0_US + 9 * 86_400_000_000]
    candles = [Candle("binance", SPOT, at, at, "1m", "1", "2", "1", "2", "5", None, None, None, None) for at in times]
    await write(db, prepare([], candles, db.names))
    if (await engines.detect(db)).has_continuous_aggregates:
        await db.execute("CALL refresh_continuous_aggregate('fks.hourly_exchange_ohlcv', NULL, NULL)")
    hours = "SELECT hour, symbol FROM fks.hourly_exchange_ohlcv ORDER BY hour"
    before = await db.fetch(hours)
    assert [row["symbol"] for row in before] == [SPOT, SPOT]
    db.names = Names("compact")
    await migrate(db, config("compact"), rename_symbols=True)
    assert [tuple(row.values()) for row in await db.fetch(hours)] == [(row["hour"], "BTCUSDT") for row in before]
    assert not await paused_jobs(db, await engines.detect(db))


async def test_no_table_with_symbols_is_forgotten(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    await migrate(db, with_packs("unified"))
    db.names = Names("dash")
    told = await plan(db, with_packs("dash"), rename_symbols=True)
    renamed = {
        line.removeprefix("--   ").split(",")[0].removeprefix("public.").replace('"', "") for line in told.splitlines()
    }
    rows = await db.fetch(
        "SELECT CASE table_schema WHEN 'public' THEN '' ELSE table_schema || '.' END || table_name AS name"
        " FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE column_name = 'symbol' AND table_type = 'BASE TABLE' AND table_name <> 'symbols'"
    )
    assert len(rows) > 25
    assert {row["name"] for row in rows} - {"ingestd_backfills"} <= renamed  # its places are forgotten: below
    await db.execute("INSERT INTO ingestd_backfills VALUES (26, now(), 'binance', $1, now(), 7, NULL)", SPOT)
    await migrate(db, with_packs("dash"), rename_symbols=True)
    (place,) = await db.fetch("SELECT exchange, symbol, rows, done_at FROM ingestd_backfills")
    assert tuple(place.values()) == ("", "", 7, None)
    await db.close()


async def test_a_chunk_that_retention_drops_meanwhile_is_not_missed(timescaledb_database: DatabaseForTest) -> None:
    """By hand, since the policies are paused."""
    db, other = [await timescaledb_database.connect(application_name="test") for _ in "12"]
    await fill(db)
    async with other.transaction():
        dropped = await other.fetch("SELECT drop_chunks('trades', older_than => INTERVAL '5 days')")
        renaming = asyncio.create_task(convert(db, "dash"))
        while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE relation IS NOT NULL AND NOT granted"):
            await asyncio.sleep(0.05)
    assert (await renaming)[0].startswith("renamed symbols from the style 'unified' to 'dash'")
    names = {Names("dash").name("binance", symbol) for symbol in (SPOT, QUOTED)}
    assert len(dropped) == 1
    assert {table: set(rows) for table, rows in (await stored(db)).items()} == dict.fromkeys(TABLES, names)
    for connection in (db, other):
        await connection.close()


async def test_a_part_that_somebody_holds_stops_the_conversion_and_the_same_command_goes_on(
    database: DatabaseForTest,
) -> None:
    db, reader = [await database.connect(application_name="test") for _ in "12"]
    await fill(db)
    before = await stored(db)
    db.names = Names("dash")
    async with reader.transaction():
        await reader.script("LOCK TABLE feed_gaps IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(
            SchemaError, match=r"stopped at public\.feed_gaps: .*lock timeout.*the same command goes on"
        ):
            await migrate(db, config_of("dash"), rename_symbols=True, lock_timeout_s=0.5)
    killed = await database.connect(names=Names("dash"), application_name="killed")
    async with reader.transaction():
        await reader.script("LOCK TABLE candle_audit IN ACCESS EXCLUSIVE MODE")
        renaming = asyncio.create_task(migrate(killed, config_of("dash"), rename_symbols=True))
        waiting = "FROM pg_stat_activity WHERE application_name = 'killed' AND wait_event_type = 'Lock'"
        while not await db.fetchval(f"SELECT pg_terminate_backend(pid) {waiting}"):
            await asyncio.sleep(0.05)
    with pytest.raises(
        SchemaError, match=r"stopped at public\.candle_audit: the connection .* the same command goes on"
    ):
        await renaming
    await migrate(db, config_of("dash"), rename_symbols=True)
    assert await stored(db) == named(before, db.names)
    for connection in (db, reader):
        await connection.close()
