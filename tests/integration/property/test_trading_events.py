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

from ingestd.events.messages import Cancelled, Completed, Event, Executed, Refused, Snapshot, Submitted, read_event
from ingestd.events.tables import store_events
from ingestd.kafka.messages import Message
from ingestd.status import MarketInfo
from ingestd.storage.database import Database
from ingestd.storage.symbols import upsert_symbols
from tests.support.postgres import DatabaseForTest
from tests.support.time_limits import examples

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
END = BEGIN + timedelta(days=1)
ASSETS = ("BTC", "ETH", "USD", "BNB")
TABLES = (
    "orders, executions, order_endings, completed_trades, audit.trade_logs, balance_snapshots, balances,"
    " audit.system_events"
)
DEFAULT = "binance"
MARKETS = [
    MarketInfo("binance", "BTC/USD", "BTCUSD", "BTC", "USD", "spot", True),
    MarketInfo("kraken", "ETH/USD", "XETHZUSD", "ETH", "USD", "spot", True),
    MarketInfo("binance", "BTC/USDT:USDT", "BTCUSDT", "BTC", "USDT", "swap", True, linear=True),
]
STORED = {
    **{("binance", "BTC-USD"): "BTC/USD", ("kraken", "ETH-USD"): "ETH/USD", ("binance", "BTCUSDT.P"): "BTC/USDT:USDT"}
}
PAIRS = {"BTC-USD": ("BTC", "USD"), "ETH-USD": ("ETH", "USD")}  # a contract moves no currencies

order_ids = st.sampled_from(["A", "B"])
symbols = st.sampled_from(["BTC-USD", "ETH-USD", "BTCUSDT.P"])
amounts = st.decimals("0.1", "3", places=1).map(str)
seconds = st.integers(0, 5)
sides = st.sampled_from(["buy", "sell"])
maybe_sides = st.none() | sides
maybe_exchanges = st.sampled_from([None, "binance", "kraken"])


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
        exchange=maybe_exchanges,
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
        exchange=maybe_exchanges,
        executed_price=amounts,
        executed_quantity=amounts,
        fee=st.none() | amounts,
        fee_currency=st.none() | st.just("BNB"),
    ),
    st.builds(
        lambda kind, second, **data: read(kind, second, **data),
        st.sampled_from(["ORDER_REJECTED", "ORDER_CANCELLED"]),
        seconds,
        order_id=order_ids,
        symbol=symbols,
        side=maybe_sides,
        exchange=maybe_exchanges,
        reason=st.none() | st.just("too late"),
        status=st.sampled_from([None, "expired", "CANCELLED"]),
    ),
    st.builds(
        lambda second, **data: read("BALANCE_SNAPSHOT", second, **data),
        seconds,
        exchange=maybe_exchanges,
        balances=st.lists(
            st.builds(dict, asset=st.sampled_from(["BTC", "USD"]), available=amounts, locked=amounts),
            min_size=1,
            max_size=2,
            unique_by=lambda balance: balance["asset"],
        ),
    ),
    st.builds(
        lambda second, **data: read("TRADE_COMPLETED", second, **data),
        seconds,
        trade_id=order_ids,
        symbol=symbols,
        exchange=maybe_exchanges,
        entry_price=amounts,
        exit_price=amounts,
        pnl=st.decimals("-3", "3", places=1).map(str),
        side=maybe_sides,
    ),
)


def stored(exchange: str, symbol: str) -> str:
    return STORED.get((exchange, symbol), symbol)


