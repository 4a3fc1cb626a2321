"""The rights that the daemon's role needs, and the GRANT for each that is missing.

`sql/roles/roles.sql` makes three roles, to migrate, to write and to read; these are the rights of the writer.
That file states them again, since a superuser runs it with psql alone; a test checks that its writer lacks none.
"""

from __future__ import annotations

from collections.abc import Mapping

from ingestd.channels import ROWS
from ingestd.storage.candles import LEVELS, TICK_HOURS
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.session_settings import qualified, quoted

_READ, _ADD, _CHANGE, _ALL = "SELECT", "SELECT, INSERT", "SELECT, INSERT, UPDATE", "SELECT, INSERT, UPDATE, DELETE"
_ALWAYS: Mapping[str, str] = {
    **{row.table: _ALL if row.replaces else _ADD for row in ROWS},
    "symbols": _CHANGE,
    "feed_gaps": _CHANGE,
    "rejected_records": "SELECT, INSERT, DELETE",
    "candle_audit": _ALL,
    "indicators_cache": _ALL,
    "indicator_marks": "SELECT, INSERT, DELETE",
    "indicator_changes": _ALL,
    "venue_pauses": _CHANGE,
    "ingest_positions": _ALL,
    "ingest_leases": _ALL,
    "orders": _CHANGE,
    "executions": _CHANGE,
    "order_endings": _ADD,
    "balance_snapshots": _ADD,
    "balances": _CHANGE,
    "completed_trades": _CHANGE,
    "audit.trade_logs": _CHANGE,
    "audit.system_events": _ADD,
    "ingestd_migrations": _READ,
    "ingestd_settings": _READ,
}
_CANDLES = (*(level.relation for level in LEVELS), TICK_HOURS.relation)
_MARKS = ("candles_marks", "ohlcv_1h_marks")
_DROPPED_BY_THE_DAEMON = tuple(row.table for row in ROWS if not row.replaces)


def needed(engine: Engine) -> dict[str, str]:
    """The privileges that the daemon's role needs, by relation as SQL names it."""
    rights = {qualified(name): privileges for name, privileges in _ALWAYS.items()}
    candles = {qualified(name): _READ if engine.has_continuous_aggregates else _ALL for name in _CANDLES}
    if engine.has_continuous_aggregates:
        return rights | candles
    emptied = {qualified(name): "SELECT, INSERT, DELETE" for name in (*_DROPPED_BY_THE_DAEMON, *_MARKS)}
    return {**rights, **candles, **emptied, qualified("ohlcv_1h_minutes"): _ALL}


async def missing_grants(db: Database, engine: Engine) -> list[str]:
    """A GRANT for each relation on which this role lacks a right that the daemon needs."""
    wanted = [(name, privilege) for name, all_of_it in needed(engine).items() for privilege in all_of_it.split(", ")]
    rows = await db.fetch(
        "SELECT name, string_agg(privilege, ', ') AS privileges, current_user AS role"
        " FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (name, privilege, number)"
        " WHERE NOT has_table_privilege(name, privilege) GROUP BY name ORDER BY min(number)",
        [name for name, _ in wanted],
        [privilege for _, privilege in wanted],
    )
    return [f"GRANT {row['privileges']} ON {row['name']} TO {quoted(row['role'])}" for row in rows]


async def owns(db: Database, relation: str) -> bool:
    """Whether this role may act as the relation's owner, who alone may refresh an aggregate or drop chunks."""
    return bool(
        await db.fetchval(
            "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = $1::text::regclass", qualified(relation)
        )
    )
