"""The candles of the pack fks: which of two is shown, what may be written, and what a query of one timeframe reads."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from ingestd.config.models import Config
from ingestd.errors import DatabaseError
from ingestd.storage import engine as engines
from ingestd.storage import migrate, rollups
from ingestd.storage.database import Database
from tests.support.postgres import default_config

T0 = datetime(2026, 11, 5, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
READ_ONLY = "55000"
UNIQUE_VIOLATION = "23505"


def fks(prefer: str = "trades", candles: str = "both") -> Config:
    return default_config(
        database={"dsn": "postgresql://u@h/db", "packs": ["fks"]},
        feeds=[{"exchange": "binance", "symbols": ["BTC/USDT"]}],
        packs={"fks": {"exchange": "binance", "prefer": prefer, "candles": candles}},
    )


async def store_trade(db: Database, at: datetime, price: int, exchange: str = "binance") -> None:
    await db.execute(
        "INSERT INTO trades (time, exchange, symbol, trade_id, seq, side, price, quantity, received_at)"
        " VALUES ($1, $2, 'BTCUSDT', $3, 1, 'buy', $4, 1, $1)",
        at,
        exchange,
        str(at),
        Decimal(price),
    )


async def store_candle(db: Database, at: datetime, timeframe: str, price: int, exchange: str = "binance") -> None:
    await db.execute(
        "INSERT INTO ohlcv_data (time, exchange, symbol, timeframe, open, high, low, close, volume)"
        " VALUES ($1, $2, 'BTCUSDT', $3, $4, $4, $4, $4, 1)",
        at,
        exchange,
        timeframe,
        Decimal(price),
    )


async def refreshed(db: Database) -> None:
    await rollups.refresh(db, await engines.detect(db))


class TestShown:
    async def test_one_row_for_each_time_by_preference(self, db: Database) -> None:
        await migrate.migrate(db, fks())
        draw = random.Random(3)
        ours = {T0 + n * HOUR: n + 1 for n in range(40) if draw.random() < 0.6}
        theirs = {T0 + n * HOUR: 1000 + n for n in range(40) if draw.random() < 0.6}
        assert ours.keys() & theirs.keys()
        assert ours.keys() ^ theirs.keys()
        for at, price in ours.items():
            await store_trade(db, at, price)
            await store_trade(db, at, 7, exchange="kraken")
        for at, price in theirs.items():
            await store_candle(db, at, "1h", price)
            await store_candle(db, at, "1h", 9, exchange="kraken")
        await refreshed(db)
        assert await hours(db) == {**theirs, **ours}
        done = await migrate.migrate(db, fks(prefer="exchange"))
        assert done == ["packs.fks.prefer: trades -> exchange"]
        assert await hours(db) == {**ours, **theirs}
        done = await migrate.migrate(db, fks(candles="exchange"))
        assert done == ["packs.fks.candles: both -> exchange", "packs.fks.prefer: exchange -> trades"]
        assert await hours(db) == theirs
        assert await db.fetchval("SELECT count(*) FROM fks.hourly_ohlcv_agg") == 0, "none of the exchange's minutes"
        await migrate.migrate(db, fks())
        assert await hours(db) == {**theirs, **ours}

    async def test_of_the_exchange_alone_it_is_planned_as_the_table(self, db: Database) -> None:
        await migrate.migrate(db, fks(candles="exchange"))
        await store_candle(db, T0, "1h", 5)
        condition = "symbol = 'BTCUSDT' AND timeframe = '1h' ORDER BY time DESC LIMIT 100"
        view = f"SELECT time, close FROM fks.ohlcv_data WHERE {condition}"
        table = f"SELECT time, close FROM ohlcv_data WHERE exchange = 'binance' AND {condition}"
        planned, direct = [
            [row["QUERY PLAN"] for row in await db.fetch(f"EXPLAIN (COSTS OFF) {sql}")] for sql in (view, table)
        ]
        assert any("Index Cond" in line for line in planned)
        assert planned == direct

    @pytest.mark.parametrize("timeframe", ["1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w", "1M", "2h"])
    async def test_only_relations_of_the_timeframe_are_read(self, db: Database, timeframe: str) -> None:
        await migrate.migrate(db, fks())
        await store_trade(db, T0, 5)
        await store_candle(db, T0, timeframe, 5)
        await refreshed(db)
        sql = f"SELECT * FROM fks.ohlcv_data WHERE symbol = 'BTCUSDT' AND timeframe = '{timeframe}'"
        candles = set() if timeframe == "2h" else {f"candles_{timeframe}"}
        if (await engines.detect(db)).has_continuous_aggregates:
            made_from = await scanned(db, f'SELECT * FROM public."{next(iter(candles))}"') if candles else set()
            assert await scanned(db, sql) == {"ohlcv_data", *made_from}
        else:
            assert await scanned(db, sql) == {"ohlcv_data", *candles}


async def hours(db: Database) -> dict[datetime, int]:
    rows = await db.fetch(
        "SELECT time, close FROM fks.ohlcv_data WHERE symbol = 'BTCUSDT' AND timeframe = '1h' ORDER BY time"
    )
    found = {row["time"]: int(row["close"]) for row in rows}
    assert len(found) == len(rows)
    return found


async def scanned(db: Database, sql: str) -> set[str]:
    """The tables that a plan reads; a chunk counts as its hypertable, and a materialised one as its aggregate."""
    plan = json.loads(await db.fetchval(f"EXPLAIN (FORMAT json) {sql}"))
    names = set(relation_names(plan[0]["Plan"]))
    if not (await engines.detect(db)).has_hypertables:
        return names
    rows = await db.fetch(
        "SELECT chunk_name, coalesce(view_name, chunks.hypertable_name) AS owner FROM timescaledb_information.chunks"
        " LEFT JOIN timescaledb_information.continuous_aggregates"
        " ON materialization_hypertable_name = chunks.hypertable_name"
    )
    owners = {row["chunk_name"]: row["owner"] for row in rows}
    return {owners.get(name, name) for name in names}


def relation_names(node: dict[str, Any]) -> Iterator[str]:
    if "Relation Name" in node:
        yield node["Relation Name"]
    for part in node.get("Plans", ()):
        yield from relation_names(part)


class TestWritten:
    async def test_what_is_restored_is_there_once(self, db: Database) -> None:
        await migrate.migrate(db, fks())
        sql = (
            "INSERT INTO fks.ohlcv_data (time, symbol, timeframe, open, high, low, close, volume, trades_count)"
            " VALUES ($1, 'BTCUSDT', '1m', 1, 2, 0.5, 1.50, 3.123456789012345678, 5)"
        )
        await db.execute(sql, T0)
        row = await db.fetchrow("SELECT exchange, time, close, volume, trades_count FROM public.ohlcv_data")
        assert row is not None
        assert tuple(row.values()) == ("binance", T0, Decimal("1.50"), Decimal("3.123456789012345678"), 5)
        with pytest.raises(DatabaseError) as caught:
            await db.execute(sql, T0)
        assert caught.value.sqlstate == UNIQUE_VIOLATION

    async def test_a_candle_of_the_exchange_is_deleted(self, db: Database) -> None:
        await migrate.migrate(db, fks())
        for at in (T0, T0 + HOUR):
            await store_candle(db, at, "1h", 5)
            await store_candle(db, at, "1h", 5, exchange="kraken")
        await db.execute("DELETE FROM fks.ohlcv_data WHERE symbol = 'BTCUSDT' AND timeframe = '1h' AND time <= $1", T0)
        rows = await db.fetch("SELECT exchange, time FROM public.ohlcv_data ORDER BY exchange, time")
        assert [tuple(row.values()) for row in rows] == [
            ("binance", T0 + HOUR),
            ("kraken", T0),
            ("kraken", T0 + HOUR),
        ]

    async def test_a_candle_of_ours_is_not(self, db: Database) -> None:
        await migrate.migrate(db, fks())
        await store_trade(db, T0, 5)
        await refreshed(db)
        with pytest.raises(DatabaseError, match=r"is made from trades.*\[retention\] candles_1month_days") as caught:
            await db.execute("DELETE FROM fks.ohlcv_data WHERE timeframe = '1M'")
        assert caught.value.sqlstate == READ_ONLY

    async def test_no_candle_is_changed(self, db: Database) -> None:
        await migrate.migrate(db, fks())
        await store_candle(db, T0, "1h", 5)
        for sql in ("UPDATE fks.ohlcv_data SET close = 1", "DELETE FROM fks.hourly_ohlcv_agg"):
            await store_candle(db, T0 + HOUR * len(sql), "1m", 5)
            with pytest.raises(DatabaseError, match=r"fks\.\w+ is read-only") as caught:
                await db.execute(sql)
            assert caught.value.sqlstate == READ_ONLY
