"""Stores events as rows of `orders`, `executions`, `completed_trades`, `audit.trade_logs` in the caller's transaction.

The rows depend only on the set of known events, not on their order or repetitions: keys come from the events, the
earliest of contradicting events counts, and sums are recomputed from the executions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from ingestd.events.messages import Completed, Event, Executed, Submitted
from ingestd.storage.database import Database
from ingestd.storage.sql_files import read_sql

# Defaults for columns of audit.trade_logs that must not be null, where the event lacks the field.
UNKNOWN_EXCHANGE = "unknown"
UNKNOWN_ACTION = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Change:
    """The result of a transaction: the new events, and the current state of every order it touched."""

    new: frozenset[UUID]
    orders: Mapping[str, Mapping[str, str]]


async def store_events(database: Database, events: Sequence[Event]) -> Change:
    """Store the events. Events stored before change nothing."""
    submitted = [event for event in events if isinstance(event, Submitted)]
    executed = [event for event in events if isinstance(event, Executed)]
    completed = [event for event in events if isinstance(event, Completed)]
    touched = sorted({event.order_id for event in submitted} | {event.order_id for event in executed})
    orders: dict[str, Mapping[str, str]] = {}
    if touched:
        await database.execute(_sql("orders_touch"), touched)
        if submitted:
            await database.execute(_sql("orders_submit"), *_columns([_order_row(event) for event in submitted]))
        if executed:
            await database.execute(_sql("executions_insert"), *_columns([_execution_row(event) for event in executed]))
        rows = await database.fetch(_sql("orders_settle"), touched)
        orders = {row["order_id"]: _shown(row) for row in rows}
    if completed:
        await database.execute(_sql("completed_trades_upsert"), *_columns([_trade_row(event) for event in completed]))
    logged = await database.fetch(_sql("trade_logs_insert"), *_columns([_log_row(event) for event in events]))
    if touched:
        await database.execute(_sql("trade_logs_settle"), touched)
    return Change(frozenset(UUID(str(row["id"])) for row in logged), orders)


def _order_row(event: Submitted) -> tuple[object, ...]:
    return (
        event.order_id,
        event.exchange,
        event.symbol,
        event.side,
        event.order_type,
        event.quantity,
        event.price,
        event.strategy,
        event.client_id,
        event.at,
        event.id,
    )


def _execution_row(event: Executed) -> tuple[object, ...]:
    return (
        event.id,
        event.order_id,
        event.exchange,
        event.symbol,
        event.side,
        event.price,
        event.quantity,
        event.fee,
        event.at,
    )


def _trade_row(event: Completed) -> tuple[object, ...]:
    return (
        event.trade_id,
        event.exchange,
        event.symbol,
        event.side,
        event.quantity,
        event.entry_price,
        event.exit_price,
        event.pnl,
        event.strategy,
        event.at,
        event.id,
    )


def _log_row(event: Event) -> tuple[object, ...]:
    """id, timestamp, exchange, symbol, action, order_type, quantity, price, status, order_id, strategy, metadata."""
    start = (event.id, event.at, event.exchange or UNKNOWN_EXCHANGE, event.symbol)
    end = (event.strategy, event.data)
    if isinstance(event, Submitted):
        return (
            *start,
            event.side.upper(),
            event.order_type,
            event.quantity,
            event.price,
            "pending",
            event.order_id,
            *end,
        )
    if isinstance(event, Executed):
        action = UNKNOWN_ACTION if event.side is None else event.side.upper()
        return (*start, action, event.order_type, event.quantity, event.price, "filled", event.order_id, *end)
    # A trade is closed by selling, unless it was entered by selling.
    action = "BUY" if event.side == "sell" else "SELL"
    return (*start, action, None, event.quantity, event.exit_price, "filled", None, *end)


def _shown(row: Mapping[str, str | None]) -> Mapping[str, str]:
    """An order's fields for the cache `order:{orderId}`; unknown fields are left out."""
    names = {
        "symbol": "symbol",
        "status": "status",
        "quantity": "quantity",
        "side": "side",
        "orderType": "order_type",
        "price": "price",
        "filledQuantity": "filled_quantity",
        "avgPrice": "avg_price",
    }
    return {shown: value for shown, name in names.items() if (value := row[name]) is not None}


def _columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


@cache
def _sql(name: str) -> str:
    return read_sql(f"queries/{name}.sql")
