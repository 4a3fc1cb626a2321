"""Renames symbols to another style where they are texts of other programs: in the tables that events fill, and in those
that applications fill in packs. A text is renamed if the table `symbols` knows a market by it; any other stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ingestd.config.values import SymbolStyle
from ingestd.storage.database import Database

COLUMN_OF: Mapping[SymbolStyle, str] = {
    "unified": "symbol",
    "compact": "compact",
    "dash": "dash",
    "venue": "venue_name",
}
"""The column of the table `symbols` that has a market's name in this style."""

_OF_ACCOUNT = "(SELECT exchange FROM fks.accounts WHERE accounts.id = t.account_id)"
# Each table, and its exchange in SQL. Those of packs follow those of events: triggers rename the rows that they made.
_EXCHANGE_OF: Mapping[str, str] = {
    "orders": "t.exchange",
    "executions": "t.exchange",
    "completed_trades": "t.exchange",
    "audit.trade_logs": "t.exchange",
    "kairos.orders": "t.exchange",
    "platform.executed_orders": "t.exchange",
    "platform.positions": "t.exchange",
    "analytics.performance_metrics": "NULL",
    "fks.trades": _OF_ACCOUNT,
    "fks.positions": _OF_ACCOUNT,
    "fks.sync_status": "fks.option_exchange()",
}
_NO_EXCHANGE = "unknown"  # as tables have it where an exchange must be
# The names that change, by exchange; and for texts of no exchange those that mean the same on all of them.
_MARKETS = """
CREATE TEMPORARY TABLE ingestd_market_names ON COMMIT DROP AS
SELECT exchange, {before} AS name, {after} AS wanted FROM symbols WHERE {before} IS NOT NULL AND {after} IS NOT NULL
UNION ALL
SELECT '{none}', {before}, min({after}) FROM symbols WHERE {before} IS NOT NULL
GROUP BY {before} HAVING count(DISTINCT {after}) = 1 AND count({after}) = count(*);
DELETE FROM pg_temp.ingestd_market_names WHERE name = wanted;
ANALYZE pg_temp.ingestd_market_names
"""
_KEYED = "fks.sync_status"
# Its key has the symbol: of two rows that come to have one name, the one that has it already stays.
_MAKE_ROOM = """
DELETE FROM fks.sync_status AS t USING pg_temp.ingestd_market_names AS market, fks.sync_status AS there
WHERE (market.exchange, market.name) = (fks.option_exchange(), t.symbol)
  AND (there.symbol, there.timeframe) = (market.wanted, t.timeframe)
  AND NOT EXISTS (SELECT FROM pg_temp.ingestd_market_names AS moved
                  WHERE (moved.exchange, moved.name) = (fks.option_exchange(), there.symbol))
"""
_BETWEEN = "ingestd renames this to "  # a unique key looks at each row by itself


async def tables(db: Database) -> Sequence[str]:
    """The tables that there are."""
    rows = await db.fetch(
        "SELECT name FROM unnest($1::text[]) WITH ORDINALITY AS given (name, place)"
        " WHERE to_regclass(name) IS NOT NULL ORDER BY place",
        list(_EXCHANGE_OF),
    )
    return [row["name"] for row in rows]


async def rename(db: Database, old: SymbolStyle, new: SymbolStyle) -> int:
    """Rename, in the caller's transaction, which makes a temporary table. Return how many rows changed."""
    names = _MARKETS.format(before=COLUMN_OF[old], after=COLUMN_OF[new], none=_NO_EXCHANGE)
    await db.script(names)
    # A hypertable may have been compressed by its owner.
    await db.script("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
    return sum([await _rename_in(db, table) for table in await tables(db)])


async def _rename_in(db: Database, table: str) -> int:
    wanted, has_key = "market.wanted", table == _KEYED
    if has_key:
        await db.execute(_MAKE_ROOM)
        wanted = f"'{_BETWEEN}' || market.wanted"
    renamed = await db.execute(
        f"UPDATE {table} AS t SET symbol = {wanted} FROM pg_temp.ingestd_market_names AS market"  # noqa: S608
        f' WHERE market.name = t.symbol COLLATE "C"'
        f" AND market.exchange = coalesce({_EXCHANGE_OF[table]}, '{_NO_EXCHANGE}') COLLATE \"C\""
    )
    if has_key:
        await db.execute(
            f"UPDATE {table} SET symbol = substr(symbol, {len(_BETWEEN) + 1}) WHERE starts_with(symbol, '{_BETWEEN}')"  # noqa: S608
        )
    return renamed
