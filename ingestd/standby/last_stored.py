"""Until when each stream is stored: what a daemon that takes over asks before it says what may be missing."""

from __future__ import annotations

from collections.abc import Sequence

from ingestd.channels import ROW_OF
from ingestd.clock import MICROSECONDS_PER_DAY, from_datetime, to_datetime
from ingestd.storage.database import Database

# Bounds the search, and the chunks it opens.
_LOOK_BACK_US = 2 * MICROSECONDS_PER_DAY


async def last_stored(
    database: Database, exchange: str, channel: str, symbols: Sequence[str], before: int
) -> dict[str, int]:
    """The exchange's time of the newest row of each symbol before that moment; a symbol without one, in two days, is
    left out. Microseconds since the epoch."""
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
