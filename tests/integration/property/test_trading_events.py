"""Any order, any repetition, any grouping of events leaves the same rows, and they are those of a plain model.

The model sees the set of events at once; it knows nothing of upserts, locks or settling.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.events.messages import Completed, Event, Executed, Submitted, read_event
from ingestd.events.tables import store_events
from ingestd.kafka.messages import Message
from ingestd.storage.database import Database
from tests.support.postgres import DatabaseForTest
from tests.support.time_limits import examples

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
TABLES = "orders, executions, completed_trades, audit.trade_logs"

order_ids = st.sampled_from(["A", "B"])
symbols = st.sampled_from(["BTC-USD", "ETH-USD"])
amounts = st.decimals("0.1", "3", places=1).map(str)
seconds = st.integers(0, 5)
sides = st.sampled_from(["buy", "sell"])
maybe_sides = st.none() | sides


def message(event_type: str, second: int, data: dict[str, Any]) -> Message:
    at = (BEGIN + timedelta(seconds=second)).isoformat()
    given_data = {name: value for name, value in data.items() if value is not None}
    value = json.dumps({"event_type": event_type, "timestamp": at, "data": given_data})
    return Message("topic", 0, 0, None, value.encode())


def read(event_type: str, second: int, **data: Any) -> Event:
    value = message(event_type, second, data).value or b""
    return read_event(event_type, value, [], BEGIN + timedelta(days=1))


events = st.one_of(
    st.builds(
        lambda second, **data: read("ORDER_SUBMITTED", second, **data),
        seconds,
        order_id=order_ids,
        symbol=symbols,
        side=sides,
        quantity=amounts,
        price=st.none() | amounts,
        order_type=st.sampled_from(["LIMIT", "MARKET"]),
    ),
    st.builds(
        lambda second, **data: read("ORDER_EXECUTED", second, **data),
        seconds,
        order_id=order_ids,
        symbol=symbols,
        side=maybe_sides,
        exchange=st.none() | st.just("binance"),
        executed_price=amounts,
        executed_quantity=amounts,
    ),
    st.builds(
        lambda second, **data: read("TRADE_COMPLETED", second, **data),
        seconds,
        trade_id=order_ids,
        symbol=symbols,
        entry_price=amounts,
        exit_price=amounts,
        pnl=st.decimals("-3", "3", places=1).map(str),
        side=maybe_sides,
    ),
)


@dataclass
class Model:
    """What the tables must hold, from the set of events."""

    events: list[Event]
    orders: dict[str, tuple[Any, ...]] = field(init=False)
    trades: dict[str, tuple[Any, ...]] = field(init=False)
    actions: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        unique = list({event.id: event for event in self.events}.values())
        ordered = sorted(unique, key=lambda event: (event.at, event.id))
        submitted: dict[str, Submitted] = {}
        executed: dict[str, list[Executed]] = {}
        completed: dict[str, Completed] = {}
        for event in ordered:
            if isinstance(event, Submitted):
                submitted.setdefault(event.order_id, event)
            elif isinstance(event, Executed):
                executed.setdefault(event.order_id, []).append(event)
            else:
                completed.setdefault(event.trade_id, event)
        self.orders = {
            order_id: self.order(submitted.get(order_id), executed.get(order_id, []))
            for order_id in submitted.keys() | executed.keys()
        }
        self.trades = {trade_id: (event.symbol, Decimal(event.pnl), event.at) for trade_id, event in completed.items()}
        self.actions = {str(event.id): self.action(event) for event in unique}

    def order(self, submission: Submitted | None, executions: list[Executed]) -> tuple[Any, ...]:
        filled = sum((Decimal(event.quantity) for event in executions), Decimal(0))
        value = sum((Decimal(event.quantity) * Decimal(event.price) for event in executions), Decimal(0))
        first = submission or executions[0]
        side = next((event.side for event in [submission, *executions] if event is not None and event.side), None)
        status = "PENDING" if not executions else "PARTIALLY_FILLED"
        if submission is not None and executions and filled >= Decimal(submission.quantity):
            status = "FILLED"
        average = None if not filled else (value / filled).quantize(Decimal("1e-10"))
        quantity = None if submission is None else Decimal(submission.quantity)
        return first.symbol, side, quantity, filled, average, status, None if submission is None else submission.at

    def action(self, event: Event) -> str:
        if isinstance(event, Completed):
            return "BUY" if event.side == "sell" else "SELL"
        if event.side is not None:
            return event.side.upper()
        side = self.orders[event.order_id][1]
        return "UNKNOWN" if side is None else str(side).upper()


async def rows(db: Database) -> tuple[dict[str, Any], dict[str, Any], dict[str, str], int]:
    orders = await db.fetch("SELECT * FROM orders")
    trades = await db.fetch("SELECT trade_id, symbol, pnl, completed_at FROM completed_trades")
    logs = await db.fetch("SELECT id::text, action FROM audit.trade_logs")
    executions = await db.fetchval("SELECT count(*) FROM executions")
    return (
        {
            row["order_id"]: (
                row["symbol"],
                row["side"],
                row["quantity"],
                row["filled_quantity"],
                None if row["avg_price"] is None else row["avg_price"].quantize(Decimal("1e-10")),
                row["status"],
                row["submitted_at"],
            )
            for row in orders
        },
        {row["trade_id"]: (row["symbol"], row["pnl"], row["completed_at"]) for row in trades},
        {row["id"]: row["action"] for row in logs},
        executions,
    )


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Event], list[list[Event]]]:
    """A set of events, and a delivery of it: shuffled, some repeated, in groups."""
    chosen = draw(st.lists(events, min_size=1, max_size=9))
    repeated = draw(st.lists(st.sampled_from(chosen), max_size=6))
    order = draw(st.permutations([*chosen, *repeated]))
    groups: list[list[Event]] = [[]]
    for event in order:
        if draw(st.booleans()):
            groups.append([])
        groups[-1].append(event)
    return chosen, [group for group in groups if group]


async def check(dsn: str, chosen: list[Event], groups: list[list[Event]]) -> None:
    db = await Database.connect(dsn)
    try:
        await db.execute(f"TRUNCATE {TABLES}")
        new = 0
        for group in groups:
            async with db.transaction():
                new += len((await store_events(db, group)).new)
        model = Model(chosen)
        orders, trades, actions, executions = await rows(db)
        assert orders == model.orders
        assert trades == model.trades
        assert actions == model.actions
        assert executions == len({event.id for event in chosen if isinstance(event, Executed)})
        assert new == len(model.actions), "an event was counted as new twice, or never"
    finally:
        await db.close()


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(delivery=deliveries())
def test_the_rows_do_not_depend_on_the_delivery(
    postgres_database: DatabaseForTest, delivery: tuple[list[Event], list[list[Event]]]
) -> None:
    asyncio.run(check(postgres_database.dsn, *delivery))


async def check_concurrent(dsn: str, chosen: list[Event], groups: list[list[Event]]) -> None:
    db = await Database.connect(dsn)
    try:
        await db.execute(f"TRUNCATE {TABLES}")

        async def store(share: list[list[Event]]) -> None:
            own = await Database.connect(dsn)
            try:
                for group in share:
                    async with own.transaction():
                        await store_events(own, group)
            finally:
                await own.close()

        await asyncio.gather(store(groups[::2]), store(groups[1::2]))
        model = Model(chosen)
        orders, trades, actions, _ = await rows(db)
        assert (orders, trades, actions) == (model.orders, model.trades, model.actions)
    finally:
        await db.close()


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(delivery=deliveries())
def test_nor_on_how_many_store_them_at_once(
    postgres_database: DatabaseForTest, delivery: tuple[list[Event], list[list[Event]]]
) -> None:
    asyncio.run(check_concurrent(postgres_database.dsn, *delivery))
