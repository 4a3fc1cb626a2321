"""Stores events as rows of `orders`, `executions`, `completed_trades`, `audit.trade_logs` in the caller's transaction.

The rows depend only on the set of known events, not on their order or repetitions: keys come from the events, the
earliest of contradicting events counts, and sums are recomputed from the executions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from uuid import UUID

from ingestd.events.messages import Completed, Event, Executed, Submitted
from ingestd.storage.database import Database
from ingestd.storage.migrations import read_sql

# Defaults for columns of audit.trade_logs that must not be null, where the event lacks the field.
UNKNOWN_EXCHANGE = "unknown"
UNKNOWN_ACTION = "UNKNOWN"

# The columns of the queries, in their order.
_order_row = attrgetter(
    *("order_id", "exchange", "symbol", "side", "order_type", "quantity", "price", "strategy", "client_id", "at", "id")
)
_execution_row = attrgetter("id", "order_id", "exchange", "symbol", "side", "price", "quantity", "fee", "at")
_trade_row = attrgetter(
    *("trade_id", "exchange", "symbol", "side", "quantity", "entry_price", "exit_price", "pnl", "strategy", "at", "id")
)
_SHOWN = {
    **{name: name for name in ("symbol", "status", "quantity", "side", "price")},
    **{"orderType": "order_type", "filledQuantity": "filled_quantity", "avgPrice": "avg_price"},
}


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
            await database.execute(_sql("orders_submit"), *_columns(map(_order_row, submitted)))
        if executed:
            await database.execute(_sql("executions_insert"), *_columns(map(_execution_row, executed)))
        rows = await database.fetch(_sql("orders_settle"), touched)
        orders = {row["order_id"]: _shown(row) for row in rows}
    if completed:
        await database.execute(_sql("completed_trades_upsert"), *_columns(map(_trade_row, completed)))
    logged = await database.fetch(_sql("trade_logs_insert"), *_columns(map(_log_row, events)))
    if touched:
        await database.execute(_sql("trade_logs_settle"), touched)
    return Change(frozenset(UUID(str(row["id"])) for row in logged), orders)


def _log_row(event: Event) -> tuple[object, ...]:
    """The row of `audit.trade_logs` for an event, with the columns in the order of `trade_logs_insert`."""
    said: tuple[object, ...]
    if isinstance(event, Completed):
        # A trade is closed by selling, unless it was entered by selling.
        action = "BUY" if event.side == "sell" else "SELL"
        said = action, None, event.quantity, event.exit_price, "filled", None
    else:
        action = UNKNOWN_ACTION if event.side is None else event.side.upper()
        status = "pending" if isinstance(event, Submitted) else "filled"
        said = action, event.order_type, event.quantity, event.price, status, event.order_id
    exchange = event.exchange or UNKNOWN_EXCHANGE
    return event.id, event.at, exchange, event.symbol, *said, event.strategy, event.data


def _shown(row: Mapping[str, str | None]) -> Mapping[str, str]:
    """An order's fields for the cache `order:{orderId}`; unknown fields are left out."""
    return {shown: value for shown, name in _SHOWN.items() if (value := row[name]) is not None}


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


@cache
def _sql(name: str) -> str:
    return read_sql(f"queries/{name}.sql")
