"""Reads `audit.trade_logs` in the order in which its rows were stored, each once."""

from __future__ import annotations

from collections.abc import Sequence

from ingestd.storage.database import Database, Row

_RECENT_DAYS = 30  # for users: docs/influx.md
_ROWS = """
SELECT seq, id, timestamp, log.exchange, log.symbol, action, quantity::text AS quantity, price::text AS price, status,
       order_id, metadata::text AS metadata,
       (SELECT market.symbol FROM symbols AS market
        WHERE market.exchange = said.exchange COLLATE "C"
          AND CASE (SELECT value FROM ingestd_settings WHERE name = 'symbol_style')
                  WHEN 'compact' THEN market.compact WHEN 'dash' THEN market.dash WHEN 'venue' THEN market.venue_name
                  ELSE market.symbol END = ingestd_stored_symbol(said.exchange, said.symbol)) AS market
FROM (
    SELECT *, coalesce(metadata->>'exchange', CASE WHEN metadata ? 'symbol' THEN $2 ELSE exchange END) AS on_exchange,
           coalesce(metadata->>'symbol', symbol) AS called
    FROM audit.trade_logs WHERE seq > $1 ORDER BY seq LIMIT $3
) AS log, LATERAL (SELECT on_exchange AS exchange, called AS symbol) AS said
ORDER BY seq
"""


async def position(db: Database, source: str) -> int:
    """The last row that this source has read. At first it is the one before the rows of the last 30 days."""
    await db.execute(
        "INSERT INTO ingest_positions (source, position, epoch) SELECT $1, coalesce("
        "(SELECT min(seq) - 1 FROM audit.trade_logs WHERE timestamp >= now() - make_interval(days => $2)),"
        " (SELECT max(seq) FROM audit.trade_logs), 0), 0"
        " WHERE NOT EXISTS (SELECT FROM ingest_positions WHERE source = $1) ON CONFLICT (source) DO NOTHING",
        source,
        _RECENT_DAYS,
    )
    return int(await db.fetchval("SELECT position FROM ingest_positions WHERE source = $1", source))


async def move(db: Database, source: str, before: int, after: int) -> None:
    """Move a position, unless it was moved meanwhile: by another daemon, or by a person who wants rows sent again."""
    await db.execute(
        "UPDATE ingest_positions SET position = $3, updated_at = now() WHERE source = $1 AND position = $2",
        source,
        before,
        after,
    )


async def rows_after(db: Database, seq: int, default_exchange: str | None, count: int) -> Sequence[Row]:
    """The first `count` rows after this one; numbers and `metadata` as text.

    `market`: the unified symbol of what the event calls its symbol, on the exchange that the event names or else on
    `default_exchange`; None if `symbols` does not know it. All but this is the same at each call: a row's other columns
    change when more is known of its order.
    """
    return await db.fetch(_ROWS, seq, default_exchange, count)
