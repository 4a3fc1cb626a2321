"""Stores events as rows of the trading tables and of `audit.trade_logs`, in the caller's transaction.

The rows depend only on the set of known events, not on their order or repetitions: keys come from the events, the
earliest of contradicting events counts, and what follows from several events is computed again from all of them.

An event's symbol is stored under the name that the tables hold for the market, if the table `symbols` knows the market
by it; the text as it came is in the metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from uuid import UUID

from ingestd.events import balances
from ingestd.events.messages import Cancelled, Completed, Event, Executed, OrderEvent, Refused, Snapshot, Submitted
from ingestd.storage.database import Database
from ingestd.storage.migrations import read_sql

# Defaults for columns of audit.trade_logs that must not be null, where the event lacks the field.
UNKNOWN_EXCHANGE = "unknown"
OF_ORDER = "ORDER"  # of an order whose side is not known yet; of others ORDER_BUY or ORDER_SELL

# The columns of the queries, in their order.
_order_row = attrgetter(
    *("order_id", "exchange", "symbol", "side", "order_type", "quantity", "price", "strategy", "client_id", "at", "id")
)
_execution_row = attrgetter(
    *("id", "order_id", "exchange", "symbol", "side", "price", "quantity", "fee", "fee_currency", "at")
)
_ending_row = attrgetter("id", "order_id", "exchange", "symbol", "side", "ending", "reason", "at")
_trade_row = attrgetter("symbol", "side", "quantity", "entry_price", "exit_price", "pnl", "strategy", "at", "id")
_balance_row = attrgetter("asset", "available", "locked")
_SHOWN = {
    **{name: name for name in ("exchange", "symbol", "status", "quantity", "side", "price")},
    **{"orderType": "order_type", "filledQuantity": "filled_quantity", "avgPrice": "avg_price"},
}


@dataclass(frozen=True, slots=True)
class Shown:
    """An order for the cache `order:{orderId}`: its known fields, with the symbol as events have it, and its market's
    exchange and unified symbol if the market is known."""

    fields: Mapping[str, str]
    market: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Change:
    """The result of a transaction: the new events, and the current state of every order it touched."""

    new: frozenset[UUID]
    orders: Mapping[str, Shown]


async def store_events(database: Database, events: Sequence[Event], default_exchange: str | None = None) -> Change:
    """Store the events. Events stored before change nothing. `default_exchange` is that of events that neither name
    one nor belong to an order that has one."""
    trading = [event for event in events if not isinstance(event, Snapshot)]
    of_orders = [event for event in trading if not isinstance(event, Completed)]
    completed = [event for event in trading if isinstance(event, Completed)]
    snapshots = [event for event in events if isinstance(event, Snapshot)]
    await balances.lock(database)
    orders = await _store_orders(database, of_orders, default_exchange) if of_orders else {}
    if completed:
        trades = ((event.trade_id, event.exchange or default_exchange, *_trade_row(event)) for event in completed)
        await database.execute(_sql("completed_trades_upsert"), *_columns(trades))
    new: set[UUID] = set()
    if trading:
        rows = _columns(_log_row(event, default_exchange) for event in trading)
        new |= {UUID(str(row["id"])) for row in await database.fetch(_sql("trade_logs_insert"), *rows)}
    if of_orders:
        await database.execute(_sql("trade_logs_settle"), _touched(of_orders))
    if snapshots:
        new |= await _store_snapshots(database, snapshots, default_exchange)
    if of_orders or snapshots:
        await balances.judge(database)
    return Change(frozenset(new), orders)


async def _store_orders(
    database: Database, events: Sequence[OrderEvent], default_exchange: str | None
) -> Mapping[str, Shown]:
    """Store what the events say of their orders. Return the state of each order."""
    touched = _touched(events)
    before = await balances.moved_before(database, touched)
    await database.execute(_sql("orders_touch"), touched)
    if submitted := [event for event in events if isinstance(event, Submitted)]:
        await database.execute(_sql("orders_submit"), *_columns(map(_order_row, submitted)))
    if executed := [event for event in events if isinstance(event, Executed)]:
        await database.execute(_sql("executions_insert"), *_columns(map(_execution_row, executed)))
    if ended := [event for event in events if isinstance(event, (Refused, Cancelled))]:
        await database.execute(_sql("order_endings_insert"), *_columns(map(_ending_row, ended)))
    rows = await database.fetch(_sql("orders_settle"), touched, default_exchange)
    await database.execute(_sql("executions_settle"), touched)
    await balances.move(database, touched, before)
    return {row["order_id"]: _shown(row) for row in rows}


async def _store_snapshots(
    database: Database, snapshots: Sequence[Snapshot], default_exchange: str | None
) -> set[UUID]:
    rows = [
        (event.id, event.exchange or default_exchange or UNKNOWN_EXCHANGE, *_balance_row(balance), event.at)
        for event in snapshots
        for balance in event.balances
    ]
    stored = await database.fetch(_sql("balance_snapshots_insert"), *_columns(rows))
    await balances.reset(database, ((str(exchange), str(asset)) for _, exchange, asset, *_ in rows))
    return {UUID(str(row["id"])) for row in stored}


def _touched(events: Sequence[OrderEvent]) -> list[str]:
    return sorted({event.order_id for event in events})


def _log_row(event: OrderEvent | Completed, default_exchange: str | None) -> tuple[object, ...]:
    """The row of `audit.trade_logs` for an event, with the columns in the order of `trade_logs_insert`."""
    said: tuple[object, ...]
    if isinstance(event, Completed):
        # A trade is closed by selling, unless it was entered by selling.
        action = "BUY" if event.side == "sell" else "SELL"
        said = action, None, event.quantity, event.exit_price, "filled", None
    else:
        action = OF_ORDER if event.side is None else f"{OF_ORDER}_{event.side.upper()}"
        said = action, event.order_type, event.quantity, event.price, _log_status(event), event.order_id
    exchange = event.exchange or default_exchange or UNKNOWN_EXCHANGE
    return event.id, event.at, exchange, event.symbol, *said, event.strategy, event.data


def _log_status(event: OrderEvent) -> str:
    if isinstance(event, Submitted):
        return "pending"
    return "filled" if isinstance(event, Executed) else event.ending.lower()


def _shown(row: Mapping[str, str | None]) -> Shown:
    exchange, market = row["exchange"], row["market"]
    fields = {shown: value for shown, name in _SHOWN.items() if (value := row[name]) is not None}
    return Shown(fields, None if exchange is None or market is None else (exchange, market))


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


@cache
def _sql(name: str) -> str:
    return read_sql(f"queries/{name}.sql")
