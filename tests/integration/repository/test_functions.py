"""The functions of the repository on real databases, through SQLAlchemy and through asyncpg."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from ingestd.errors import MarketUnknown, PayloadError, SchemaError
from ingestd.repository import (
    CandlePayload,
    FundingPayload,
    OpenInterestPayload,
    StoredCandle,
    TradePayload,
    make_engine,
)
from ingestd.status import MarketInfo
from ingestd.storage import engine as engines
from ingestd.storage import rollups, symbols
from ingestd.storage.database import Database
from ingestd.storage.migrations import read_sql
from tests.integration.repository.fronts import Front, OnAsyncpg, OnSqlAlchemy
from tests.support.postgres import DatabaseForTest

MINUTE = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=10)
SPOT, PERPETUAL, INVERSE = "BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC"
LISTED = [
    MarketInfo("binance", SPOT, "BTCUSDT", "BTC", "USDT", "spot", True, quantity_unit="base"),
    MarketInfo("binance", PERPETUAL, "BTCUSDT", "BTC", "USDT", "swap", True, linear=True, quantity_unit="base"),
    MarketInfo("binance", INVERSE, "BTCUSD_PERP", "BTC", "USD", "swap", True, linear=False, contract_size="100",
               quantity_unit="contracts", open_interest_unit="contracts"),
]  # fmt: skip
# The columns of the table in docs/schema.md, and what the column symbol holds in each style.
SPELLINGS = {
    SPOT: {"unified": "BTC/USDT", "compact": "BTCUSDT", "dash": "BTC-USDT", "venue": "BTCUSDT"},
    PERPETUAL: {"unified": "BTC/USDT:USDT", "compact": "BTCUSDT.P", "dash": "BTC-USDT.P", "venue": "BTCUSDT.P"},
    INVERSE: {"unified": "BTC/USD:BTC", "compact": "BTCUSD.BTC.P", "dash": "BTC-USD.BTC.P", "venue": "BTCUSD_PERP"},
}
STYLES = ("unified", "compact", "dash", "venue")


def candle(minute: int = 0, **changes: Any) -> CandlePayload:
    made = CandlePayload(
        "BTCUSDT", MINUTE + timedelta(minutes=minute), Decimal("64000.12"), Decimal("64120.55"), Decimal("63950.02"),
        Decimal("64080.10"), Decimal("152.4"),
    )  # fmt: skip
    return replace(made, **changes)


def trade(number: int, **changes: Any) -> TradePayload:
    at = MINUTE + timedelta(seconds=number)
    return replace(TradePayload("BTCUSDT", at, number, Decimal("100.50"), Decimal("0.25"), True), **changes)


async def set_style(db: Database, style: str) -> None:
    await db.execute("UPDATE ingestd_settings SET value = $1 WHERE name = 'symbol_style'", style)


async def candles_are_made(db: Database) -> None:
    await rollups.refresh(db, await engines.detect(db))


@pytest.mark.parametrize("style", STYLES)
async def test_a_market_is_stored_under_its_name_in_the_style_and_found_by_each_of_its_names(
    db: Database, front: Front, style: str
) -> None:
    await set_style(db, style)
    await symbols.store_lists(db, LISTED)
    number = 0
    for market, spellings in SPELLINGS.items():
        for spelling in set(spellings.values()):
            number += 1
            assert await front.call("upsert_candles", [candle(number, symbol=spelling)]) == 1
            assert await front.call("upsert_trades", [trade(number, symbol=spelling)]) == 1
            at = MINUTE + timedelta(seconds=number)
            assert await front.call("upsert_open_interest", [OpenInterestPayload(spelling, at, "5")]) == 1
            assert await front.call("upsert_funding", [FundingPayload(spelling, at, "0.0001")]) == 1
        for table in ("ohlcv_data", "trades", "oi_snapshots", "funding"):
            stored = await db.fetch(f"SELECT DISTINCT symbol FROM {table} WHERE symbol = $1", spellings[style])
            assert len(stored) == 1, (table, market)
        for spelling in spellings.values():
            found = await front.call("recent_trades", spelling, 100)
            assert len(found) == len(set(spellings.values()))
            assert {row.symbol for row in found} == {spelling}
            assert (await front.call("latest_open_interest", spelling)).open_interest == Decimal(5)
            assert (await front.call("latest_funding", spelling)).funding_rate == Decimal("0.0001")
            reported = await front.call(
                "fetch_candles", spelling, MINUTE, MINUTE + timedelta(hours=1), prefer="reported"
            )
            assert len([row for row in reported if row.source == "reported"]) == len(set(spellings.values()))
    every = {row["symbol"] for row in await db.fetch("SELECT DISTINCT symbol FROM trades")}
    assert every == {spellings[style] for spellings in SPELLINGS.values()}


async def test_without_any_listed_market_the_form_of_the_name_decides(db: Database, front: Front) -> None:
    for style, stored in (("unified", "ETH/USDT"), ("compact", "ETHUSDT"), ("dash", "ETH-USDT")):
        await set_style(db, style)
        assert await front.call("upsert_candles", [candle(symbol="ETHUSDT")]) == 1
        assert await db.fetchval("SELECT symbol FROM ohlcv_data") == stored
        await db.execute("DELETE FROM ohlcv_data")
    await set_style(db, "venue")
    with pytest.raises(MarketUnknown, match="own name of ETHUSDT on binance is not known"):
        await front.call("upsert_candles", [candle(symbol="ETHUSDT")])
    assert await db.fetchval("SELECT count(*) FROM ohlcv_data") == 0


async def test_the_caller_commits(db: Database, front: Front) -> None:
    at = MINUTE
    calls: list[tuple[str, list[Any], str]] = [
        ("upsert_candles", [candle()], "ohlcv_data"),
        ("upsert_trades", [trade(1)], "trades"),
        ("upsert_open_interest", [OpenInterestPayload("BTCUSDT", at, "5")], "oi_snapshots"),
        ("upsert_funding", [FundingPayload("BTCUSDT", at, "0.1")], "funding"),
    ]
    for function, payloads, table in calls:
        assert await front.abandoned(function, payloads) == 1
        assert await db.fetchval(f"SELECT count(*) FROM {table}") == 0
        assert await front.call(function, payloads) == 1
        assert await db.fetchval(f"SELECT count(*) FROM {table}") == 1


async def test_what_is_stored_again_changes_nothing_and_what_differs_replaces_it(db: Database, front: Front) -> None:
    at = MINUTE
    for function, payload, other, table, column, value in (
        ("upsert_candles", candle(), candle(close="1.5"), "ohlcv_data", "close", "1.5"),
        ("upsert_open_interest", OpenInterestPayload("BTCUSDT", at, "5", "7"), OpenInterestPayload("BTCUSDT", at, "6"),
         "oi_snapshots", "open_interest", "6"),
        ("upsert_funding", FundingPayload("BTCUSDT", at, "0.1"), FundingPayload("BTCUSDT", at, "-0.2"), "funding",
         "funding_rate", "-0.2"),
    ):  # fmt: skip
        assert [await front.call(function, [payload]) for _ in range(2)] == [1, 0]
        assert await front.call(function, [payload, other]) == 1, "of two with one key the last counts"
        assert [row[column] for row in await db.fetch(f"SELECT {column} FROM {table}")] == [Decimal(value)]


async def test_a_stored_trade_stays(db: Database, front: Front) -> None:
    assert await front.call("upsert_trades", [trade(1), trade(1, price="2"), trade(2)]) == 2
    assert await front.call("upsert_trades", [trade(1, price="3")]) == 0
    assert [row["price"] for row in await db.fetch("SELECT price FROM trades ORDER BY seq")] == [Decimal("100.50")] * 2


async def test_candles_of_trades_and_reported_ones_are_read_together(db: Database, front: Front) -> None:
    """Minute 0 has both, minute 1 trades only, minute 2 a report only; minute 3 is after the end."""
    await front.call("upsert_candles", [candle(0), candle(2, trades_count=9, quote_volume="9.75"), candle(3)])
    prices = [(1, "101.5", "1"), (2, "99.25", "0.5"), (3, "100.0", "0.25"), (61, "7", "2")]
    await front.call(
        "upsert_trades", [trade(second, price=price, quantity=size) for second, price, size in reversed(prices)]
    )
    await candles_are_made(db)
    found = await front.call("fetch_candles", symbol="BTCUSDT", start=MINUTE, end=MINUTE + timedelta(minutes=2))
    assert [(row.bucket_start, row.source) for row in found] == [
        (MINUTE, "trades"),
        (MINUTE + timedelta(minutes=1), "trades"),
        (MINUTE + timedelta(minutes=2), "reported"),
    ]
    assert found[0] == StoredCandle(
        "binance", "BTCUSDT", MINUTE, Decimal("101.5"), Decimal("101.5"), Decimal("99.25"), Decimal("100.0"),
        Decimal("1.75"), Decimal("101.5") + Decimal("49.625") + Decimal(25), 3, Decimal(0), Decimal(0), "trades",
        MINUTE + timedelta(minutes=1),
    )  # fmt: skip
    assert (found[2].close, found[2].trades_count, found[2].quote_volume) == (Decimal("64080.10"), 9, Decimal("9.75"))
    reported = await front.call("fetch_candles", "BTCUSDT", MINUTE, MINUTE + timedelta(minutes=2), prefer="reported")
    assert [row.source for row in reported] == ["reported", "trades", "reported"]
    assert await front.call("fetch_candles", "BTCUSDT", MINUTE, MINUTE, exchange="okx") == []
    sources = {0: "trades", 1: "trades", 2: "reported", 3: "reported"}
    for first, last in ((0, 1), (0, 0), (0.5, 2), (0, 1.5), (1, 3), (1.5, 1.75), (2, 2.5)):
        start, end = (MINUTE + timedelta(minutes=minutes) for minutes in (first, last))
        found = await front.call("fetch_candles", "BTCUSDT", start, end)
        assert [(row.bucket_start, row.source) for row in found] == [
            (MINUTE + timedelta(minutes=minute), source)
            for minute, source in sources.items()
            if first <= minute <= last
        ]


async def test_reports_are_read_only_where_a_minute_has_no_trade(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    try:
        await db.execute(
            "INSERT INTO trades (time, exchange, symbol, trade_id, seq, price, quantity, received_at)"
            " SELECT $1::timestamptz + n * INTERVAL '1 minute', 'binance', 'B', n::text, n, 1, 1, now()"
            " FROM generate_series(0, 9) AS n",
            MINUTE,
        )
        await candles_are_made(db)
        for minutes, are_read in ((9, False), (10, True)):
            end = MINUTE + timedelta(minutes=minutes)
            plan = await db.fetch(
                f"EXPLAIN (ANALYZE, COSTS OFF) {read_sql('queries/repository/candles.sql')}",
                "binance", "B", MINUTE, end, "trades",
            )  # fmt: skip
            (scan,) = [row["QUERY PLAN"] for row in plan if "on ohlcv_data" in row["QUERY PLAN"]]
            assert ("never executed" not in scan) == are_read
    finally:
        await db.close()


async def test_the_quote_volume_of_contracts_is_what_their_market_says(db: Database, front: Front) -> None:
    """3 contracts of 100 USD are worth 300 USD; of an unlisted inverse market nobody knows."""
    await set_style(db, "compact")
    await symbols.store_lists(db, LISTED)
    for symbol in ("BTCUSD.BTC.P", "ETHUSD.ETH.P", "ETHUSDT.P"):
        await front.call("upsert_trades", [trade(1, symbol=symbol, price="40000", quantity="3")])
    await candles_are_made(db)
    worth = {}
    for symbol in ("BTCUSD.BTC.P", "ETHUSD.ETH.P", "ETHUSDT.P"):
        (row,) = await front.call("fetch_candles", symbol, MINUTE, MINUTE)
        worth[symbol] = row.quote_volume
    assert worth == {"BTCUSD.BTC.P": Decimal(300), "ETHUSD.ETH.P": None, "ETHUSDT.P": Decimal(120_000)}
    await front.call("upsert_open_interest", [OpenInterestPayload("BTCUSD_PERP", MINUTE, "5")])
    assert (await front.call("latest_open_interest", "BTCUSD_PERP")).unit == "contracts"


async def test_recent_trades_are_the_last_ones(front: Front) -> None:
    await front.call("upsert_trades", [trade(number) for number in range(1, 8)])
    same = MINUTE + timedelta(seconds=7)
    await front.call("upsert_trades", [trade(10, trade_ts=same, is_buyer_maker=False), trade(9, trade_ts=same)])
    found = await front.call("recent_trades", "BTC/USDT", 4)
    assert [row.trade_id for row in found] == ["10", "9", "7", "6"]
    assert [(row.is_buyer_maker, row.side) for row in found[:2]] == [(False, "buy"), (True, "sell")]
    assert [row.trade_ts for row in found[2:]] == [same, same - timedelta(seconds=1)]


async def test_the_latest_is_the_newest_or_none(front: Front) -> None:
    assert await front.call("latest_funding", "BTCUSDT") is None
    assert await front.call("latest_open_interest", "BTCUSDT") is None
    for age in (3, 1, 2):
        at = MINUTE - timedelta(hours=age)
        await front.call(
            "upsert_funding", [FundingPayload("BTCUSDT", at, str(age), annualised_rate="1.5", payment="2")]
        )
        await front.call("upsert_open_interest", [OpenInterestPayload("BTCUSDT", at, str(age), basis="-12")])
    funding = await front.call("latest_funding", "BTCUSDT")
    assert (funding.funding_rate, funding.annualised_rate, funding.payment) == (1, Decimal("1.5"), 2)
    interest = await front.call("latest_open_interest", "BTCUSDT")
    assert (interest.open_interest, interest.basis, interest.open_interest_usd) == (1, -12, None)
    assert interest.snapshot_ts == MINUTE - timedelta(hours=1)


async def test_settings_of_the_database_change_no_time(db: Database, front: Front, database: Any) -> None:
    """A time zone with half hours, days before months, and a search_path that leads elsewhere."""
    name = await db.fetchval("SELECT current_database()")
    await db.script(
        f"CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.trades (nothing integer);"
        f"ALTER DATABASE \"{name}\" SET timezone = 'Asia/Kolkata';"
        f"ALTER DATABASE \"{name}\" SET datestyle = 'ISO, DMY';"
        f'ALTER DATABASE "{name}" SET search_path = elsewhere'
    )
    naive = MINUTE.replace(tzinfo=None)
    await front.call("upsert_trades", [trade(1, trade_ts=naive)])
    await front.call("upsert_candles", [candle(bucket_start=naive)])
    assert await db.fetchval("SELECT time FROM trades") == MINUTE
    (row,) = await front.call("recent_trades", "BTCUSDT")
    assert (row.trade_ts, row.trade_ts.tzinfo) == (MINUTE, UTC)
    (table,) = (await front.call("arrow_trades", "BTCUSDT", naive, naive)).to_pylist()
    assert table["trade_ts"] == MINUTE
    assert [row.bucket_start for row in await front.call("fetch_candles", "BTCUSDT", naive, naive)] == [MINUTE]


async def test_a_payload_that_no_table_takes_leaves_nothing_of_its_batch(db: Database, front: Front) -> None:
    with pytest.raises(PayloadError, match="its price is not above 0"):
        await front.call("upsert_trades", [trade(1), trade(2, price="0")])
    assert await db.fetchval("SELECT count(*) FROM trades") == 0


async def test_while_symbols_are_renamed_nothing_is_written(db: Database, front: Front) -> None:
    await db.execute("INSERT INTO ingestd_settings (name, value) VALUES ('symbol_style_next', 'dash')")
    with pytest.raises(SchemaError, match="being renamed to the style 'dash'"):
        await front.call("upsert_trades", [trade(1)])


async def test_many_rows_of_many_markets_in_one_call(db: Database, front: Front) -> None:
    count = 5000
    payloads = [
        TradePayload(f"C{number % 50}USDT", MINUTE + timedelta(milliseconds=number), number, "1.5", "2", side="buy")
        for number in range(count)
    ]
    assert await front.call("upsert_trades", payloads) == count
    assert await front.call("upsert_trades", payloads) == 0
    assert await db.fetchval("SELECT count(DISTINCT symbol) FROM trades") == 50


async def test_what_is_in_columnar_chunks_is_replaced_and_read_too(timescaledb_database: DatabaseForTest) -> None:
    """A late correction: the chunk of three weeks ago is compressed."""
    old = MINUTE - timedelta(days=21)
    db = await timescaledb_database.connect()
    engine = make_engine(timescaledb_database.dsn)
    for front in (OnSqlAlchemy(engine), OnAsyncpg(timescaledb_database.dsn)):
        at = [old + timedelta(minutes=number) for number in range(3)]
        await db.script("TRUNCATE ohlcv_data, trades, oi_snapshots, funding")
        await front.call("upsert_candles", [candle(bucket_start=minute) for minute in at])
        await front.call("upsert_trades", [trade(1, trade_ts=at[0])])
        await front.call("upsert_funding", [FundingPayload("BTCUSDT", minute, "0.1") for minute in at])
        for table in ("ohlcv_data", "trades", "funding"):
            chunks = await db.fetch(f"SELECT compress_chunk(chunk)::text FROM show_chunks('{table}') AS chunk")
            assert chunks, table
        corrected = [candle(bucket_start=at[0]), candle(bucket_start=at[1], close="1.5")]
        assert await front.call("upsert_candles", corrected) == 1
        assert await front.call("upsert_trades", [trade(1, trade_ts=at[0]), trade(2, trade_ts=at[1])]) == 1
        assert await front.call("upsert_funding", [FundingPayload("BTCUSDT", at[2], "0.2")]) == 1
        found = await front.call("fetch_candles", "BTCUSDT", at[0], at[2], prefer="reported")
        assert [row.close for row in found] == [Decimal("64080.10"), Decimal("1.5"), Decimal("64080.10")]
        assert (await front.call("latest_funding", "BTCUSDT")).funding_rate == Decimal("0.2")
        assert len(await front.call("recent_trades", "BTCUSDT")) == 2
    engine.dispose()
    await db.close()
