"""The pack platform: what its triggers keep of the events, in any order, and how its views are planned."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from ingestd.config.models import Config
from ingestd.errors import DatabaseError
from ingestd.events.messages import Completed, Executed, Submitted
from ingestd.events.tables import store_events
from ingestd.storage import engine as engines
from ingestd.storage import migrate, rollups
from ingestd.storage.database import Database
from tests.support.postgres import DatabaseForTest, default_config

T0 = datetime(2026, 11, 5, 10, 0, tzinfo=UTC)
DAY = timedelta(days=1)
READ_ONLY = "55000"


def platform(interval: str = "1m") -> Config:
    return default_config(
        database={"dsn": "postgresql://u@h/db", "packs": ["platform"]}, packs={"platform": {"interval": interval}}
    )


async def store(db: Database, *events: Submitted | Executed | Completed) -> None:
    for event in events:
        async with db.transaction():
            await store_events(db, [event])


def said(strategy: str | None) -> dict[str, Any]:
    return {"exchange": "binance", "symbol": "BTC/USDT", "strategy": strategy, "data": "{}"}


def of_an_order(order_id: str) -> list[Submitted | Executed]:
    done: dict[str, Any] = {**said("breakout"), "order_id": order_id, "side": "buy", "order_type": None}
    return [
        Submitted(
            id=uuid.uuid4(),
            at=T0,
            **said("breakout"),
            order_id=order_id,
            side="buy",
            quantity="0.3",
            price="50004",
            order_type="LIMIT",
            client_id=None,
        ),
        Executed(id=uuid.uuid4(), at=T0 + timedelta(seconds=1), **done, quantity="0.1", price="50003", fee="0.01"),
        Executed(id=uuid.uuid4(), at=T0 + timedelta(seconds=2), **done, quantity="0.2", price="50000", fee="0.02"),
    ]


def completed(trade_id: str, at: datetime, pnl: str, strategy: str | None) -> Completed:
    return Completed(
        id=uuid.uuid4(),
        at=at,
        **said(strategy),
        trade_id=trade_id,
        side="buy",
        quantity="2",
        entry_price="100",
        exit_price="110",
        pnl=pnl,
    )


class TestOrders:
    async def test_are_those_of_the_events_in_any_order(self, db: Database) -> None:
        await migrate.migrate(db, platform())
        for number, places in enumerate(itertools.permutations(range(3))):
            events = of_an_order(f"order-{number}")
            await store(db, *(events[place] for place in (*places, *places)))
        rows = await db.fetch(
            "SELECT orders.*, strategies.name FROM platform.executed_orders AS orders"
            " JOIN platform.strategies ON strategies.id = strategy_id ORDER BY order_id"
        )
        assert [row["order_id"] for row in rows] == [f"order-{number}" for number in range(6)]
        for row in rows:
            assert {name: value for name, value in row.items() if name not in ("order_id", "strategy_id")} == {
                "time": T0 + timedelta(seconds=2),
                "symbol": "BTC/USDT",
                "exchange": "binance",
                "side": "buy",
                "type": "LIMIT",
                "price": Decimal(50001),
                "quantity": Decimal("0.3"),
                "filled_quantity": Decimal("0.3"),
                "fees": Decimal("0.03"),
                "status": "FILLED",
                "name": "breakout",
            }
        assert await db.fetchval("SELECT count(*) FROM platform.strategies") == 1

    async def test_one_that_is_only_submitted_is_not_executed(self, db: Database) -> None:
        await migrate.migrate(db, platform())
        await store(db, of_an_order("a")[0])
        assert await db.fetchval("SELECT count(*) FROM platform.executed_orders") == 0

    async def test_those_of_before_are_there(self, db: Database) -> None:
        await store(db, *of_an_order("a"), completed("t", T0, "5", "breakout"))
        await migrate.migrate(db, platform())
        assert await db.fetchval("SELECT sum(fees) FROM platform.executed_orders") == Decimal("0.03")
        closed = "SELECT array_agg(position_id) FROM platform.positions WHERE closed_at IS NOT NULL"
        assert await db.fetchval(closed) == ["t"]

    async def test_a_strategy_of_a_user_is_taken_by_its_name(self, db: Database) -> None:
        await migrate.migrate(db, platform())
        await db.execute("INSERT INTO platform.users (id, username, email, password_hash) VALUES (7, 'a', 'b', 'c')")
        await db.execute("INSERT INTO platform.strategies (id, user_id, name) VALUES (70, 7, 'breakout')")
        await store(db, *of_an_order("a"))
        assert await db.fetchval("SELECT strategy_id FROM platform.executed_orders") == 70


class TestPositions:
    async def test_metrics_are_those_of_the_days(self, db: Database) -> None:
        await migrate.migrate(db, platform())
        draw = random.Random(5)
        trades = [
            completed(str(n), T0 + draw.randrange(96) * timedelta(hours=1), str(draw.randrange(-9, 10)), name)
            for n, name in enumerate(draw.choices(["a", "b", None], k=40))
        ]
        await store(db, *draw.sample(trades, 40), *trades[:5])
        # Of several reports of a trade the earliest counts: this one moves to another day.
        earlier = [completed(trade.trade_id, T0 - 3 * DAY, "3", trade.strategy) for trade in trades[:3]]
        await store(db, *earlier)
        assert await metrics(db) == computed([*earlier, *trades[3:]])
        rows = await db.fetch("SELECT pnl, pnl_percentage FROM platform.positions")
        assert len(rows) == 40
        assert all(row["pnl_percentage"] == row["pnl"] / 2 for row in rows)  # of 2 x 100

    async def test_of_trades_that_are_stored_at_once(self, database: DatabaseForTest) -> None:
        first, second = await database.connect(), await database.connect()
        try:
            await migrate.migrate(first, platform())
            trades = [completed(str(n), T0, "1", "a") for n in range(40)]
            await asyncio.gather(store(first, *trades[:20]), store(second, *trades[20:]))
            assert await metrics(first) == computed(trades)
        finally:
            await first.close()
            await second.close()

    async def test_metrics_of_others_stay(self, db: Database) -> None:
        await migrate.migrate(db, platform())
        await store(db, completed("1", T0, "1", "a"))
        await db.execute(
            "INSERT INTO platform.performance_metrics (time, strategy_id, metric_name, value)"
            " SELECT time, strategy_id, 'exposure', 5 FROM platform.performance_metrics WHERE metric_name = 'pnl'"
        )
        await store(db, completed("2", T0, "2", "a"))
        rows = await db.fetch("SELECT metric_name, value FROM platform.performance_metrics ORDER BY 1")
        assert [row["metric_name"] for row in rows] == ["exposure", "pnl", "total_trades", "win_rate"]
        assert rows[1]["value"] == 3


async def metrics(db: Database) -> dict[tuple[str, datetime, str], Decimal]:
    rows = await db.fetch(
        "SELECT name, time, metric_name, value FROM platform.performance_metrics"
        " JOIN platform.strategies ON strategies.id = strategy_id"
    )
    found = {(row["name"], row["time"], row["metric_name"]): round(row["value"], 6) for row in rows}
    assert len(found) == len(rows)
    return found


def computed(trades: Sequence[Completed]) -> dict[tuple[str, datetime, str], Decimal]:
    days: dict[tuple[str, datetime], list[Decimal]] = {}
    for trade in trades:
        if trade.strategy is not None:
            day = trade.at.replace(hour=0)
            days.setdefault((trade.strategy, day), []).append(Decimal(trade.pnl))
    wanted = {}
    for key, gains in days.items():
        rate = Fraction(100 * sum(gain > 0 for gain in gains), len(gains))
        wanted[*key, "pnl"] = sum(gains, Decimal())
        wanted[*key, "total_trades"] = Decimal(len(gains))
        wanted[*key, "win_rate"] = round(Decimal(rate.numerator) / rate.denominator, 6)
    return wanted


class TestViews:
    @pytest.mark.parametrize("interval", ["1m", "4h", "1M"])
    async def test_candles_are_of_the_configured_interval(self, db: Database, interval: str) -> None:
        await migrate.migrate(db, platform())
        await migrate.migrate(db, platform(interval))
        await store_trades(db)
        view = await db.fetch("SELECT time, high, trades FROM platform.market_data ORDER BY time")
        table = await db.fetch(f'SELECT bucket_start, high, trades_count FROM "candles_{interval}" ORDER BY 1')
        assert [tuple(row.values()) for row in view] == [tuple(row.values()) for row in table]
        if interval == "1M":
            return  # on TimescaleDB a view of days, which is computed either way
        ordered = "WHERE exchange = 'binance' AND symbol = 'BTCUSDT' AND {0} >= '2026-01-01' ORDER BY {0} DESC LIMIT 9"
        planned = await plan_of(db, f"SELECT close FROM platform.market_data {ordered.format('time')}")
        direct = await plan_of(db, f'SELECT close FROM "candles_{interval}" {ordered.format("bucket_start")}')
        assert steps(planned) == steps(direct)

    @pytest.mark.parametrize("style", ["unified", "compact", "dash", "venue"])
    async def test_symbols_have_the_names_of_the_other_tables(self, db: Database, style: str) -> None:
        await migrate.migrate(db, platform())
        names = {"unified": "BTC/USDT:USDT", "compact": "BTCUSDT.P", "dash": "BTC-USDT.P", "venue": "BTC_PERP"}
        await db.execute(
            "INSERT INTO symbols (exchange, symbol, compact, dash, venue_name) VALUES ('binance', $1, $2, $3, $4)",
            *names.values(),
        )
        await db.execute("UPDATE ingestd_settings SET value = $1 WHERE name = 'symbol_style'", style)
        await db.execute("SELECT platform.options_changed()")  # as the `migrate` that renamed the symbols does
        rows = await db.fetch("SELECT symbol, exchange, status FROM platform.symbols")
        assert [tuple(row.values()) for row in rows] == [(names[style], "binance", "active")]

    async def test_a_wrong_book_is_not_shown(self, db: Database) -> None:
        await migrate.migrate(db, platform())
        await db.execute(
            "INSERT INTO order_book (time, exchange, symbol, bids, asks, valid, received_at)"
            " VALUES ($1, 'a', 'B', '[]', '[]', true, $1), ($1, 'a', 'C', '[]', '[]', false, $1)",
            T0,
        )
        assert await db.fetchval("SELECT array_agg(symbol) FROM platform.order_book") == ["B"]
        with pytest.raises(DatabaseError, match=r"platform\.order_book is read-only") as caught:
            await db.execute("DELETE FROM platform.order_book")
        assert caught.value.sqlstate == READ_ONLY


async def store_trades(db: Database) -> None:
    await db.execute(
        "INSERT INTO trades (time, exchange, symbol, trade_id, seq, side, price, quantity, received_at)"
        " SELECT now() - n * INTERVAL '1 minute', 'binance', 'BTCUSDT', n::text, n, 'buy', n, 1, now()"
        " FROM generate_series(1, 5000) AS n"
    )
    await rollups.refresh(db, await engines.detect(db))
    await db.execute("ANALYZE")


async def plan_of(db: Database, sql: str) -> Sequence[str]:
    return [row["QUERY PLAN"] for row in await db.fetch(f"EXPLAIN (COSTS OFF) {sql}")]


def steps(plan: Sequence[str]) -> list[str]:
    """The nodes of a plan in order, without their depth and what is said of them."""
    return [line.partition("->")[2].strip() or line.strip() for line in plan if "->" in line or not line[0].isspace()]
