"""The queries of the command `gaps`."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from datetime import datetime

from ingestd.channels import TABLE_OF
from ingestd.storage.database import Database


@dataclass(frozen=True, slots=True)
class GapRow:
    """A row of `feed_gaps`. `status` is open, closed, filled or unfillable."""

    exchange: str
    symbol: str
    channel: str
    started_at: datetime
    ended_at: datetime | None
    cause: str
    status: str
    recovered_rows: int
    detail: str | None

    def lasted_s(self, now: datetime) -> float:
        """The gap's length in seconds; up to `now` if it is open."""
        return ((self.ended_at or now) - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True)
class GapChoice:
    """Which gaps to list; None: all. `since`: only gaps that had not ended by then.

    The fields are the parameters $1 to $4 of the queries, in this order.
    """

    open_only: bool = False
    exchange: str | None = None
    symbol: str | None = None
    since: datetime | None = None


_CHOSEN = (
    "FROM feed_gaps WHERE ($1 IS FALSE OR status = 'open') AND ($2::text IS NULL OR exchange = $2) "
    "AND ($3::text IS NULL OR symbol = $3) AND ($4::timestamptz IS NULL OR coalesce(ended_at, 'infinity') >= $4)"
)
_COLUMNS = "exchange, symbol, channel, started_at, ended_at, cause, status, recovered_rows, detail"


async def list_gaps(db: Database, choice: GapChoice, limit: int) -> list[GapRow]:
    """The newest of the chosen gaps, at most `limit`, newest first."""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} {_CHOSEN} ORDER BY started_at DESC, id DESC LIMIT $5", *astuple(choice), limit
    )
    return [GapRow(**row) for row in rows]


async def count_gaps(db: Database, choice: GapChoice) -> dict[str, int]:
    """The number of all chosen gaps, by status."""
    sql = f"SELECT status, count(*) AS n {_CHOSEN} GROUP BY status ORDER BY status"
    return {str(row["status"]): int(row["n"]) for row in await db.fetch(sql, *astuple(choice))}


async def known_streams(db: Database) -> set[tuple[str, str]]:
    """Every (exchange, symbol) that has a row in `symbols` or `feed_gaps`."""
    rows = await db.fetch("SELECT exchange, symbol FROM symbols UNION SELECT exchange, symbol FROM feed_gaps")
    return {(row["exchange"], row["symbol"]) for row in rows}


async def has_data(db: Database, exchange: str | None, symbol: str | None) -> bool:
    """Whether a table has data of this exchange and symbol (None: any).

    The table `symbols` does not tell: it is empty if data came without feeds.
    """
    chosen = "($1::text IS NULL OR exchange = $1) AND ($2::text IS NULL OR symbol = $2)"
    some = " OR ".join(f"EXISTS (SELECT FROM {table} WHERE {chosen})" for table in TABLE_OF.values())
    return bool(await db.fetchval(f"SELECT {some}", exchange, symbol))
