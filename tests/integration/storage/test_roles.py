"""The roles of `sql/roles/roles.sql`: each does its work and no more; what one lacks is named with its GRANT."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import structlog.testing
from click.testing import CliRunner

from ingestd import cli
from ingestd.applications import Credentials, Key, Keys, put_connection, rotate
from ingestd.backfill import audit
from ingestd.channels import ROWS
from ingestd.clock import from_datetime, to_datetime
from ingestd.errors import DatabaseError
from ingestd.events.messages import Balance, Cancelled, Completed, Event, Executed, Snapshot, Submitted
from ingestd.events.tables import store_events
from ingestd.records import Candle, FeedGap, Funding, OpenInterest, Record, Rejected
from ingestd.repository import CandlePayload, FundingPayload, OpenInterestPayload, TradePayload, aio
from ingestd.status import MarketInfo
from ingestd.storage import gap_filling, leases, retention, rights, rollups, symbols
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.leases import Tenant
from ingestd.storage.migrate import check_schema, migrate
from ingestd.storage.migrations import read_sql
from ingestd.storage.writer import positions
from tests.integration.sinks.test_timescale import rig, store
from tests.support.postgres import DatabaseForTest, Server, default_config, running_server, temporary_database
from tests.support.records import NOW_US, book, tick, trade

T0 = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
T0_US = from_datetime(T0)
DENIED = "42501"
ROLES = ("migrator", "writer", "reader", "archiver")
RECORDS: list[Record] = [
    *(trade(number, time=T0_US + number) for number in range(5)),
    tick(1),
    book(2),
    OpenInterest("binance", "BTC/USDT:USDT", NOW_US, NOW_US, "12.5", None, None),
    Funding("binance", "BTC/USDT:USDT", NOW_US, NOW_US, "0.0001", None),
    Candle("binance", "BTC/USDT", NOW_US, NOW_US, "1m", "1", "2", "1", "2", "10", None, 7),
    FeedGap("binance", "BTC/USDT", T0_US, T0_US, "trades", T0_US + 1_000_000, "disconnect", None),
    Rejected("binance", "BTC/USDT", NOW_US, NOW_US, "trades", "of a test", "{}"),
]


@pytest.fixture
def database(database_server: Server) -> Iterator[DatabaseForTest]:
    with temporary_database(database_server.direct()) as created:
        yield created


@pytest.fixture
def empty_database(database_server: Server) -> Iterator[DatabaseForTest]:
    with temporary_database(database_server.direct(), migrated=False) as created:
        yield created


@pytest.fixture
def postgres_database(postgres_server: Server) -> Iterator[DatabaseForTest]:
    with temporary_database(postgres_server.direct()) as created:
        yield created


async def superuser(database: DatabaseForTest, *statements: str) -> None:
    connection = await asyncpg.connect(database.dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def make_roles(database: DatabaseForTest) -> None:
    logins = [f"ALTER ROLE ingestd_{name} LOGIN PASSWORD 'x'" for name in ROLES]
    await superuser(database, read_sql("roles/roles.sql"), *logins)


def dsn_of(database: DatabaseForTest, role: str) -> str:
    server = database.dsn.rpartition("@")[2]
    return f"postgresql://ingestd_{role}:x@{server}"


@asynccontextmanager
async def connected(database: DatabaseForTest, role: str) -> AsyncIterator[Database]:
    db = await Database.connect(dsn_of(database, role))
    try:
        yield db
    finally:
        await db.close()


async def denied(db: Database, sql: str) -> str:
    with pytest.raises(DatabaseError) as caught:
        await db.execute(sql)
    assert caught.value.sqlstate == DENIED, f"{sql}: {caught.value}"
    return str(caught.value)


async def test_each_role_does_its_work_and_no_more(empty_database: DatabaseForTest, tmp_path: Path) -> None:
    await make_roles(empty_database)
    async with connected(empty_database, "migrator") as db:
        done = await migrate(db, default_config(), engine=empty_database.choice)
        assert "applied 0012_symbol_names" in done
        engine = await check_schema(db)
    # Before the script has seen the tables, the daemon can work by what is granted for all that the migrator makes.
    async with connected(empty_database, "writer") as db:
        assert await rights.missing_grants(db, engine) == []
    await make_roles(empty_database)
    await the_daemon_works(empty_database, engine, tmp_path)
    await the_writer_does_no_more(empty_database, engine)
    await the_reader_reads(empty_database, tmp_path)
    await the_archiver_moves_old_rows(empty_database, engine)
    await the_archiver_does_no_more(empty_database, engine)
    await the_repository_works(empty_database)
    async with connected(empty_database, "migrator") as db:
        changed = default_config(retention={"trades_days": 30}, chunks={"trades_days": 2})
        assert bool(await migrate(db, changed)) == engine.has_hypertables


async def test_a_database_that_somebody_else_had_migrated(database: DatabaseForTest, tmp_path: Path) -> None:
    await make_roles(database)
    engine = Engine(database.engine)
    await the_daemon_works(database, engine, tmp_path)
    await the_writer_does_no_more(database, engine)
    async with connected(database, "migrator") as db:
        changed = default_config(retention={"trades_days": 30}, compression={"trades_after_days": 3})
        assert bool(await migrate(db, changed)) == engine.has_hypertables
        assert await migrate(db, changed) == []
        await db.execute("CREATE TABLE later (x integer)")
        await db.execute("ALTER TABLE trades ADD COLUMN later integer")
    async with connected(database, "reader") as db:
        assert await db.fetch("SELECT * FROM later") == []


PACKS = ["kairos", "wolfinch", "fks", "ingestion", "platform"]
SECRETS = {  # and a column that may be read
    "users": ("password_hash", "username"),
    "user_sessions": ("session_token", "expires_at"),
    "refresh_tokens": ("token_hash", "expires_at"),
    "api_keys": ("key_hash", "permissions"),
    "exchange_connections": ("api_secret_encrypted", "exchange_name"),
}
OF_PACKS = (
    "SELECT oid::regclass::text AS name, pg_get_userbyid(relowner) AS owner, relkind = 'r' AS is_table FROM pg_class"
    " WHERE relkind IN ('r', 'v') AND relnamespace IN"
    " (SELECT oid FROM pg_namespace WHERE nspname IN ('kairos', 'analytics', 'fks', 'ingestion', 'platform'))"
    " ORDER BY 1"
)


@pytest.mark.parametrize("roles_first", [True, False])
async def test_packs(empty_database: DatabaseForTest, tmp_path: Path, roles_first: bool) -> None:
    """The schemas of packs belong to the migrator, whoever migrated. The daemon keeps their tables, a reader reads."""
    exchange = {"exchange": "binance"}
    database = {"dsn": empty_database.dsn, "packs": PACKS}
    config = default_config(database=database, packs={"fks": exchange, "ingestion": exchange})
    if roles_first:
        await make_roles(empty_database)
        async with connected(empty_database, "migrator") as db:
            await migrate(db, config, engine=empty_database.choice)
    else:
        db = await empty_database.connect()
        await migrate(db, config, engine=empty_database.choice)
        await db.execute("CREATE ROLE bystander" if not await db.fetchval(BYSTANDER) else "SELECT 1")
        await db.script("CREATE TABLE kairos.theirs (x integer); ALTER TABLE kairos.theirs OWNER TO bystander")
        await db.close()
    for _ in range(2):
        await make_roles(empty_database)
    async with connected(empty_database, "migrator") as db:
        assert await migrate(db, config, engine=empty_database.choice) == []
        found = {row["name"]: row for row in await db.fetch(OF_PACKS)}
    theirs = found.pop("kairos.theirs", None)
    assert (theirs is None) == roles_first
    assert theirs is None or theirs["owner"] == "bystander"
    assert {f"platform.{name}" for name in SECRETS} <= set(found)
    assert {"kairos.orders", "analytics.performance_metrics", "fks.ohlcv_data", "ingestion.trades"} <= set(found)
    assert {row["owner"] for row in found.values()} == {"ingestd_migrator"}
    await the_daemon_works(empty_database, Engine(empty_database.engine), tmp_path)
    async with connected(empty_database, "writer") as db:
        assert await db.fetchval("SELECT count(*) FROM kairos.orders") == 1
        assert await db.fetchval("SELECT count(*) FROM analytics.performance_metrics") > 0
        keys = Keys(Key(bytes(range(32))))
        await db.execute("INSERT INTO platform.users (id, username, email, password_hash) VALUES (7, 'a', 'b', '-')")
        await put_connection(db, keys, 7, "binance", Credentials("k", "s"))
        assert (await rotate(db, keys)).already == 1
        for sql in ("DROP TABLE kairos.orders", "CREATE TABLE kairos.mine (x integer)", "TRUNCATE fks.trades"):
            await denied(db, sql)
    async with connected(empty_database, "reader") as db:
        for name, row in found.items():
            secret, shown = SECRETS.get(name.removeprefix("platform."), ("", "*"))
            await db.fetch(f"SELECT {shown} FROM {name} LIMIT 1")
            if secret:
                await denied(db, f"SELECT {secret} FROM {name}")
            if row["is_table"]:
                await denied(db, f"DELETE FROM {name}")
    async with connected(empty_database, "archiver") as db:
        await denied(db, "SELECT FROM kairos.orders")


BYSTANDER = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bystander')"


async def test_the_apache_edition(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("INGESTD_TEST_DSN", raising=False)
    with (
        running_server("timescaledb", **{"timescaledb.license": "apache"}) as server,
        temporary_database(server.direct()) as database,
    ):
        await make_roles(database)
        await the_daemon_works(database, Engine.TIMESCALEDB_APACHE, tmp_path)
        await the_writer_does_no_more(database, Engine.TIMESCALEDB_APACHE)
        await the_archiver_moves_old_rows(database, Engine.TIMESCALEDB_APACHE)
        await the_repository_works(database)


async def the_daemon_works(database: DatabaseForTest, engine: Engine, tmp_path: Path) -> None:
    """All that `run` of every role, `backfill` and `gaps` do to a database."""
    as_writer = DatabaseForTest(dsn_of(database, "writer"), database.engine)
    config = default_config(database={"dsn": as_writer.dsn}, retention={"market_ticks_days": 30})
    with structlog.testing.capture_logs() as logs:
        assert await DatabaseAccess(config).look(tmp_path) is engine
    assert logs == []
    made = await store(tmp_path / "journal", as_writer, RECORDS, RECORDS)  # the second time through staging
    assert made.total("stored")["trades"] == 5
    assert made.total("duplicate")["trades"] == 5
    async with connected(database, "writer") as db:
        assert await rights.missing_grants(db, engine) == []
        term = await leases.take(db, Tenant("desk", "one"), None, 60)
        assert term is not None
        assert await leases.renew(db, "desk", term.epoch, 60)
        await leases.release(db, "desk", term.epoch)
        await positions.claim(db, ["kafka:a"], stalled_after_s=1)
        await positions.forget(db, "kafka:", older_than_days=1)
        market = MarketInfo("binance", "BTC/USDT", "BTCUSDT", "BTC", "USDT", "spot", True)
        assert await symbols.upsert_symbols(db, [market]) == 1
        (gap,) = await gap_filling.due_gaps(db, ["binance"], ["trades"], but=[], limit=9)
        await gap_filling.settle(db, gap, "filled", 3, "found")
        await gap_filling.pause_venue(db, "binance", NOW_US, "test")
        theirs = Candle("binance", "BTC/USDT", T0_US, T0_US, "1m", "1", "2", "1", "2", "10", None, 7)
        for _ in range(2):
            await audit.record(db, audit.Disagreement(theirs, None, "missing"))
        async with db.transaction():
            await store_events(db, events())
        async with db.transaction():
            await store_events(db, events())
        await rollups.refresh(db, engine)
        await rollups.refresh_window(db, T0, T0 + timedelta(days=1))
        assert await db.fetchval("SELECT sum(trades_count) FROM candles_1d") == Decimal(5)
        await retention.purge(db, engine, config)
        assert await db.fetchval("SELECT count(*) FROM trades") == 5


def events() -> list[Event]:
    at, one, two, three, four, five = to_datetime(NOW_US), *(uuid.UUID(int=number) for number in range(1, 6))
    said: dict[str, Any] = {"exchange": "binance", "symbol": "BTC-USDT", "strategy": None, "data": "{}", "at": at}
    order: dict[str, Any] = {**said, "order_id": "o", "order_type": None}
    return [
        Submitted(id=one, **order, side="buy", quantity="2", price=None, client_id=None),
        Executed(id=two, **order, side=None, quantity="1", price="5", fee=None, fee_currency=None),
        Cancelled(id=four, **order, side=None, quantity=None, price=None, reason=None, status=None),
        Snapshot(id=five, at=at, exchange="binance", data="{}", balances=(Balance("BTC", "1", "0"),)),
        Completed(id=three, **said, trade_id="t", side=None, quantity=None, entry_price="1", exit_price="2", pnl="3"),
    ]


async def the_repository_works(database: DatabaseForTest) -> None:
    """Each function that writes, for rows that are there already."""
    for close in ("1.5", "2.5"):
        async with aio.session_scope(dsn_of(database, "writer")) as db:
            candle = CandlePayload("ETH/USDT", T0, open="1", high="3", low="1", close=close, volume="1")
            assert await aio.upsert_candles(db, [candle]) == 1
            await aio.upsert_trades(db, [TradePayload("ETH/USDT", T0, 1, "1", "1")])
            assert await aio.upsert_open_interest(db, [OpenInterestPayload("ETH/USDT", T0, close, "7", "1")]) == 1
            assert await aio.upsert_funding(db, [FundingPayload("ETH/USDT", T0, close)]) == 1
    async with aio.session_scope(dsn_of(database, "writer")) as db:
        interest, rate = await aio.latest_open_interest(db, "ETH/USDT"), await aio.latest_funding(db, "ETH/USDT")
        assert interest is not None
        assert rate is not None
        assert (interest.open_interest, rate.funding_rate) == (Decimal("2.5"), Decimal("2.5"))


async def the_writer_does_no_more(database: DatabaseForTest, engine: Engine) -> None:
    async with connected(database, "writer") as db:
        for sql in (
            "DROP TABLE trades",
            "TRUNCATE trades",
            "TRUNCATE ingest_positions",
            "ALTER TABLE trades ADD COLUMN mine integer",
            "UPDATE trades SET price = 1",
            "UPDATE market_ticks SET bid_price = 1",
            "DELETE FROM feed_gaps",
            "DELETE FROM orders",
            "DELETE FROM audit.trade_logs",
            "CREATE TABLE public.mine (x integer)",
            "CREATE SCHEMA mine",
            "DELETE FROM ingestd_migrations",
            "UPDATE ingestd_migrations SET checksum = 'x'",
        ):
            await denied(db, sql)
        if engine.has_continuous_aggregates:
            await denied(db, "DELETE FROM trades")
        else:
            await denied(db, "UPDATE oi_snapshots SET symbol = 'x'")
            await denied(db, "UPDATE funding SET time = now()")
        if engine.has_hypertables:
            await denied(db, "SELECT ingestd_drop_chunks('trades', now() - INTERVAL '999 days')")


OLD_BOOK = (
    "INSERT INTO order_book (time, exchange, symbol, bids, asks, sequence, valid, received_at)"
    " VALUES (now() - INTERVAL '20 days', 'old', 'BTC/USDT', '[]', '[]', 1, true, now())"
)
OLD_CANDLE = (
    "INSERT INTO ohlcv_data (time, exchange, symbol, timeframe, open, high, low, close, volume)"
    " VALUES (now() - INTERVAL '400 days', 'old', 'BTC/USDT', '1m', 1, 1, 1, 1, 1)"
)


async def the_archiver_moves_old_rows(database: DatabaseForTest, engine: Engine) -> None:
    """It puts rows back, reads them, and removes them; candles that are still refreshed keep their trades."""
    async with connected(database, "archiver") as db:
        await db.execute(OLD_BOOK)
        await db.execute(OLD_CANDLE)
        for table in ("order_book", "ohlcv_data"):
            assert len(await db.fetch(f"SELECT * FROM {table} WHERE exchange = 'old'")) == 1
        assert await db.execute("DELETE FROM ohlcv_data WHERE exchange = 'old'") == 1
        if engine.has_hypertables:
            dropped = await db.fetch("SELECT ingestd_drop_chunks('order_book', now() - INTERVAL '10 days') AS name")
            assert {row["name"].partition(".")[0] for row in dropped} == {"_timescaledb_internal"}
        else:
            assert await db.execute("DELETE FROM order_book WHERE exchange = 'old'") == 1
        assert await db.fetch("SELECT * FROM order_book WHERE exchange = 'old'") == []
        assert await db.fetchval("SELECT count(*) FROM trades") == 5
        if engine.has_continuous_aggregates:
            with pytest.raises(DatabaseError, match=r"candles_1m is refreshed back to .* would lose its candles"):
                await db.fetch("SELECT ingestd_drop_chunks('trades', now() - INTERVAL '1 day')")
            assert await db.fetch("SELECT ingestd_drop_chunks('trades', now() - INTERVAL '365 days')") == []
            assert await db.fetchval("SELECT count(*) FROM trades") == 5
        for row in ROWS:
            for right in ("SELECT", "INSERT"):
                assert await db.fetchval("SELECT has_table_privilege($1, $2)", row.table, right), row.table
        for relation in ("candles_1m", '"candles_1M"', "candles_1month", "ohlcv_1h", "symbols", "feed_gaps"):
            await db.fetch(f"SELECT * FROM {relation} LIMIT 1")


async def the_archiver_does_no_more(database: DatabaseForTest, engine: Engine) -> None:
    async with connected(database, "archiver") as db:
        for sql in (
            "DROP TABLE trades",
            "TRUNCATE order_book",
            "UPDATE trades SET price = 1",
            "UPDATE ohlcv_data SET open = 1",
            "DELETE FROM symbols",
            "DELETE FROM feed_gaps",
            "SELECT FROM orders",
            "SELECT FROM audit.trade_logs",
            "SELECT FROM ingest_positions",
            "INSERT INTO ingest_leases DEFAULT VALUES",
            "UPDATE ingestd_settings SET value = 'x'",
            "CREATE TABLE public.mine (x integer)",
            "CREATE SCHEMA mine",
        ):
            await denied(db, sql)
        if not engine.has_continuous_aggregates:
            await denied(db, "DELETE FROM candles_1m")
        if engine.has_hypertables:
            for table in ("trades", "order_book"):
                await denied(db, f"DELETE FROM {table}")
            for other in ("orders", "ingest_positions", "trades; DROP TABLE trades", "candles_1m"):
                with pytest.raises(DatabaseError, match="is not a hypertable of ingestd"):
                    await db.fetch("SELECT ingestd_drop_chunks($1, now())", other)
    if engine.has_hypertables:
        await superuser(database, "CREATE TABLE public.theirs (time timestamptz NOT NULL)")
        await superuser(database, "SELECT create_hypertable('public.theirs', by_range('time'))")
        async with connected(database, "archiver") as db:
            with pytest.raises(DatabaseError, match=r"public\.theirs is not a hypertable of ingestd"):
                await db.fetch("SELECT ingestd_drop_chunks('theirs', now())")


async def the_reader_reads(database: DatabaseForTest, tmp_path: Path) -> None:
    async with connected(database, "reader") as db:
        rows = await db.fetch(
            "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind IN ('r', 'v')"
            " AND relnamespace IN ('public'::regnamespace, 'audit'::regnamespace) AND pg_get_userbyid(relowner) ="
            " 'ingestd_migrator'"
        )
        names = [row["name"] for row in rows]
        assert {
            "trades",
            "audit.trade_logs",
            "audit.win_rate",
            "candles_1m",
            '"candles_1M"',
            "ohlcv_1h",
            "feed_gaps",
        } <= set(names)
        for name in names:
            await db.fetch(f"SELECT * FROM {name} LIMIT 1")
            for sql in (f"DELETE FROM {name}", f"TRUNCATE {name}", f"INSERT INTO {name} SELECT * FROM {name}"):
                with pytest.raises(DatabaseError):
                    await db.execute(sql)
        assert "GRANT INSERT, SELECT" not in await denied(db, "DELETE FROM trades")
    file = tmp_path / "reader.toml"
    file.write_text(f'[database]\ndsn = "{dsn_of(database, "reader")}"\n')
    for command in (["gaps", "-c", str(file)], ["migrate", "status", "-c", str(file)]):
        listed = await asyncio.to_thread(CliRunner().invoke, cli.cli, command)
        assert listed.exit_code == 0, listed.output


@pytest.mark.parametrize(
    ("revoke", "grant"),
    [
        ("REVOKE INSERT ON trades FROM ingestd_writer", 'GRANT INSERT ON public.trades TO "ingestd_writer"'),
        (
            "REVOKE UPDATE, SELECT ON ingest_positions FROM ingestd_writer",
            'GRANT SELECT, UPDATE ON public.ingest_positions TO "ingestd_writer"',
        ),
        (
            'REVOKE INSERT ON "candles_1M" FROM ingestd_writer',
            'GRANT INSERT ON public."candles_1M" TO "ingestd_writer"',
        ),
    ],
)
async def test_a_right_that_is_missing_is_named_at_the_start(
    postgres_database: DatabaseForTest, tmp_path: Path, revoke: str, grant: str
) -> None:
    await make_roles(postgres_database)
    await superuser(postgres_database, revoke)
    config = default_config(database={"dsn": dsn_of(postgres_database, "writer")})
    with structlog.testing.capture_logs() as logs:
        await DatabaseAccess(config).look(tmp_path)
    assert [line["remedy"] for line in logs] == [grant]
    await superuser(postgres_database, grant)
    with structlog.testing.capture_logs() as logs:
        await DatabaseAccess(config).look(tmp_path)
    assert logs == []


async def test_row_security_that_keeps_the_writer_out_is_named(postgres_database: DatabaseForTest) -> None:
    await make_roles(postgres_database)
    await superuser(postgres_database, "ALTER TABLE trades ENABLE ROW LEVEL SECURITY")
    async with connected(postgres_database, "writer") as db:
        with pytest.raises(DatabaseError, match='ALTER ROLE "ingestd_writer" BYPASSRLS'):
            await db.copy_text("trades", ("exchange",), b"binance\n", schema="public")


async def test_a_right_that_is_taken_away_is_named_until_it_is_given_back(
    database: DatabaseForTest, tmp_path: Path
) -> None:
    await make_roles(database)
    await superuser(database, "REVOKE INSERT ON trades FROM ingestd_writer")
    as_writer = DatabaseForTest(dsn_of(database, "writer"), database.engine)
    async with rig(tmp_path, as_writer) as made:
        await made.journal.append([trade(1), tick(2)])
        async with asyncio.timeout(60):
            while "GRANT" not in (made.sink.status().problem or ""):
                await asyncio.sleep(0.01)
        assert 'GRANT INSERT ON public.trades TO "ingestd_writer"' in str(made.sink.status().problem)
        await superuser(database, 'GRANT INSERT ON public.trades TO "ingestd_writer"')
    assert made.total("stored") == {"trades": 1, "ticks": 1}
    assert made.total("rejected") == {}
