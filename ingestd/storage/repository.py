"""The small tables: symbols."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

from ingestd.feeds.base import MarketInfo
from ingestd.storage.database import Database
from ingestd.storage.sql_files import read_sql
from ingestd.symbol_names import compact_symbol, dash_symbol


async def upsert_symbols(db: Database, rows: Iterable[MarketInfo]) -> int:
    """Insert or update markets, all or none; how many differed from what was stored.

    Ordered by key, so that two daemons at it at once cannot deadlock; the last of two rows of one key counts.
    """
    markets = {(row.exchange, row.symbol): row for row in rows}
    if not markets:
        return 0
    ordered = [_columns_of(markets[key]) for key in sorted(markets)]
    columns = [list(column) for column in zip(*ordered, strict=True)]
    return await db.execute(read_sql("queries/upsert_symbols.sql"), *columns)


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


def _columns_of(market: MarketInfo) -> tuple[object, ...]:
    return (
        market.exchange,
        market.symbol,
        market.market_id,
        compact_symbol(market.exchange, market.symbol),
        dash_symbol(market.exchange, market.symbol),
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


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
