"""Every style in which a database may hold symbols: what is stored, what is read back, and the conversion."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from ingestd import failpoints
from ingestd.clock import to_datetime
from ingestd.config.values import SymbolStyle
from ingestd.errors import MarketUnknown, SchemaError
from ingestd.events.messages import Completed, Event, Executed, Submitted
from ingestd.events.tables import store_events
from ingestd.ops.metrics import Metrics
from ingestd.records import Candle, FeedGap, Record
from ingestd.status import MarketInfo
from ingestd.storage import (
    candle_rebuild,
    gap_filling,
    gap_ledger,
    migration_steps,
    rollups,
    symbol_rename,
    symbol_style,
    symbols,
)
from ingestd.storage import engine as engines
from ingestd.storage.database import Database
from ingestd.storage.gap_ledger import GapChoice
from ingestd.storage.migrate import check_schema, down, migrate
from ingestd.storage.writer.writer import prepare, write
from ingestd.venues.market_names import KnownMarkets, Names
from tests.integration.storage.test_candle_rebuild import DAY, GONE, HOLE, KEPT, LATE, STORED, TODAY
from tests.integration.storage.test_candles import candles, store
from tests.support.candles import BUCKETS, expected_candles
from tests.support.postgres import DatabaseForTest, default_config
from tests.support.records import NOW_US, book, tick, trade

SPOT, PERPETUAL, INVERSE = "BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC"
NAMES: dict[SymbolStyle, dict[str, str]] = {
    "unified": {SPOT: "BTC/USDT", PERPETUAL: "BTC/USDT:USDT", INVERSE: "BTC/USD:BTC"},
    "compact": {SPOT: "BTCUSDT", PERPETUAL: "BTCUSDT.P", INVERSE: "BTCUSD.BTC.P"},
    "dash": {SPOT: "BTC-USDT", PERPETUAL: "BTC-USDT.P", INVERSE: "BTC-USD.BTC.P"},
    "venue": {SPOT: "BTCUSDT", PERPETUAL: "BTCUSDT.P", INVERSE: "BTCUSD_PERP"},
}
LISTED = [
    MarketInfo("binance", SPOT, "BTCUSDT", "BTC", "USDT", "spot", True),
    MarketInfo("binance", PERPETUAL, "BTCUSDT", "BTC", "USDT", "swap", True, linear=True),
    MarketInfo("binance", INVERSE, "BTCUSD_PERP", "BTC", "USD", "swap", True, linear=False),
]
TABLES = ("market_ticks", "trades", "order_book", "ohlcv_data", "feed_gaps")


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm({})


def config_of(style: str):  # type: ignore[no-untyped-def] # a Config
    return default_config(database={"dsn": "postgresql://x/y", "symbol_style": style})


async def connected(database: DatabaseForTest, style: SymbolStyle) -> Database:
    return await database.connect(names=Names(style, KnownMarkets(lambda: LISTED)))


def records_of(symbol: str) -> list[Record]:
    gap = FeedGap("binance", symbol, NOW_US, NOW_US, channel="trades", cause="restart", ended_at=NOW_US + 1_000_000)
    candle = Candle("binance", symbol, NOW_US, NOW_US, "1h", "1", "2", "1", "2", "5", None, None, None, None)
    return [tick(1, symbol=symbol), trade(1, symbol=symbol), book(1, symbol=symbol), candle, gap]


@pytest.mark.parametrize("style", NAMES)
async def test_what_is_stored_has_the_names_of_the_style_and_is_found_again(
    database: DatabaseForTest, style: SymbolStyle
) -> None:
    db = await connected(database, style)
    await db.execute("DELETE FROM ingestd_settings")
    await migrate(db, config_of(style))
    records = [record for symbol in NAMES[style] for record in records_of(symbol)]
    await write(db, prepare([], records, db.names))
    await symbols.store_lists(db, LISTED)

    for table in TABLES:
        stored = await db.fetch(f"SELECT DISTINCT symbol FROM {table}")
        assert {row["symbol"] for row in stored} == set(NAMES[style].values()), table
    for symbol in NAMES[style]:
        found = await gap_filling.newest_trade_before(db, "binance", symbol, to_datetime(NOW_US + 10))
        assert found is not None
        assert found.trade_id == trade(1).trade_id
        assert await gap_filling.stored_times(db, "candles", "binance", symbol, 0, NOW_US, "1h")
        (listed,) = await gap_ledger.list_gaps(db, GapChoice(symbol=symbol), 10)
        assert listed.symbol == symbol
        assert await gap_ledger.has_data(db, None, symbol)
        assert await gap_ledger.count_gaps(db, GapChoice(exchange="binance", symbol=symbol)) == {"closed": 1}
    due = await gap_filling.due_gaps(db, ["binance"], ["trades"], but=[], limit=10)
    assert {gap.symbol for gap in due} == set(NAMES[style])
    assert await gap_ledger.known_streams(db) == {("binance", symbol) for symbol in NAMES[style]}
    assert not await gap_ledger.has_data(db, None, "ETH/USDT")
    # A record stored twice is one row, whatever the style.
    again = prepare([], [trade(1, symbol=PERPETUAL)], db.names)
    await write(db, again)
    assert again.outcome.duplicate == {"trades": 1}
    await db.close()


async def test_a_market_without_a_name_is_put_aside_and_no_guess_is_stored(database: DatabaseForTest) -> None:
    db = await connected(database, "venue")
    flush = prepare([], [trade(1), trade(2, symbol="NEW/USDT")], db.names)
    await write(db, flush)
    assert [row["symbol"] for row in await db.fetch("SELECT symbol FROM trades")] == ["BTCUSDT"]
    row = await db.fetchrow("SELECT table_name, reason, record->>'symbol' AS symbol FROM rejected_records")
    assert row is not None
    assert tuple(row.values()) == ("trades", "unknown_market", "NEW/USDT")
    # received = stored + duplicate + rejected, by channel
    metrics = Metrics()
    flush.outcome.count(metrics, "timescale", 0.1)
    assert {channel: count for channel, count in metrics.totals(metrics.stored).items() if count} == {"trades": 1}
    assert metrics.totals(metrics.rejected) == {"trades": 1}
    await db.close()


def test_a_market_whose_list_is_still_to_come_is_waited_for() -> None:
    lists: list[list[MarketInfo]] = [[]]
    names = Names("venue", KnownMarkets(lambda: lists[0], awaited={"binance"}))
    with pytest.raises(MarketUnknown, match="name of BTC/USDT on binance is not known"):
        prepare([], [trade(1)], names)
    lists[0] = LISTED
    assert prepare([], [trade(1)], names).tables["trades"].payload.split(b"\t")[2] == b"BTCUSDT"
    assert "rejected_records" in prepare([], [trade(1, symbol="NEW/USDT")], names).tables


async def test_a_name_that_another_venue_gives_another_market_is_no_data_of_this_one(db: Database) -> None:
    """BTCUSDT is the perpetual of a venue that trades no spot."""
    db.names = Names("compact")
    await write(db, prepare([], [trade(1, exchange="binanceusdm", symbol=PERPETUAL)], db.names))
    assert await db.fetchval("SELECT symbol FROM trades") == "BTCUSDT"
    assert await gap_ledger.has_data(db, None, PERPETUAL)
    assert await gap_ledger.has_data(db, "binanceusdm", PERPETUAL)
    assert await gap_ledger.has_data(db, "binanceusdm", None)
    assert await gap_ledger.has_data(db, None, None)
    assert not await gap_ledger.has_data(db, None, SPOT)
    assert not await gap_ledger.has_data(db, "binance", None)
    await write(db, prepare([], [trade(2, exchange="one of nobody", symbol=SPOT)], db.names))
    assert await gap_ledger.has_data(db, None, SPOT)


async def test_another_style_than_the_recorded_one_is_refused(database: DatabaseForTest) -> None:
    db = await connected(database, "compact")
    for refused in (check_schema(db), migrate(db, config_of("compact"))):
        with pytest.raises(SchemaError, match=r"in the style 'unified', and database.symbol_style is 'compact'"):
            await refused
    await db.close()


async def test_a_database_with_data_keeps_the_style_they_were_written_in(database: DatabaseForTest) -> None:
    """One of an earlier version, which recorded none."""
    db = await connected(database, "compact")
    await write(db, prepare([], [trade(1)], Names()))
    await db.execute("DELETE FROM ingestd_settings")
    with pytest.raises(SchemaError, match="in the style 'unified'"):
        await migrate(db, config_of("compact"))
    assert (await symbol_style.read(db)) == {"symbol_style": "unified"}
    await db.close()


async def test_a_market_that_is_not_listed_any_more_is_deprecated(database: DatabaseForTest) -> None:
    db = await database.connect()
    await symbols.store_lists(db, LISTED)
    other = MarketInfo("binance", "BTCX/USDT", "BTCUSDT", "BTCX", "USDT", "spot", True)
    await symbols.store_lists(db, [other])  # says nothing of swaps; and gives the id to another market
    rows = await db.fetch("SELECT symbol, status, venue_name FROM symbols ORDER BY symbol")
    assert [tuple(row.values()) for row in rows] == [
        (INVERSE, "active", "BTCUSD_PERP"),
        (SPOT, "deprecated", None),
        (PERPETUAL, "active", "BTCUSDT.P"),
        ("BTCX/USDT", "active", "BTCUSDT"),
    ]
    await symbols.store_lists(db, LISTED)
    assert await db.fetchval("SELECT status FROM symbols WHERE symbol = $1", SPOT) == "active"
    assert await db.fetchval("SELECT status FROM symbols WHERE symbol = 'BTCX/USDT'") == "deprecated"
    for name in ("symbol", "compact", "dash", "venue_name"):
        assert await db.fetchval(f"SELECT count(*) = count(DISTINCT {name}) FROM symbols WHERE {name} IS NOT NULL")
    await db.close()


async def test_every_row_and_candle_is_renamed_whatever_interrupts_it(database: DatabaseForTest) -> None:
    """Interrupted after each part, and there and back again. Of most candles the trades are gone."""
    db = await connected(database, "compact")
    db.names = Names()
    engine = await engines.detect(db)
    await store(db, [*GONE, *STORED])
    await symbols.store_lists(db, LISTED)
    if engine.has_continuous_aggregates:
        for level in candle_rebuild.LEVELS:
            await db.execute(
                f"CALL refresh_continuous_aggregate('{level.relation}', NULL, $1::timestamptz)", TODAY - DAY
            )
        await db.fetch("SELECT drop_chunks('trades', $1::timestamptz)", HOLE + DAY)
        await db.script(
            "SELECT compress_chunk(chunk) FROM show_chunks('trades', older_than => INTERVAL '2 days') AS chunk;"
            "ALTER MATERIALIZED VIEW candles_1d SET (timescaledb.enable_columnstore,"
            " timescaledb.segmentby = 'exchange, symbol');"
            "SELECT compress_chunk(chunk) FROM show_chunks('candles_1d') AS chunk"
        )
    else:
        await rollups.refresh(db, engine)
        await db.execute("DELETE FROM trades WHERE time < $1", HOLE + DAY)
    await write(db, prepare([], records_of(PERPETUAL), db.names))
    before = {relation: await candles(db, relation) for relation in BUCKETS}
    compressed = await compressed_chunks(db, engine)

    interruptions = 0
    for style in ("compact", "unified"):
        db.names = Names(style, db.names.known)
        while True:
            failpoints.arm({failpoints.VARIABLE: "migrate.renamed:7:raise", failpoints.TEST_FLAG: "1"})
            try:
                await migrate(db, config_of(style), rename_symbols=True)
                break
            except OSError:
                interruptions += 1
                with pytest.raises(SchemaError, match=r"being renamed from the style .* not finished"):
                    await check_schema(db)
        assert await check_schema(db) is engine
        assert await migrate(db, config_of(style), rename_symbols=True) == []
        name = db.names.name
        renamed = {
            relation: sorted(((*row[:2], name("binance", row[2] or ""), *row[3:]) for row in rows), key=str)
            for relation, rows in before.items()
        }
        assert {relation: sorted(await candles(db, relation), key=str) for relation in BUCKETS} == renamed
        for table in TABLES:
            stored = {row["symbol"] for row in await db.fetch(f"SELECT DISTINCT symbol FROM {table}")}
            assert stored == {name("binance", db.names.symbol("binance", one)) for one in stored}
            assert name("binance", PERPETUAL) in stored
        assert await compressed_chunks(db, engine) == compressed
        assert not await paused_jobs(db, engine)
    assert interruptions > 4
    # What comes late makes candles as before, and no old one is lost.
    await store(db, LATE)
    if engine.has_continuous_aggregates:
        await rollups.refresh_window(db, KEPT, KEPT + DAY)
    await rollups.refresh(db, engine)
    rows = [*GONE, *STORED, *LATE]
    for relation, bucket in BUCKETS.items():
        expected = expected_candles(rows, bucket)
        found = [row for row in await candles(db, relation) if row[2] != PERPETUAL]
        assert found == [row for row in expected if row[2] != PERPETUAL], relation
    await db.close()


async def test_events_are_renamed_where_their_market_is_known(database: DatabaseForTest) -> None:
    db = await database.connect()
    await migrate(db, config_of("unified"))
    await symbols.store_lists(db, LISTED)
    said: dict[str, Any] = {"exchange": None, "strategy": None, "at": to_datetime(NOW_US), "side": "buy"}
    order: dict[str, Any] = {**said, "quantity": "2", "order_type": None, "price": "1"}
    for number, symbol in enumerate(["BTC-USDT", "BTCUSDT.P", "DOGE-USDT"]):
        one, two, three = (uuid.UUID(int=10 * number + each) for each in range(3))
        text = json.dumps({"symbol": symbol})
        events: list[Event] = [
            Submitted(id=one, **order, symbol=symbol, data=text, order_id=symbol, client_id=None),
            Executed(id=two, **order, symbol=symbol, data=text, order_id=symbol, fee=None, fee_currency=None),
            Completed(
                id=three, **said, symbol=symbol, data=text, trade_id=symbol, quantity=None, entry_price="1",
                exit_price="2", pnl="1",
            ),
        ]  # fmt: skip
        await store_events(db, events, "binance")
    for style, known in (("unified", {SPOT, PERPETUAL}), ("dash", {"BTC-USDT", "BTC-USDT.P"})):
        if style == "dash":
            await db.close()
            db = await connected(database, "dash")
            await migrate(db, config_of("dash"), rename_symbols=True)
        for table in ("orders", "executions", "completed_trades", "audit.trade_logs"):
            rows = await db.fetch(f"SELECT DISTINCT symbol FROM {table}")
            assert {row["symbol"] for row in rows} == known | {"DOGE-USDT"}, (style, table)
    await db.close()


async def test_a_database_in_another_style_does_not_go_back_to_a_version_that_knows_none(
    database: DatabaseForTest,
) -> None:
    db = await connected(database, "dash")
    await db.execute("UPDATE ingestd_settings SET value = 'dash' WHERE name = 'symbol_style'")
    with pytest.raises(SchemaError, match="symbols are stored in another style than unified"):
        await down(db, 14)
    db.names = Names()
    await migrate(db, config_of("unified"), rename_symbols=True)
    await down(db, 14)
    await migrate(db, config_of("unified"))
    assert await symbol_style.read(db) == {"symbol_style": "unified"}
    await db.close()


async def test_a_colon_alone_makes_no_contract(database: DatabaseForTest) -> None:
    db = await database.connect()
    for name in ("tDOGE:USD", "BTCUSDT.P", "BTC-USDT.P", "BTC/USDT"):
        assert await db.fetchval("SELECT ingestd_counted_base('bitfinex', $1)", name), name
    assert not await db.fetchval("SELECT ingestd_counted_base('bitfinex', 'BTC/USDT:USDT')")
    await db.close()


async def test_nothing_is_renamed_while_a_daemon_is_connected(database: DatabaseForTest) -> None:
    db = await database.connect(names=Names("dash"), application_name="psql")
    daemon = await database.connect(application_name="ingestd main")
    async with daemon.transaction():  # behind a pooler it has a session only meanwhile
        await daemon.fetchval("SELECT 1")
        with pytest.raises(SchemaError, match=r"'ingestd main' from .* is connected: stop every daemon"):
            await migrate(db, config_of("dash"), rename_symbols=True)
    await daemon.close()
    await db.close()


async def test_a_daemon_that_starts_before_the_renaming_begins_stops_it(postgres_database: DatabaseForTest) -> None:
    """It has read the style already, and has no position yet that could be fenced off."""
    db = await postgres_database.connect(names=Names("dash"), application_name="psql")
    other = await postgres_database.connect(application_name="another migration")
    async with migration_steps.locked(other, 1):
        renaming = asyncio.create_task(symbol_rename.rename(db, lock_timeout_s=10))
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while not await other.fetchval(waiting):
            await asyncio.sleep(0.01)
        daemon = await postgres_database.connect(application_name="ingestd main")
        await check_schema(daemon)
    with pytest.raises(SchemaError, match=r"'ingestd main' from .* is connected: stop every daemon"):
        await renaming
    await check_schema(daemon)
    for connection in (daemon, other, db):
        await connection.close()


async def test_a_conversion_to_names_that_are_not_known_changes_nothing(database: DatabaseForTest) -> None:
    db = await database.connect(names=Names("venue"))
    await write(db, prepare([], [trade(1, symbol="NEW/USDT")], Names()))
    with pytest.raises(SchemaError, match=r"1 markets have no name in the style 'venue'.*NEW/USDT of binance"):
        await migrate(db, config_of("venue"), rename_symbols=True)
    db.names = Names()
    await check_schema(db)
    await db.close()


async def compressed_chunks(db: Database, engine: engines.Engine) -> set[str]:
    if not engine.has_continuous_aggregates:
        return set()
    rows = await db.fetch("SELECT chunk_name FROM timescaledb_information.chunks WHERE is_compressed")
    return {row["chunk_name"] for row in rows}


async def paused_jobs(db: Database, engine: engines.Engine) -> int:
    if not engine.has_continuous_aggregates:
        return 0
    count: int = await db.fetchval(
        "SELECT count(*) FROM timescaledb_information.jobs WHERE NOT scheduled AND hypertable_name IS NOT NULL"
    )
    return count
