"""The audit log tells facts apart: its documented statements, or the views in their place, give the right numbers."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ingestd.events.messages import Event, read_event
from ingestd.events.tables import store_events
from ingestd.storage.database import Database
from ingestd.storage.migrate import down, migrate
from tests.support.postgres import DatabaseForTest, default_config

BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
# As printed for the table: of the rows whose action is SELL, those whose pnl is above zero.
PRINTED_WIN_RATE = (
    "SELECT strategy, COUNT(*) FILTER (WHERE metadata->>'pnl' > '0') * 100.0 / COUNT(*) as win_rate"
    " FROM audit.trade_logs WHERE action = 'SELL' GROUP BY strategy"
)


def event(event_type: str, at: datetime, **data: Any) -> Event:
    value = json.dumps({"event_type": event_type, "timestamp": at.isoformat(), "data": {"exchange": "kraken", **data}})
    return read_event(event_type, value.encode(), [], BEGIN + timedelta(days=90))


def trade(number: int, at: datetime, pnl: str, **more: Any) -> Event:
    said = {"trade_id": str(number), "symbol": "BTC-USD", "entry_price": "100", "exit_price": "101", **more}
    return event("TRADE_COMPLETED", at, pnl=pnl, **said)


def life_of_a_sale(number: int, pnl: str, strategy: str) -> list[Event]:
    """All events of one sale: the order, two executions of it, and the trade that it completed."""
    order = {"order_id": str(number), "symbol": "BTC-USD", "strategy": strategy}
    parts = [
        event("ORDER_EXECUTED", BEGIN, **order, executed_price="9", executed_quantity=part) for part in ("0.4", "0.6")
    ]
    return [
        event("ORDER_SUBMITTED", BEGIN, **order, side="sell", quantity="1"),
        *parts,
        event("ORDER_CANCELLED", BEGIN, **{**order, "order_id": f"{number} too"}, side="sell"),
        trade(number, BEGIN, pnl, strategy=strategy),
    ]


async def test_the_printed_win_rate_is_right(db: Database) -> None:
    wins = {"momentum": ["5", "0.25", "3"], "reversal": ["-1", "2", "-7.5", "0"]}
    sales = [(strategy, pnl) for strategy, results in wins.items() for pnl in results]
    for number, (strategy, pnl) in enumerate(sales):
        async with db.transaction():
            await store_events(db, life_of_a_sale(number, pnl, strategy))
    expected = {"momentum": 100, "reversal": 25}
    for sql in (PRINTED_WIN_RATE, "SELECT strategy, win_rate FROM audit.win_rate"):
        assert {row["strategy"]: row["win_rate"] for row in await db.fetch(sql)} == expected
    total = await db.fetchval("SELECT count(*) FROM audit.trade_logs")
    assert total == 5 * 7, "nothing of what arrived is missing"
    told = await db.fetch("SELECT DISTINCT action, status FROM audit.trade_logs")
    assert {tuple(row.values()) for row in told} == {
        ("ORDER_SELL", "pending"),
        ("ORDER_SELL", "filled"),
        ("ORDER_SELL", "cancelled"),
        ("SELL", "filled"),
    }


async def test_shorts_and_reports_that_come_twice_count_once_in_the_views(db: Database) -> None:
    at = BEGIN + timedelta(hours=23, minutes=59)
    events = [
        trade(1, at, "10", side="sell", strategy="short"),
        trade(2, at + timedelta(minutes=2), "-4", side="sell", strategy="short"),
        trade(2, at + timedelta(minutes=3), "-9", side="sell", strategy="short"),  # a later report of the same trade
        trade(3, at, "0.000", strategy="flat"),
    ]
    async with db.transaction():
        await store_events(db, events)
    rows = await db.fetch("SELECT date, strategy, daily_pnl FROM audit.daily_pnl ORDER BY strategy, date")
    assert [tuple(row.values()) for row in rows] == [
        (date(2026, 10, 1), "flat", 0),
        (date(2026, 10, 1), "short", 10),
        (date(2026, 10, 2), "short", -4),
    ]
    rates = await db.fetch("SELECT strategy, win_rate, trades FROM audit.win_rate ORDER BY strategy")
    assert [tuple(row.values()) for row in rates] == [("flat", 0, 1), ("short", 50, 2)]


async def test_rows_of_before_get_their_actions_and_back(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    async with db.transaction():
        lone = event("ORDER_EXECUTED", BEGIN, order_id="x", symbol="BTC-USD", executed_price="1", executed_quantity="1")
        await store_events(db, [*life_of_a_sale(1, "5", "momentum"), lone])
    sql = "SELECT action, count(*) FROM audit.trade_logs GROUP BY 1 ORDER BY 1"
    now = [tuple(row.values()) for row in await db.fetch(sql)]
    assert now == [("ORDER", 1), ("ORDER_SELL", 4), ("SELL", 1)]
    await down(db, 19)
    assert [tuple(row.values()) for row in await db.fetch(sql)] == [("SELL", 5), ("UNKNOWN", 1)]
    await migrate(db, default_config())
    assert [tuple(row.values()) for row in await db.fetch(sql)] == now
    await db.close()
