"""The table `symbols`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal, DecimalException, InvalidOperation

import structlog

from ingestd.errors import DatabaseError
from ingestd.status import MarketInfo
from ingestd.storage.database import Database
from ingestd.storage.migrations import read_sql
from ingestd.venues.symbol_names import compact_symbol, dash_symbol, venue_symbol

log = structlog.get_logger()

_TAKEN = "23505"  # the SQLSTATE of a unique violation
_OF_THE_ROW = ("22", "23", "54")  # SQLSTATE classes of errors about a row's values, which stay the same at each attempt
_INSERT = (
    "INSERT INTO symbols (exchange, symbol, compact, dash, venue_name)"
    " SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])"
    " AS heard (exchange, symbol, compact, dash, venue_name)"
    " WHERE NOT EXISTS (SELECT FROM symbols AS other"
    ' WHERE (other.exchange, other.venue_name) = (heard.exchange COLLATE "C", heard.venue_name COLLATE "C"))'
    " ON CONFLICT (exchange, symbol) DO NOTHING"
)
_NAMES = (
    "SELECT exchange, symbol, venue_name FROM symbols WHERE venue_name IS NOT NULL"
    " AND (exchange, symbol) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
)


async def store_lists(db: Database, markets: Sequence[MarketInfo]) -> int:
    """Store the venues' whole lists of markets; what they no longer list becomes `deprecated`. Return how many rows
    changed.

    In the style `venue` a market keeps the name that it has in the table, whatever id its venue gives it.
    """
    columns = [
        [market.exchange for market in markets],
        [market.symbol for market in markets],
        [_venue_name(market) for market in markets],
        [market.type for market in markets],
        [market.linear for market in markets],
    ]
    changed = await db.execute(read_sql("queries/deprecate_symbols.sql"), *columns)
    changed += await upsert_symbols(db, markets)
    if db.names.style == "venue":
        await load_names(db)
    return changed


async def load_names(db: Database) -> None:
    """Let the connection's translator know the venues' own names that the table holds."""
    for row in await db.fetch("SELECT exchange, symbol, venue_name FROM symbols WHERE venue_name IS NOT NULL"):
        db.names.known.learn_stored(row["exchange"], row["symbol"], row["venue_name"])


async def keep_heard(db: Database) -> bool:
    """In the style `venue`, insert the markets of which only messages have told, before their first rows are stored.

    Return whether the table had one of them under another name, which is its name from now on.
    """
    heard = dict(db.names.known.heard)
    if not heard or db.names.style != "venue":
        return False
    exchanges, markets = map(list, zip(*heard, strict=True))
    short = [[made(*market) for market in heard] for made in (compact_symbol, dash_symbol)]
    await db.execute(_INSERT, exchanges, markets, *short, list(heard.values()))
    rows = await db.fetch(_NAMES, exchanges, markets)
    stored = {(row["exchange"], row["symbol"]): row["venue_name"] for row in rows}
    for (exchange, symbol), name in stored.items():
        db.names.known.learn_stored(exchange, symbol, name)
    for market in heard:
        del db.names.known.heard[market]
    return any(heard[market] != name for market, name in stored.items())


async def upsert_symbols(db: Database, rows: Iterable[MarketInfo]) -> int:
    """Insert or update markets. Return how many differed from what was stored.

    A market that the server refuses is logged and left out. If a market occurs twice, the last row counts. The rows are
    sent in the order of their keys, so that two daemons that write at once cannot deadlock.
    """
    markets = {(row.exchange, row.symbol): row for row in rows}
    return await _upsert(db, [markets[key] for key in sorted(markets)])


async def _upsert(db: Database, markets: Sequence[MarketInfo], *, spare: bool = False) -> int:
    """Store all markets in one statement. If the server refuses it, store each half by itself, and one market whose
    name another one has under its `spare` name."""
    if not markets:
        return 0
    try:
        names = list(map(_spare_name, markets)) if spare else _distinct_names(markets)
        rows = map(columns_of, markets, names)
        return await db.execute(read_sql("queries/upsert_symbols.sql"), *map(list, zip(*rows, strict=True)))
    except (DatabaseError, DecimalException, ValueError) as error:  # a ValueError: the driver cannot send it
        if isinstance(error, DatabaseError) and not error.sqlstate.startswith(_OF_THE_ROW):
            raise
        if len(markets) == 1 and not spare and isinstance(error, DatabaseError) and error.sqlstate == _TAKEN:
            return await _upsert(db, markets, spare=True)
        if len(markets) == 1:
            log.warning("market_not_stored", exchange=markets[0].exchange, symbol=markets[0].symbol, error=str(error))
            return 0
    half = len(markets) // 2
    return await _upsert(db, markets[:half]) + await _upsert(db, markets[half:])


def decimals_of(step: str | None) -> int | None:
    """How many decimals a step of prices or amounts allows: `0.01` 2, `0.5` 1, `1` and `10` 0.

    None if there is no step. Some exchanges give a number of significant digits instead (an integer above 1, such as
    5): it says nothing about decimals, so the result is None too.
    """
    try:
        value = Decimal(step or "")
    except InvalidOperation:
        return None
    if not value.is_finite() or value <= 0:
        return None
    exponent = value.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    if value > 1 and exponent == 0:
        return None
    return max(0, -exponent)


def columns_of(market: MarketInfo, venue_name: str) -> tuple[object, ...]:
    """The market's row, in the order of the statement. Raises ValueError or DecimalException for a malformed number."""
    return (
        market.exchange,
        market.symbol,
        market.market_id,
        compact_symbol(market.exchange, market.symbol),
        dash_symbol(market.exchange, market.symbol),
        venue_name,
        market.base,
        market.quote,
        market.type,
        "active" if market.active else "inactive",
        _number(market.min_amount),
        _number(market.max_amount),
        decimals_of(market.price_precision),
        decimals_of(market.amount_precision),
        market.linear,
        _number(market.contract_size),
        market.quantity_unit,
        market.open_interest_unit,
    )


def _distinct_names(markets: Sequence[MarketInfo]) -> list[str]:
    """The venue's own name of each market, or its spare name if an earlier one of the same venue has that."""
    taken: set[tuple[str, str]] = set()
    names: list[str] = []
    for market in markets:
        name = market.exchange, _venue_name(market)
        names.append(_spare_name(market) if name in taken else name[1])
        taken.add(name)
    return names


def _spare_name(market: MarketInfo) -> str:
    """What a market is called whose id belongs to another one."""
    return f"{_venue_name(market)}.{compact_symbol(market.exchange, market.symbol)}"


def _venue_name(market: MarketInfo) -> str:
    return venue_symbol(market.exchange, market.symbol, market.market_id)


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
