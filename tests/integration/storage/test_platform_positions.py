"""Open positions of the pack platform: what executions leave, in any order, with repeats and late facts."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from ingestd.config.models import Config
from ingestd.events.messages import Event, read_event
from ingestd.events.tables import store_events
from ingestd.storage import engine as engines
from ingestd.storage import packs
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate
from tests.support.postgres import DatabaseForTest, default_config
from tests.support.time_limits import examples

T0 = datetime(2026, 11, 5, 10, 0, tzinfo=UTC)


def platform() -> Config:
    return default_config(database={"dsn": "postgresql://u@h/db", "packs": ["platform"]})


def event(event_type: str, second: int, **data: Any) -> Event:
    at = (T0 + timedelta(seconds=second)).isoformat()
    said = {name: value for name, value in data.items() if value is not None}
    value = json.dumps({"event_type": event_type, "timestamp": at, "data": {"symbol": "BTC-USD", **said}})
    return read_event(event_type, value.encode(), [], T0 + timedelta(days=1))


def submitted(order_id: str, side: str, second: int = 0, **more: Any) -> Event:
    return event("ORDER_SUBMITTED", second, order_id=order_id, side=side, quantity="1000", **more)


def executed(order_id: str, second: int, quantity: str, price: str, **more: Any) -> Event:
    said = {"order_id": order_id, "executed_quantity": quantity, "executed_price": price, "exchange": "kraken", **more}
    return event("ORDER_EXECUTED", second, **said)


async def store(db: Database, *events: Event) -> None:
    for each in events:
        async with db.transaction():
            await store_events(db, [each])


async def open_positions(db: Database) -> list[tuple[Any, ...]]:
    rows = await db.fetch(
        "SELECT exchange, symbol, name, side, quantity, round(entry_price, 9) AS entry, fees, opened_at, exit_price,"
        " pnl"
        " FROM platform.positions LEFT JOIN platform.strategies ON strategies.id = strategy_id"
        " WHERE closed_at IS NULL ORDER BY 1, 2, 3"
    )
    assert all(row["exit_price"] is row["pnl"] is None for row in rows)
    return [tuple(row.values())[:-2] for row in rows]


def row(
    second: int, side: str, quantity: str, entry: str, fees: str | None, strategy: str | None = None
) -> tuple[Any, ...]:
    at = T0 + timedelta(seconds=second)
    fee = None if fees is None else Decimal(fees)
    return "kraken", "BTC-USD", strategy, side, Decimal(quantity), round(Decimal(entry), 9), fee, at


STORIES: dict[str, tuple[list[Event], list[tuple[Any, ...]]]] = {
    "what is bought is open": (
        [executed("a", 1, "2", "100", side="buy", fee="0.5"), executed("a", 2, "2", "110", side="buy", fee="-0.1")],
        [row(1, "buy", "4", "105", "0.4")],
    ),
    "a part is sold, and more is bought": (
        [
            executed("a", 1, "2", "100", side="buy"),
            executed("b", 2, "1", "500", side="sell", fee="3"),
            executed("a", 3, "1", "200", side="buy"),
        ],
        [row(1, "buy", "2", "150", "3")],
    ),
    "all is sold": (
        [executed("a", 1, "2", "100", side="buy"), executed("b", 2, "2", "90", side="sell")],
        [],
    ),
    "more is sold than there was": (
        [
            executed("a", 1, "2", "100", side="buy", fee="7"),
            executed("b", 2, "5", "90", side="sell", fee="1"),
            executed("b", 3, "1", "60", side="sell"),
        ],
        [row(2, "sell", "4", "82.5", "1")],
    ),
    "it is closed and opened again": (
        [
            executed("a", 1, "2", "100", side="buy", fee="7"),
            executed("b", 2, "2", "90", side="sell"),
            executed("b", 3, "1", "60", side="sell"),
            executed("b", 4, "0", "1", side="buy", fee="2"),
        ],
        [row(3, "sell", "1", "60", "2")],
    ),
    "the side is that of the order": (
        [submitted("a", "sell"), executed("a", 1, "2", "100")],
        [row(1, "sell", "2", "100", None)],
    ),
    "nothing is known of its side": ([executed("a", 1, "2", "100")], []),
    "strategies have their own": (
        [
            submitted("a", "buy", strategy="one"),
            submitted("b", "sell", strategy="two"),
            executed("a", 1, "2", "100"),
            executed("b", 2, "3", "90"),
            executed("c", 3, "1", "80", side="buy"),
        ],
        [
            row(1, "buy", "2", "100", None, "one"),
            row(2, "sell", "3", "90", None, "two"),
            row(3, "buy", "1", "80", None),
        ],
    ),
}


@pytest.mark.parametrize("story", STORIES)
async def test_a_position_is_what_executions_leave(postgres_database: DatabaseForTest, story: str) -> None:
    events, expected = STORIES[story]
    db = await postgres_database.connect()
    await migrate(db, platform())
    draw = random.Random(story)
    for _ in range(8):
        await db.execute("TRUNCATE orders, executions, audit.trade_logs, platform.positions, platform.position_steps")
        await store(db, *draw.sample(events, len(events)), *draw.choices(events, k=2))
        assert await open_positions(db) == expected
    await db.close()


def replayed(events: list[Event]) -> dict[str | None, tuple[Fraction, Fraction]]:
    """Quantity and cost by strategy, of executions whose times differ."""
    strategies = {one.order_id: (one.strategy, one.side) for one in events if type(one).__name__ == "Submitted"}  # type: ignore[union-attr]
    found: dict[str | None, tuple[Fraction, Fraction]] = {}
    for one in sorted({each.id: each for each in events}.values(), key=lambda each: each.at):
        if type(one).__name__ != "Executed":
            continue
        strategy, side = strategies[one.order_id]  # type: ignore[union-attr]
        by = Fraction(one.quantity) * (1 if side == "buy" else -1)  # type: ignore[union-attr, arg-type]
        quantity, cost = found.get(strategy, (Fraction(0), Fraction(0)))
        after = quantity + by
        if quantity * by >= 0:
            cost += abs(by) * Fraction(one.price)  # type: ignore[union-attr, arg-type]
        elif abs(by) < abs(quantity):
            cost = cost * after / quantity
        else:
            cost = abs(after) * Fraction(one.price)  # type: ignore[union-attr, arg-type]
        found[strategy] = after, cost
    return {strategy: state for strategy, state in found.items() if state[0]}


async def test_a_long_history_in_any_order(db: Database) -> None:
    """Sides and strategies that are learned late, too; on each engine, and counted anew by the migration."""
    draw = random.Random(8)
    for number in range(examples(12)):
        orders = [submitted(str(n), draw.choice(["buy", "sell"]), strategy=draw.choice(["s", "t"])) for n in range(6)]
        fills = [
            executed(str(draw.randrange(6)), n, str(draw.randrange(1, 9)), str(draw.randrange(1, 99)))
            for n in range(1, 25)
        ]
        events = [*orders, *fills]
        if number == 0:
            await store(db, *draw.sample(events, 15))
            await migrate(db, platform())
        await store(db, *draw.sample(events, 30), *draw.choices(events, k=8))
        wanted = {
            strategy: (Decimal(int(abs(quantity))), decimal(cost / abs(quantity)))
            for strategy, (quantity, cost) in replayed(events).items()
        }
        assert {each[2]: (each[4], each[5]) for each in await open_positions(db)} == wanted
        await db.execute("TRUNCATE orders, executions, audit.trade_logs, platform.positions, platform.position_steps")


async def test_the_way_back_leaves_what_is_closed(db: Database) -> None:
    await migrate(db, platform())
    await store(db, *STORIES["what is bought is open"][0])
    said = {"trade_id": "t", "exchange": "kraken", "entry_price": "1", "exit_price": "2", "pnl": "1"}
    await store(db, event("TRADE_COMPLETED", 9, **said))
    await packs.down(db, await engines.detect(db), "platform", 5, 5.0)
    assert await db.fetchval("SELECT array_agg(position_id) FROM platform.positions") == ["t"]
    await store(db, executed("a", 3, "1", "105", side="buy"))
    await migrate(db, platform())
    assert await open_positions(db) == [row(1, "buy", "5", "105", "0.4")]


def decimal(number: Fraction) -> Decimal:
    return round(Decimal(number.numerator) / number.denominator, 9)