@dataclass
class Model:
    """What the tables must hold, from the set of events."""

    events: list[Event]
    orders: dict[str, tuple[Any, ...]] = field(init=False)
    trades: dict[str, tuple[Any, ...]] = field(init=False)
    logs: dict[str, tuple[Any, ...]] = field(init=False)
    executions: dict[str, tuple[Any, ...]] = field(init=False)
    balances: set[tuple[Any, ...]] = field(init=False)

    def __post_init__(self) -> None:
        unique = list({event.id: event for event in self.events}.values())
        ordered = sorted(unique, key=lambda event: (event.at, event.id))
        of_orders: dict[str, list[Submitted | Executed | Refused | Cancelled]] = {}
        completed: dict[str, Completed] = {}
        self.balances = set()
        for event in ordered:
            if isinstance(event, Completed):
                completed.setdefault(event.trade_id, event)
            elif isinstance(event, Snapshot):
                self.balances |= {
                    (event.exchange or DEFAULT, row.asset, Decimal(row.available), Decimal(row.locked), event.at)
                    for row in event.balances
                }
            else:
                of_orders.setdefault(event.order_id, []).append(event)
        self.orders = {order_id: self.order(said) for order_id, said in of_orders.items()}
        self.trades = {
            trade_id: (stored(event.exchange or DEFAULT, event.symbol), Decimal(event.pnl), event.at)
            for trade_id, event in completed.items()
        }
        self.logs = {str(event.id): self.log(event) for event in unique if not isinstance(event, Snapshot)}
        self.executions = {
            str(event.id): (exchange, stored(exchange, event.symbol))
            for event in unique
            if isinstance(event, Executed)
            for exchange in [event.exchange or self.orders[event.order_id][-1]]
        }

    def order(self, said: list[Submitted | Executed | Refused | Cancelled]) -> tuple[Any, ...]:
        submission = next((event for event in said if isinstance(event, Submitted)), None)
        executions = [event for event in said if isinstance(event, Executed)]
        evidence = [event for event in said if not isinstance(event, Submitted)]
        ending = next((event for event in evidence if isinstance(event, (Refused, Cancelled))), None)
        filled = sum((Decimal(event.quantity) for event in executions), Decimal(0))
        value = sum((Decimal(event.quantity) * Decimal(event.price) for event in executions), Decimal(0))
        sources = [*([submission] if submission else []), *evidence]
        exchange = next((event.exchange for event in sources if event.exchange), DEFAULT)
        side = next((event.side for event in sources if event.side), None)
        status = "PENDING" if not executions else "PARTIALLY_FILLED"
        if submission is not None and executions and filled >= Decimal(submission.quantity):
            status = "FILLED"
        elif isinstance(ending, Refused):
            status = "REJECTED"
        elif ending is not None:
            status = "EXPIRED" if (ending.status or "").upper() == "EXPIRED" else "CANCELLED"
        why = (None, None) if ending is None or status == "FILLED" else (ending.at, ending.reason)
        average = None if not filled else (value / filled).quantize(Decimal("1e-10"))
        quantity = None if submission is None else Decimal(submission.quantity)
        at = None if submission is None else submission.at
        return stored(exchange, sources[0].symbol), side, quantity, filled, average, status, at, *why, exchange

    def log(self, event: Submitted | Executed | Refused | Cancelled | Completed) -> tuple[Any, ...]:
        if isinstance(event, Completed):
            exchange = event.exchange or DEFAULT
            return "BUY" if event.side == "sell" else "SELL", exchange, stored(exchange, event.symbol)
        exchange = event.exchange or self.orders[event.order_id][-1]
        side = event.side or self.orders[event.order_id][1]
        return f"ORDER_{side.upper()}" if side else "ORDER", exchange, stored(exchange, event.symbol)


class Account:
    """What each balance must be: its latest snapshot, and what happened after it."""

    def __init__(self, model: Model) -> None:
        unique = {event.id: event for event in model.events}.values()
        ordered = sorted(unique, key=lambda event: (event.at, event.id))
        self.of_orders = {
            order_id: [event for event in ordered if not isinstance(event, (Completed, Snapshot))
                       and event.order_id == order_id]
            for order_id in model.orders
        }  # fmt: skip
        self.model = model
        self.snapshots = {
            (event.exchange or DEFAULT, row.asset): (event, row)
            for event in ordered
            if isinstance(event, Snapshot)
            for row in event.balances
        }

    def rows(self) -> dict[tuple[str, str], tuple[Any, ...]]:
        keys = {*self.snapshots, *((exchange, asset) for exchange in ("binance", "kraken") for asset in ASSETS)}
        return {key: row for key in keys if (row := self.row(*key)) != (0, 0, None)}

    def row(self, exchange: str, asset: str) -> tuple[Any, ...]:
        since, has, locked = BEGIN - timedelta(days=1), Decimal(0), Decimal(0)
        if (found := self.snapshots.get((exchange, asset))) is not None:
            since, locked = found[0].at, Decimal(found[1].locked)
            has = Decimal(found[1].available) + locked
        for order_id in self.of_orders:
            has += self.moved(order_id, exchange, asset, since)
            locked += self.lock(order_id, exchange, asset, END) - self.lock(order_id, exchange, asset, since)
        return has - locked, locked, None if found is None else since

    def moved(self, order_id: str, exchange: str, asset: str, since: datetime) -> Decimal:
        moved = Decimal(0)
        for event in self.of_orders[order_id]:
            if not isinstance(event, Executed) or event.at <= since:
                continue
            if (event.exchange or self.model.orders[order_id][-1]) != exchange:
                continue
            base, quote = PAIRS.get(event.symbol, ("none", "none"))
            sign = {"buy": 1, "sell": -1, None: 0}[event.side or self.model.orders[order_id][1]]
            if asset == base:
                moved += sign * Decimal(event.quantity)
            if asset == quote:
                moved -= sign * Decimal(event.quantity) * Decimal(event.price)
            if asset == (event.fee_currency or quote):
                moved -= Decimal(event.fee or 0)
        return moved

    def lock(self, order_id: str, exchange: str, asset: str, at: datetime) -> Decimal:
        """What the order locks of the asset at this time."""
        said = self.of_orders[order_id]
        submission = next((event for event in said if isinstance(event, Submitted)), None)
        if submission is None or submission.order_type != "LIMIT" or self.model.orders[order_id][-1] != exchange:
            return Decimal(0)
        ended = next((event.at for event in said if isinstance(event, (Refused, Cancelled))), None)
        base, quote = PAIRS.get(submission.symbol, ("none", "none"))
        if asset != (quote if submission.side == "buy" else base) or at < submission.at:
            return Decimal(0)
        if ended is not None and ended <= at:
            return Decimal(0)
        filled = sum(Decimal(event.quantity) for event in said if isinstance(event, Executed) and event.at <= at)
        each = Decimal(submission.price or 0) if submission.side == "buy" else Decimal(1)
        return each * max(Decimal(0), Decimal(submission.quantity) - filled)


