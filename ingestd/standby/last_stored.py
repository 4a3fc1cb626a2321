"""Finds the newest stored row of each stream, from which a takeover's gap begins."""

from __future__ import annotations

from collections.abc import Sequence

from ingestd.channels import ROW_OF
from ingestd.clock import MICROSECONDS_PER_DAY, from_datetime, to_datetime
from ingestd.storage.database import Database

# Limits the search, and so the chunks it opens.
_LOOK_BACK_US = 2 * MICROSECONDS_PER_DAY


async def last_stored(
    database: Database, exchange: str, channel: str, symbols: Sequence[str], before: int
) -> dict[str, int]:
    """The exchange's time of each symbol's newest row before `before`, in microseconds since the epoch. Symbols without
    a row in two days are left out."""
    rows = await database.fetch(
        f"SELECT wanted.symbol, (SELECT max(time) FROM {ROW_OF[channel].table} AS stored "  # noqa: S608 # a constant
        "WHERE stored.exchange = $1 AND stored.symbol = wanted.symbol AND time < $3 AND time > $4) AS last "
        "FROM unnest($2::text[]) AS wanted (symbol)",
        exchange,
        list(symbols),
        to_datetime(before),
        to_datetime(before - _LOOK_BACK_US),
    )
    return {row["symbol"]: from_datetime(row["last"]) for row in rows if row["last"] is not None}
