"""The queries of the command `gaps`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ingestd.channels import TABLE_OF
from ingestd.storage.database import Database
from ingestd.venues.all import FACTS


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
    """Which gaps to list; None: all. `since`: only gaps that had not ended by then."""

    open_only: bool = False
    exchange: str | None = None
    symbol: str | None = None
    since: datetime | None = None


_CHOSEN = (
    "FROM feed_gaps WHERE ($1 IS FALSE OR status = 'open') AND ($2::text IS NULL OR exchange = $2) "
    "AND ($3::text[] IS NULL OR exchange || ' ' || symbol = ANY ($3)) "
    "AND ($4::timestamptz IS NULL OR coalesce(ended_at, 'infinity') >= $4)"
)
_COLUMNS = "exchange, symbol, channel, started_at, ended_at, cause, status, recovered_rows, detail"


_OF_EXCHANGE = "($1::text IS NULL OR exchange = $1)"
_OF_OTHERS = "exchange <> ALL ($1::text[]) AND symbol = $2"
_OF_NOBODY = ""  # an exchange of which nothing is known: its names are those of any spot venue
_IS_MARKET = "stored.exchange = market.exchange AND stored.symbol = market.name"


async def list_gaps(db: Database, choice: GapChoice, limit: int) -> list[GapRow]:
    """The newest of the chosen gaps, at most `limit`, newest first."""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} {_CHOSEN} ORDER BY started_at DESC, id DESC LIMIT $5", *await _parameters(db, choice), limit
    )
    return [GapRow(**{**row, "symbol": db.names.symbol(row["exchange"], row["symbol"])}) for row in rows]


async def count_gaps(db: Database, choice: GapChoice) -> dict[str, int]:
    """The number of all chosen gaps, by status."""
    sql = f"SELECT status, count(*) AS n {_CHOSEN} GROUP BY status ORDER BY status"
    return {str(row["status"]): int(row["n"]) for row in await db.fetch(sql, *await _parameters(db, choice))}


async def known_streams(db: Database) -> set[tuple[str, str]]:
    """Every (exchange, symbol) that has a row in `symbols` or `feed_gaps`."""
    listed = await db.fetch("SELECT exchange, symbol FROM symbols")
    missed = await db.fetch("SELECT DISTINCT exchange, symbol FROM feed_gaps")
    return {(row["exchange"], row["symbol"]) for row in listed} | {
        (row["exchange"], db.names.symbol(row["exchange"], row["symbol"])) for row in missed
    }


async def has_data(db: Database, exchange: str | None, symbol: str | None) -> bool:
    """Whether a table has data of this exchange and symbol (None: any).

    The table `symbols` does not tell: it is empty if data came without feeds.
    """
    if symbol is None:
        some = " OR ".join(f"EXISTS (SELECT FROM {table} WHERE {_OF_EXCHANGE})" for table in TABLE_OF.values())
        return bool(await db.fetchval(f"SELECT {some}", exchange))
    # Each venue has its own name for the symbol, and gives that of another venue to another market.
    markets = await _stored(db, exchange, symbol)
    exchanges, names = [market[0] for market in markets], [market[1] for market in markets]
    some = " OR ".join(f"EXISTS (SELECT FROM {table} AS stored WHERE {_IS_MARKET})" for table in TABLE_OF.values())
    of_markets = f"FROM unnest($1::text[], $2::text[]) AS market (exchange, name) WHERE {some}"
    if await db.fetchval(f"SELECT EXISTS (SELECT {of_markets})", exchanges, names):  # our own names
        return True
    if exchange is not None or not db.names.has(_OF_NOBODY, symbol):
        return False
    some = " OR ".join(f"EXISTS (SELECT FROM {table} WHERE {_OF_OTHERS})" for table in TABLE_OF.values())
    return bool(await db.fetchval(f"SELECT {some}", exchanges, db.names.name(_OF_NOBODY, symbol)))


async def _parameters(db: Database, choice: GapChoice) -> tuple[object, ...]:
    """The parameters $1 to $4 of `_CHOSEN`."""
    streams = None if choice.symbol is None else await _stored(db, choice.exchange, choice.symbol)
    named = None if streams is None else [f"{exchange} {name}" for exchange, name in streams]
    return choice.open_only, choice.exchange, named, choice.since


async def _stored(db: Database, exchange: str | None, symbol: str) -> list[tuple[str, str]]:
    """The exchange and the stored name of each market that this unified symbol may mean; of every exchange if None."""
    exchanges = {exchange} if exchange is not None else set(FACTS)
    if exchange is None:
        exchanges |= {row["exchange"] for row in await db.fetch("SELECT DISTINCT exchange FROM feed_gaps")}
    return [(each, db.names.name(each, symbol)) for each in exchanges if db.names.has(each, symbol)]
