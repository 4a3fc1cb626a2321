"""Keeps the table `balances`, in the caller's transaction: a snapshot sets a balance, later orders move it.

What an order moves follows from all that is known of it (`ingestd_balance_moves`). So a change of an order moves the
balances by the difference between after and before, and they do not depend on the order or repetitions of events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from ingestd.storage.database import Database, Row
from ingestd.storage.migrations import read_sql

_LOCK_KEY = 0x696E67_657673  # "ingevs"


async def lock(database: Database) -> None:
    """Wait until no other transaction of events runs. Of two at once, neither would see what the other moves, and the
    one that began to number its rows of `audit.trade_logs` first could end last."""
    await database.execute(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")


async def moved_before(database: Database, order_ids: Sequence[str]) -> Sequence[Row]:
    """What these orders have moved so far; for `move`, after the orders have changed."""
    return await database.fetch(_sql("balances_before"), order_ids)


async def move(database: Database, order_ids: Sequence[str], before: Sequence[Row]) -> None:
    """Move the balances by what these orders move now, less what they had moved before."""
    columns = [[row[name] for row in before] for name in ("exchange", "asset", "total", "locked")]
    await database.execute(_sql("balances_move"), order_ids, *columns)


async def reset(database: Database, told: Iterable[tuple[str, str]]) -> None:
    """Begin anew from the latest snapshot of each (exchange, asset), unless its balance began with it already."""
    exchanges, assets = zip(*sorted(set(told)), strict=True)
    await database.execute(_sql("balances_reset"), list(exchanges), list(assets))


async def judge(database: Database) -> None:
    """Report each balance that has become negative, as a row of `audit.system_events`."""
    await database.execute(_sql("balances_judge"))


@cache
def _sql(name: str) -> str:
    return read_sql(f"queries/{name}.sql")
