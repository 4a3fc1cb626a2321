"""A venue's markets as rows of the `symbols` table, with the compact names that views and Redis keys use."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from ingestd.feeds.base import MarketInfo
from ingestd.storage.repository import SymbolRow


def symbol_rows(markets: Sequence[MarketInfo]) -> list[SymbolRow]:
    """One row a market; `compact` is unique within an exchange."""
    spot = {(market.exchange, _pair(market)) for market in markets if market.type == "spot"}
    taken: set[tuple[str, str]] = set()
    rows = []
    for market in sorted(markets, key=lambda market: (market.exchange, market.type != "spot", market.symbol)):
        compact = compact_name(market, also_spot=(market.exchange, _pair(market)) in spot)
        if (market.exchange, compact) in taken:
            compact = market.symbol.replace("/", "")
        taken.add((market.exchange, compact))
        rows.append(_row(market, compact))
    return rows


def compact_name(market: MarketInfo, *, also_spot: bool) -> str:
    """`BTCUSDT`; a perpetual on a venue that also lists the spot pair is `BTCUSDT.P`; what expires keeps its date."""
    if market.type == "spot":
        return _pair(market)
    if market.type == "swap":
        return _pair(market) + (".P" if also_spot else "")
    return market.symbol.replace("/", "")


def _pair(market: MarketInfo) -> str:
    return f"{market.base}{market.quote}"


def _row(market: MarketInfo, compact: str) -> SymbolRow:
    return SymbolRow(
        exchange=market.exchange,
        symbol=market.symbol,
        market_id=market.market_id,
        compact=compact,
        base_currency=market.base,
        quote_currency=market.quote,
        type=market.type,
        status="active" if market.active else "inactive",
        min_order_size=_decimal(market.min_amount),
        max_order_size=_decimal(market.max_amount),
        price_precision=_decimals(market.price_precision),
        quantity_precision=_decimals(market.amount_precision),
    )


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _decimals(step: str | None) -> int | None:
    """How many decimals a step of `0.010` or `1e-8` needs."""
    if step is None:
        return None
    exponent = Decimal(step).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else None
