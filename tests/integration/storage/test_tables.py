"""What the tables take and refuse, retention, compression, and the symbols table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from ingestd.errors import DatabaseError, Reaction, copy_line, reaction_to
from ingestd.status import MarketInfo
from ingestd.storage import engine as engines
from ingestd.storage import migrate, retention, rollups, symbols
from ingestd.storage.database import Database
from tests.integration.storage.test_candles import candles, store
from tests.support.candles import BUCKETS, TradeRow, expected_candles
from tests.support.postgres import DatabaseForTest, default_config

COLUMNS = ("time", "exchange", "symbol", "trade_id", "seq", "side", "price", "quantity", "received_at")
GOOD = "2026-11-20 00:00:00+00\tbinance\tBTC/USDT\t{id}\t1\tbuy\t{price}\t2\t2026-11-20 00:00:00+00\n"
MARKET = MarketInfo("binance", "BTC/USDT", "BTCUSDT", "BTC", "USDT", "spot", True, "0.00001", None, "0.01", "0.00001")


async def test_decimals_come_back_digit_for_digit(db: Database) -> None:
    prices = ["1.10", "0.000000010", "64000", "99999999999999999999.123456789012345678901234567890"]
    payload = "".join(GOOD.format(id=number, price=price) for number, price in enumerate(prices))
    assert await db.copy_text("trades", COLUMNS, payload.encode()) == len(prices)
    rows = await db.fetch("SELECT price::text FROM trades ORDER BY trade_id")
    assert [row["price"] for row in rows] == prices


# What is no number at all is the row's own fault; what breaks a rule of the table is so if others keep it.
@pytest.mark.parametrize(
    ("bad", "reaction"),
    [
        *((text, Reaction.REJECT_ROW) for text in ("abc", "")),
        *((text, Reaction.REJECT_AMONG_OTHERS) for text in ("NaN", "Infinity", "-Infinity", "\\N")),
    ],
)
async def test_a_bad_row_is_named(db: Database, bad: str, reaction: Reaction) -> None:
    payload = "".join(GOOD.format(id=number, price=bad if number == 7 else "1") for number in range(1, 11))
    with pytest.raises(DatabaseError) as caught:
        await db.copy_text("trades", COLUMNS, payload.encode())
    assert reaction_to(caught.value) is reaction
    assert copy_line(caught.value.context) == 7
    assert await db.fetchval("SELECT count(*) FROM trades") == 0


async def test_a_duplicate_is_a_unique_violation(db: Database) -> None:
    await db.copy_text("trades", COLUMNS, GOOD.format(id=1, price="1").encode())
    with pytest.raises(DatabaseError) as caught:
        await db.copy_text("trades", COLUMNS, GOOD.format(id=1, price="1").encode())
    assert reaction_to(caught.value) is Reaction.DEDUPLICATE


KINDS = ("liquidation", "insurance_fund", "adl", "block", "rpi", "settlement", "other")


async def test_a_trade_says_its_kind_and_whether_candles_count_it(database: DatabaseForTest) -> None:
    """The columns come to a table with rows, compressed ones too, and leave it again; the rows stay."""
    db = await database.connect()
    await migrate.down(db, 7)
    await db.copy_text("trades", COLUMNS, GOOD.format(id="old", price="1").encode())
    if database.engine == "timescaledb":
        await db.fetch("SELECT compress_chunk(chunk) FROM show_chunks('trades') AS chunk")
    await migrate.migrate(db, default_config())
    await db.copy_text("trades", COLUMNS, GOOD.format(id="plain", price="1").encode())
    labelled = [GOOD.format(id=kind, price="1").rstrip() + f"\t{kind}\tf\n" for kind in KINDS]
    await db.copy_text("trades", (*COLUMNS, "kind", "in_candles"), "".join(labelled).encode())
    rows = await db.fetch("SELECT trade_id, kind, in_candles FROM trades")
    assert {row["trade_id"]: (row["kind"], row["in_candles"]) for row in rows} == {
        "old": (None, True),
        "plain": (None, True),
        **{kind: (kind, False) for kind in KINDS},
    }
    unknown = GOOD.format(id="x", price="1").rstrip() + "\tBLOCK\n"
    with pytest.raises(DatabaseError) as caught:
        await db.copy_text("trades", (*COLUMNS, "kind"), unknown.encode())
    assert reaction_to(caught.value) is Reaction.REJECT_AMONG_OTHERS
    await migrate.down(db, 7)
    assert await db.fetchval("SELECT count(*) FROM trades") == 2 + len(KINDS)
    await db.close()


async def test_purge_deletes_what_is_past_its_retention(db: Database) -> None:
    now = datetime.now(UTC)
    ages = {"1m": 400, "1h": 800, "1d": 4000, "1M": 400}
    for timeframe, days in ages.items():
        for age in (days, 1):
            await db.execute(
                "INSERT INTO ohlcv_data (time, exchange, symbol, timeframe, open, high, low, close, volume)"
                " VALUES ($1, 'binance', 'BTC/USDT', $2, 1, 1, 1, 1, 1)",
                now - timedelta(days=age),
                timeframe,
            )
    for age in (40, 1):
        await db.execute(
            "INSERT INTO rejected_records (at, table_name, reason, record) VALUES ($1, 'trades', 'test', '{}')",
            now - timedelta(days=age),
        )
    engine = await engines.detect(db)
    deleted = await retention.purge(db, engine, default_config())
    assert deleted == {"ohlcv_data": 3, "rejected_records": 1}
    kept = await db.fetch("SELECT timeframe, count(*) AS rows FROM ohlcv_data GROUP BY 1 ORDER BY 1")
    assert {row["timeframe"]: row["rows"] for row in kept} == {"1M": 2, "1d": 1, "1h": 1, "1m": 1}
    assert await retention.purge(db, engine, default_config()) == {}


async def test_purge_keeps_candles_of_trades_it_deletes(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    engine = await engines.detect(db)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = [
        TradeRow(today - timedelta(days=20, seconds=number), "BTC/USDT", str(number), number, "buy", "1.5", "2")
        for number in range(5)
    ]
    await store(db, rows)
    await rollups.refresh(db, engine)
    config = default_config(retention={"trades_days": 10})
    assert await retention.purge(db, engine, config) == {"trades": 5}
    assert await candles(db, "candles_1m") == expected_candles(rows, BUCKETS["candles_1m"])
    assert await retention.purge(db, engine, default_config(retention={"trades_days": 0})) == {}
    await db.close()


async def test_retention_drops_chunks_and_not_the_candles(timescaledb_database: DatabaseForTest) -> None:
    db = await timescaledb_database.connect()
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    old = [TradeRow(today - timedelta(days=400), "BTC/USDT", "old", 1, "buy", "1.5", "2")]
    new = [TradeRow(today - timedelta(days=3), "BTC/USDT", "new", 1, "buy", "2.5", "2")]
    await store(db, [*old, *new])
    await db.execute("CALL refresh_continuous_aggregate('candles_1m', NULL, now() - INTERVAL '1 hour')")
    job = await db.fetchval(
        "SELECT job_id FROM timescaledb_information.jobs"
        " WHERE hypertable_name = 'trades' AND proc_name = 'policy_retention'"
    )
    await db.execute(f"CALL run_job({job})")
    assert await db.fetchval("SELECT string_agg(trade_id, ',') FROM trades") == "new"
    await rollups.refresh_window(db, today - timedelta(days=500), today)
    assert await candles(db, "candles_1m") == expected_candles([*old, *new], BUCKETS["candles_1m"])
    await db.close()


async def test_late_rows_reach_compressed_chunks(timescaledb_database: DatabaseForTest) -> None:
    db = await timescaledb_database.connect()
    day = datetime(2026, 11, 10, tzinfo=UTC)
    rows = [
        TradeRow(day + timedelta(seconds=10 * number), "BTC/USDT", str(number), number, "buy", "1.5", "2")
        for number in range(3000)
    ]
    await store(db, rows)
    await rollups.refresh_window(db, day, day + timedelta(days=1))
    compressed = await db.fetch("SELECT compress_chunk(chunk) FROM show_chunks('trades') AS chunk")
    assert compressed
    late = TradeRow(day + timedelta(seconds=15), "BTC/USDT", "late", 0, "sell", "9.25", "1")
    await store(db, [late])
    with pytest.raises(DatabaseError) as caught:
        await store(db, [rows[17]])
    assert caught.value.sqlstate == "23505"
    await rollups.refresh_window(db, late.time, late.time + timedelta(microseconds=1))
    assert await candles(db, "candles_1h") == expected_candles([*rows, late], BUCKETS["candles_1h"])
    assert await db.fetchval("SELECT count(*) FROM trades") == len(rows) + 1
    await db.close()


async def test_upsert_symbols(db: Database) -> None:
    perpetual = replace(MARKET, symbol="BTC/USDT:USDT", type="swap", min_amount=None)
    assert await symbols.upsert_symbols(db, [perpetual, MARKET]) == 2
    assert await symbols.upsert_symbols(db, [MARKET, perpetual]) == 0
    assert await symbols.upsert_symbols(db, [replace(MARKET, active=False), perpetual]) == 1
    assert await symbols.upsert_symbols(db, []) == 0
    rows = await db.fetch("SELECT symbol, compact, status, price_precision FROM symbols ORDER BY symbol")
    assert [tuple(row.values()) for row in rows] == [
        ("BTC/USDT", "BTCUSDT", "inactive", 2),
        ("BTC/USDT:USDT", "BTCUSDT.P", "active", 2),
    ]


async def test_two_perpetuals_of_one_pair_have_names_of_their_own(db: Database) -> None:
    inverse = replace(MARKET, exchange="krakenfutures", symbol="BTC/USD:BTC", market_id="PI_XBTUSD", type="swap")
    linear = replace(inverse, symbol="BTC/USD:USD", market_id="PF_XBTUSD")
    await symbols.upsert_symbols(db, [inverse, linear])
    rows = await db.fetch("SELECT market_id, compact, dash FROM symbols ORDER BY market_id")
    assert [tuple(row.values()) for row in rows] == [
        ("PF_XBTUSD", "BTCUSD", "BTC-USD"),
        ("PI_XBTUSD", "BTCUSD.BTC", "BTC-USD.BTC"),
    ]
    with pytest.raises(DatabaseError) as caught:
        await db.execute("UPDATE symbols SET compact = 'BTCUSD'")
    assert caught.value.sqlstate == "23505"


async def test_a_writer_needs_no_right_on_the_marks(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    async with db.transaction():
        await db.script("CREATE ROLE writer; GRANT INSERT ON trades TO writer; SET LOCAL ROLE writer")
        await db.copy_text("trades", COLUMNS, GOOD.format(id=1, price="1").encode())
        await db.script("RESET ROLE")
        assert await db.fetchval("SELECT count(*) FROM candles_marks") == 1
        await db.script("DROP OWNED BY writer; DROP ROLE writer")
    await db.close()


OI_COLUMNS = ("time", "exchange", "symbol", "open_interest", "open_interest_usd", "received_at")
OI_OF_BEFORE = "2026-11-01 00:00:00+00\tbybit\tBTC/USDT:USDT\t12.5\t\\N\t2026-11-01 00:00:01+00\n"
OI_VALUE = "2026-11-02 00:00:00+00\tbybit\tBTC/USD:BTC\t\\N\t1500000\t2026-11-02 00:00:01+00"


async def test_open_interest_may_be_a_value_only_and_says_its_unit(database: DatabaseForTest) -> None:
    """Also over chunks that were compressed before."""
    db = await database.connect()
    await migrate.down(db, 10)
    await db.copy_text("oi_snapshots", OI_COLUMNS, OI_OF_BEFORE.encode())
    if database.engine == "timescaledb":
        assert await db.fetch("SELECT compress_chunk(chunk) FROM show_chunks('oi_snapshots') AS chunk")
    await migrate.migrate(db, default_config())

    rows = f"{OI_VALUE}\tquote\n".encode()
    await db.copy_text("oi_snapshots", (*OI_COLUMNS, "unit"), rows)
    stored = await db.fetch("SELECT open_interest, open_interest_usd, unit FROM oi_snapshots ORDER BY time")
    assert [tuple(row.values()) for row in stored] == [(Decimal("12.5"), None, None), (None, Decimal(1500000), "quote")]
    neither = OI_VALUE.replace("1500000", "\\N")
    for wrong in (f"{OI_VALUE}\tlots\n", f"{neither}\tquote\n"):
        with pytest.raises(DatabaseError) as caught:
            await db.copy_text("oi_snapshots", (*OI_COLUMNS, "unit"), wrong.encode())
        assert reaction_to(caught.value) is Reaction.REJECT_AMONG_OTHERS
    await migrate.down(db, 10)
    assert await db.fetchval("SELECT count(*) FROM oi_snapshots") == 1
    await db.close()


LIQUIDATION = ("time", "exchange", "symbol", "side", "price", "quantity", "order_id", "received_at")
FORCED = "2026-11-01 00:00:00+00\tbybit\tBTC/USDT:USDT\t{side}\t{price}\t0.50\t\\N\t2026-11-01 00:00:01+00\n"


async def test_liquidations_come_and_go_with_their_migration(database: DatabaseForTest) -> None:
    """Also over chunks that are compressed, where a duplicate is found all the same."""
    db = await database.connect()
    await migrate.down(db, 12)
    assert await db.fetchval("SELECT to_regclass('liquidations')") is None
    await migrate.migrate(db, default_config())
    row = FORCED.format(side="sell", price="64000.10").encode()
    await db.copy_text("liquidations", LIQUIDATION, row)
    if database.engine == "timescaledb":
        assert await db.fetch("SELECT compress_chunk(chunk) FROM show_chunks('liquidations') AS chunk")
    with pytest.raises(DatabaseError) as caught:
        await db.copy_text("liquidations", LIQUIDATION, row)
    assert reaction_to(caught.value) is Reaction.DEDUPLICATE
    for side, price in (("long", "1"), ("\\N", "1"), ("sell", "NaN"), ("sell", "\\N")):
        with pytest.raises(DatabaseError) as caught:
            await db.copy_text("liquidations", LIQUIDATION, FORCED.format(side=side, price=price).encode())
        assert reaction_to(caught.value) is Reaction.REJECT_AMONG_OTHERS
    assert await db.fetchval("SELECT price::text FROM liquidations") == "64000.10"
    await migrate.down(db, 12)
    await migrate.migrate(db, default_config())
    assert await db.fetchval("SELECT count(*) FROM liquidations") == 0
    await db.close()


async def test_mark_prices_come_and_go_with_their_migration(database: DatabaseForTest) -> None:
    db = await database.connect()
    await migrate.down(db, 13)
    assert await db.fetchval("SELECT to_regclass('mark_prices')") is None
    await migrate.migrate(db, default_config())
    columns = ("time", "exchange", "symbol", "mark_price", "index_price", "received_at")
    row = "2026-11-01 00:00:00+00\tbybit\tBTC/USDT:USDT\t{mark}\t{index}\t2026-11-01 00:00:01+00\n"
    good = row.format(mark="17217.330", index="\\N").encode()
    await db.copy_text("mark_prices", columns, good)
    if database.engine == "timescaledb":
        assert await db.fetch("SELECT compress_chunk(chunk) FROM show_chunks('mark_prices') AS chunk")
    await db.copy_text("mark_prices", columns, good)
    for mark, index in (("NaN", "1"), ("\\N", "1"), ("1", "Infinity")):
        with pytest.raises(DatabaseError) as caught:
            await db.copy_text("mark_prices", columns, row.format(mark=mark, index=index).encode())
        assert reaction_to(caught.value) is Reaction.REJECT_AMONG_OTHERS
    stored = await db.fetch("SELECT mark_price::text, index_price FROM mark_prices")
    assert [tuple(found.values()) for found in stored] == [("17217.330", None)] * 2
    await migrate.down(db, 12)
    await migrate.migrate(db, default_config())
    await db.close()


@pytest.mark.parametrize(
    "bad",
    [
        replace(MARKET, symbol="B\0D/USDT", base="B\0D"),
        replace(MARKET, symbol="BAD/USDT", base="\ud800"),
        replace(MARKET, symbol="".join(chr(0x4E00 + 7919 * n % 20_000) for n in range(1900))),
        replace(MARKET, symbol="BAD/USDT", min_amount="a lot"),
    ],
    ids=["NUL", "half a surrogate pair", "too long for an index", "no number"],
)
async def test_a_market_that_cannot_be_stored_empties_no_table(db: Database, bad: MarketInfo) -> None:
    sound = [replace(MARKET, symbol=f"C{number}/USDT", market_id=f"C{number}USDT") for number in range(20)]
    assert await symbols.upsert_symbols(db, [*sound[:7], bad, *sound[7:]]) == 20
    rows = await db.fetch("SELECT symbol FROM symbols")
    assert {row["symbol"] for row in rows} == {market.symbol for market in sound}