async def require_balances(db: Database, model: Model) -> None:
    held = await db.fetch("SELECT exchange, asset, available, locked, snapshot_at FROM balances")
    rows = {(row["exchange"], row["asset"]): tuple(row.values())[2:] for row in held}
    assert {key: row for key, row in rows.items() if row != (0, 0, None)} == Account(model).rows()
    told = await db.fetch(
        "SELECT metadata->>'exchange' AS exchange, metadata->>'asset' AS asset FROM audit.system_events"
    )
    negative = {key for key, row in rows.items() if min(row[:2]) < 0}
    assert negative <= {(row["exchange"], row["asset"]) for row in told}


async def require_model(db: Database, model: Model) -> None:
    orders = {
        row["order_id"]: (
            row["symbol"],
            row["side"],
            row["quantity"],
            row["filled_quantity"],
            None if row["avg_price"] is None else row["avg_price"].quantize(Decimal("1e-10")),
            *(row[name] for name in ("status", "submitted_at", "ended_at", "error_message", "exchange")),
        )
        for row in await db.fetch("SELECT * FROM orders")
    }
    trades = {
        row["trade_id"]: (row["symbol"], row["pnl"], row["completed_at"])
        for row in await db.fetch("SELECT trade_id, symbol, pnl, completed_at FROM completed_trades")
    }
    logs = {
        row["id"]: (row["action"], row["exchange"], row["symbol"])
        for row in await db.fetch("SELECT id::text, action, exchange, symbol FROM audit.trade_logs")
    }
    executions = {
        row["id"]: (row["exchange"], row["symbol"])
        for row in await db.fetch("SELECT id::text, exchange, symbol FROM executions")
    }
    held = {
        tuple(row.values())
        for row in await db.fetch("SELECT exchange, asset, available, locked, taken_at FROM balance_snapshots")
    }
    assert orders == model.orders
    assert trades == model.trades
    assert logs == model.logs
    assert executions == model.executions
    assert held == model.balances
    await require_balances(db, model)


async def empty(db: Database) -> None:
    await db.execute(f"TRUNCATE {TABLES}")
    await upsert_symbols(db, MARKETS)


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
        await empty(db)
        new = 0
        for group in groups:
            async with db.transaction():
                new += len((await store_events(db, group, DEFAULT)).new)
        await require_model(db, Model(chosen))
        assert new == len({event.id for event in chosen}), "an event was counted as new twice, or never"
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
        await empty(db)

        async def store(share: list[list[Event]]) -> None:
            own = await Database.connect(dsn)
            try:
                for group in share:
                    async with own.transaction():
                        await store_events(own, group, DEFAULT)
            finally:
                await own.close()

        await asyncio.gather(store(groups[::2]), store(groups[1::2]))
        await require_model(db, Model(chosen))
    finally:
        await db.close()


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(delivery=deliveries())
def test_nor_on_how_many_store_them_at_once(
    postgres_database: DatabaseForTest, delivery: tuple[list[Event], list[list[Event]]]
) -> None:
    asyncio.run(check_concurrent(postgres_database.dsn, *delivery))
