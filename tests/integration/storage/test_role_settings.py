"""Whatever is set on the role, the database or the server: the same rows, the same words, in the same tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from ingestd.cli.gaps import gaps
from ingestd.clock import from_datetime
from ingestd.errors import DatabaseError, SchemaError
from ingestd.records import FeedGap, Record
from ingestd.storage import leases, retention, rollups
from ingestd.storage.database import Database
from ingestd.storage.leases import Tenant
from ingestd.storage.migrate import check_schema, migrate, plan, status
from tests.integration.sinks.test_timescale import store
from tests.support.pgbouncer import pooled
from tests.support.postgres import DatabaseForTest, Server, default_config, temporary_database
from tests.support.records import trade

MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

# None of them is one that a database is given in earnest; each changed rows, words or times.
SETTINGS = {
    "search_path": "traps, pg_catalog, public",
    "statement_timeout": "'1500ms'",  # a busy machine takes longer than a quarter of a second for a SET
    "lock_timeout": "'1ms'",
    "idle_in_transaction_session_timeout": "'300ms'",
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "iso_8601",
    "TimeZone": "'America/St_Johns'",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "session_replication_role": "replica",
    "synchronous_commit": "off",
    "client_encoding": "'LATIN1'",
    "client_min_messages": "error",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "array_nulls": "off",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "row_security": "off",
    "xmloption": "document",
    "backslash_quote": "on",
    "escape_string_warning": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit_above_cost": "0",
}
# What stands in the first schema of the path: a table for each of ours, and what else a statement could take for its
# own. An equality that nothing fulfils, in the place of the one of texts.
TRAPS = """
CREATE SCHEMA traps;
CREATE FUNCTION traps.never(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR traps.= (LEFTARG = text, RIGHTARG = text, FUNCTION = traps.never);
CREATE FUNCTION traps.now() RETURNS timestamptz LANGUAGE sql AS $$SELECT timestamptz '2001-01-01'$$;
CREATE FUNCTION traps.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$SELECT timestamptz '2001-01-01'$$;
CREATE FUNCTION traps.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$SELECT 'nothing'::text$$;
CREATE FUNCTION traps.current_setting(text) RETURNS text LANGUAGE sql AS $$SELECT 'nothing'::text$$;
CREATE FUNCTION traps.pg_backend_pid() RETURNS integer LANGUAGE sql AS 'SELECT 0';
CREATE FUNCTION traps.ingestd_refresh_candles(integer) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';
CREATE PROCEDURE traps.refresh_continuous_aggregate(regclass, timestamptz, timestamptz) LANGUAGE sql AS 'SELECT 1';
CREATE DOMAIN traps.timestamptz AS text;
"""
TABLES = ("trades", "feed_gaps", "ingest_positions", "ingest_leases", "symbols", "candles_marks", "candles_1m")


@pytest.fixture
def database(database_server: Server) -> Iterator[DatabaseForTest]:
    with temporary_database(database_server.direct()) as created:
        yield created


@pytest.fixture
def empty_database(database_server: Server) -> Iterator[DatabaseForTest]:
    with temporary_database(database_server.direct(), migrated=False) as created:
        yield created


async def _prepare(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "public", "statement_timeout": "0"})
    try:
        for statement in statements:
            await connection.execute("BEGIN READ WRITE; " + statement + "; COMMIT")
    finally:
        await connection.close()


def hostile(dsn: str) -> list[str]:
    name = dsn.rpartition("/")[2]
    return [f"ALTER DATABASE {name} SET {setting} = {value}" for setting, value in SETTINGS.items()]


async def seen(dsn: str, sql: str) -> list[tuple[object, ...]]:
    """By a reader of his own, with the settings of no one."""
    connection = await asyncpg.connect(
        dsn, server_settings={"search_path": "public", "statement_timeout": "0", "timezone": "UTC"}
    )
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def test_nothing_that_is_set_on_a_database_matters(empty_database: DatabaseForTest, tmp_path: Path) -> None:
    dsn = empty_database.dsn
    await _prepare(dsn, TRAPS, *hostile(dsn))
    async with connected(empty_database) as db:
        assert "applied 0001_market_tables" in await migrate(db, default_config(), engine=empty_database.choice)
        assert await migrate(db, default_config(), engine=empty_database.choice) == []
        assert await plan(db, default_config()) == ""
        assert all(line.applied_at is not None for line in await status(db))
        async with db.transaction():
            assert await db.fetchval("SELECT pg_sleep(0.4)::text") == ""  # longer than any limit of before
            await asyncio.sleep(0.4)
            assert await db.fetchval("SHOW session_replication_role") == "origin"
            assert await db.fetchval("SHOW synchronous_commit") == "on"
    assert await seen(dsn, "SELECT relname FROM pg_class WHERE relnamespace = 'traps'::regnamespace") == []
    await _prepare(
        dsn, *[f"CREATE TABLE traps.{table} (LIKE public.{table})" for table in TABLES if await has(dsn, table)]
    )

    # A trade an hour after midnight of a zone that is half an hour off, three days ago.
    at_us = from_datetime(MIDNIGHT - timedelta(days=3) + timedelta(hours=1))
    first = [trade(number, time=at_us + number, received_at=at_us + number) for number in range(3)]
    gap = FeedGap("binance", "BTC/USDT", at_us, at_us, "trades", at_us + 1_000_000, "disconnect", "a \\ b")
    again: list[Record] = [replace(first[0], trade_id="a \\ 'b'"), first[1]]  # a duplicate: through the staging table
    made = await store(tmp_path / "state", empty_database, [*first, gap], again)
    assert made.total("stored") == {"trades": 4, "gaps": 1}
    assert made.total("duplicate") == {"trades": 1}
    assert await seen(dsn, "SELECT count(*), min(time) FROM public.trades") == [
        (4, datetime.fromtimestamp(at_us / 1e6, UTC))
    ]

    async with connected(empty_database) as db:
        engine = await check_schema(db)
        await rollups.refresh(db, engine)
        await rollups.refresh_window(db, MIDNIGHT - timedelta(days=4), MIDNIGHT)
        term = await leases.take(db, Tenant("desk", "one"), None, 60)
        assert term is not None
        assert await leases.take(db, Tenant("desk", "two"), term, 60) is None
        await retention.purge(db, engine, default_config())
    assert await seen(dsn, 'SELECT bucket_start, trades_count FROM public."candles_1d"') == [
        (MIDNIGHT - timedelta(days=3), 4)
    ]

    file = tmp_path / "ingestd.toml"
    file.write_text(f'[database]\ndsn = "{dsn}"\n')
    listed = await asyncio.to_thread(CliRunner().invoke, gaps, ["-c", str(file), "--csv"])
    assert listed.exit_code == 0, listed.output
    assert f"binance,BTC/USDT,trades,{datetime.fromtimestamp(at_us / 1e6, UTC).isoformat()}" in listed.output
    assert "a \\ b" in listed.output
    for table in TABLES:
        if await has(dsn, table):
            assert await seen(dsn, f"SELECT count(*) FROM traps.{table}") == [(0,)], table
    await _prepare(dsn, *(f"ALTER DATABASE {dsn.rpartition('/')[2]} RESET {setting}" for setting in SETTINGS))


async def test_what_another_client_left_in_the_session_is_not_ours(database: DatabaseForTest) -> None:
    """A pooler's session may hold temporary tables of strangers, which come before all schemas by default."""
    async with connected(database) as db:
        await db.execute("CREATE TEMP TABLE ingest_positions (LIKE public.ingest_positions)")
        await db.copy_text("ingest_positions", ("source", "position"), b"a\t1\n")
        assert await seen(database.dsn, "SELECT source FROM public.ingest_positions") == [("a",)]


async def test_a_pooler_changes_none_of_it(database_server: Server, tmp_path: Path) -> None:
    with temporary_database(database_server.direct()) as direct:
        await _prepare(direct.dsn, TRAPS, "CREATE TABLE traps.trades (LIKE public.trades)", *hostile(direct.dsn))
        with pooled(database_server.admin_dsn, pool_size=2) as dsn:
            behind = DatabaseForTest(dsn.rpartition("/")[0] + "/" + direct.dsn.rpartition("/")[2], direct.engine)
            made = await store(tmp_path, behind, [trade(1)], [trade(1), trade(2)])
            assert made.total("stored") == {"trades": 2}
            async with connected(behind) as db:
                assert await migrate(db, default_config()) == []
                assert await db.fetchval("SELECT count(*) FROM trades") == 2
            # Nothing of it stays with the session for whoever comes next.
            stranger = await asyncpg.connect(behind.dsn, statement_cache_size=0)
            assert await stranger.fetchval("SHOW IntervalStyle") == "iso_8601"
            assert await stranger.fetchval("SHOW search_path") == SETTINGS["search_path"]
            await stranger.close()


async def test_tables_that_a_search_path_had_led_elsewhere_are_not_left_behind(empty_database: DatabaseForTest) -> None:
    """Earlier versions followed it; to begin anew in `public` would leave the positions and all rows behind."""
    name = empty_database.dsn.rpartition("/")[2]
    async with connected(empty_database) as db:
        await migrate(db, default_config(), engine="postgres")
    await _prepare(
        empty_database.dsn,
        "CREATE SCHEMA market; ALTER TABLE ingestd_migrations SET SCHEMA market",
        f'ALTER DATABASE {name} SET search_path = market, "$user", public',
    )
    async with connected(empty_database) as db:
        for work in (migrate(db, default_config(), engine="postgres"), check_schema(db)):
            with pytest.raises(SchemaError, match=r'the tables are in the schema "market".*SET SCHEMA public'):
                await work


async def test_rows_go_into_their_chunks_whatever_timescaledb_is_told(
    timescaledb_server: Server, tmp_path: Path
) -> None:
    """A restore that nobody ended lets rows past the chunks; the others keep late trades out of columnar ones."""
    with temporary_database(timescaledb_server.direct()) as database:
        assert (await store(tmp_path, database, [trade(1)])).total("stored") == {"trades": 1}
        await _prepare(database.dsn, "SELECT compress_chunk(chunk) FROM show_chunks('trades') AS chunk")
        name = database.dsn.rpartition("/")[2]
        await _prepare(
            database.dsn,
            f"ALTER DATABASE {name} SET timescaledb.restoring = on",
            f"ALTER DATABASE {name} SET timescaledb.enable_dml_decompression = off",
            f"ALTER DATABASE {name} SET timescaledb.max_tuples_decompressed_per_dml_transaction = 1",
        )
        made = await store(tmp_path, database, [trade(1), trade(2)], [trade(1), trade(2)])
        assert made.total("stored") == {"trades": 1}
        assert made.total("rejected") == {}
        await _prepare(database.dsn, f"ALTER DATABASE {name} RESET timescaledb.restoring")
        assert await seen(database.dsn, "SELECT count(*) FROM public.trades") == [(2,)]
        assert await seen(database.dsn, "SELECT count(*) FROM ONLY public.trades") == [(0,)]


async def test_a_restore_that_nobody_ended_is_named_to_who_may_not_end_it(timescaledb_server: Server) -> None:
    with temporary_database(timescaledb_server.direct()) as database:
        name = database.dsn.rpartition("/")[2]
        await _prepare(
            database.dsn,
            "CREATE ROLE ingestd_of_a_restore LOGIN PASSWORD 'x'",
            f"ALTER DATABASE {name} SET timescaledb.restoring = on",
        )
        other = DatabaseForTest(f"postgresql://ingestd_of_a_restore:x@{database.dsn.rpartition('@')[2]}", "timescaledb")
        async with connected(other) as db:
            with pytest.raises(DatabaseError, match=r"a restore has not been ended.*timescaledb_post_restore"):
                await db.fetchval("SELECT 1")
        await _prepare(database.dsn, "DROP ROLE ingestd_of_a_restore")


@asynccontextmanager
async def connected(database: DatabaseForTest) -> AsyncIterator[Database]:
    db = await database.connect(application_name="test")
    try:
        yield db
    finally:
        await db.close()


async def has(dsn: str, table: str) -> bool:
    return await seen(dsn, f"SELECT relkind = 'r' FROM pg_class WHERE oid = to_regclass('public.{table}')") == [(True,)]
