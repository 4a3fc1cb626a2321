"""The small tables: symbols."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

from ingestd.feeds.base import MarketInfo
from ingestd.storage.database import Database
from ingestd.storage.sql_files import read_sql


async def upsert_symbols(db: Database, rows: Iterable[MarketInfo]) -> int:
    """Insert or update markets, all or none; how many differed from what was stored.

    Ordered by key, so that two daemons at it at once cannot deadlock; the last of two rows of one key counts.
    """
    markets = {(row.exchange, row.symbol): row for row in rows}
    if not markets:
        return 0
    ordered = [_columns_of(markets[key], markets.keys()) for key in sorted(markets)]
    columns = [list(column) for column in zip(*ordered, strict=True)]
    return await db.execute(read_sql("queries/upsert_symbols.sql"), *columns)


def compact_symbol(symbol: str, *, beside_spot: bool) -> str:
    """The short name: `BTC/USDT` and `BTC/USDT:USDT` are `BTCUSDT`, a dated future `BTCUSDT-261225`.

    With `beside_spot` (the venue lists the spot pair too) a perpetual is told apart: `BTCUSDT.P`.
    """
    pair, _, settlement = symbol.partition(":")
    name = pair.replace("/", "")
    if not settlement:
        return name
    _, dated, terms = settlement.partition("-")
    if dated:
        return f"{name}-{terms}"
    return f"{name}.P" if beside_spot else name


def decimals_of(step: str | None) -> int | None:
    """How many decimals a price step allows: `0.01` two, `0.5` one, `1` and `10` none.

    None when there is no step, or it is a number of significant digits instead, which says nothing about decimals.
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


def _columns_of(market: MarketInfo, known: Iterable[tuple[str, str]]) -> tuple[object, ...]:
    pair = market.symbol.partition(":")[0]
    return (
        market.exchange,
        market.symbol,
        market.market_id,
        compact_symbol(market.symbol, beside_spot=pair != market.symbol and (market.exchange, pair) in known),
        market.base,
        market.quote,
        market.type,
        "active" if market.active else "inactive",
        _number(market.min_amount),
        _number(market.max_amount),
        decimals_of(market.price_precision),
        decimals_of(market.amount_precision),
    )


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
