"""A market's name as the tables hold it, from any of its names; and what its trades count. Pure.

The table `symbols` knows the markets that a daemon has listed. Of any other market the unified symbol is read from the
form of the name; the venue's own name cannot be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ingestd.errors import MarketUnknown, SchemaError
from ingestd.venues.all import facts_of
from ingestd.venues.market_names import Names
from ingestd.venues.symbol_names import compact_symbol, dash_symbol, unified_symbol

_COMPACT_WITH_DATE = re.compile(r"[^.@-]+(?:\.[^.@-]+){0,2}-\d{6}(?:-|$)").match


@dataclass(frozen=True, slots=True)
class Market:
    """A market: its name in the tables, and what a quantity of 1 is in its trades (`contract_size` of
    `contract_currency`; both None: 1 of the base currency). `open_interest_unit` None: not known."""

    exchange: str
    stored: str
    contract_size: Decimal | None = None
    contract_currency: str | None = None
    open_interest_unit: str | None = None


def market_of(row: Mapping[str, Any]) -> Market:
    """The market of a row of `names.sql`.

    Raises MarketUnknown if the name belongs to no market, SchemaError while the database's symbols are being renamed.
    """
    exchange, name, style = row["exchange"], row["name"], row["recorded"]
    if row["following"] is not None:
        raise SchemaError(
            f"symbols are being renamed to the style '{row['following']}': finish `ingestd migrate --rename-symbols`"
        )
    if style is None:
        raise SchemaError("the database has no style of symbols: run `ingestd migrate`")
    is_listed = row["symbol"] is not None
    unified = row["symbol"] if is_listed else unified_of(exchange, name)
    if unified is None:
        raise MarketUnknown(
            f"{name!r} is the name of no market of {exchange}: write it as BTC/USDT, BTCUSDT or BTC-USDT"
        )
    if style == "venue":
        stored = row["venue_name"]
        if stored is None:
            raise MarketUnknown(
                f"the venue's own name of {name} on {exchange} is not known, and the database holds these names: run a "
                "daemon that lists the market, or insert it into the table symbols"
            )
    else:
        stored = Names(style).name(exchange, unified)
    size, currency = _unit(row) if is_listed else _unit_of_unlisted(exchange, unified)
    is_contract = ":" in unified
    return Market(
        exchange, stored, size if is_contract else None, currency if is_contract else None, row["open_interest_unit"]
    )


def unified_of(exchange: str, name: str) -> str | None:
    """The unified symbol that a name has by its form; None if it has none."""
    if "/" in name:
        return name if not name.startswith("/") and not name.endswith("/") else None
    if not name or name.islower() or name.startswith("."):
        return None
    if "-" in name and _COMPACT_WITH_DATE(name) is None:
        unified = unified_symbol(exchange, name, "dash")
        return unified if unified is not None and dash_symbol(exchange, unified) == name else None
    unified = unified_symbol(exchange, name, "compact")
    return unified if unified is not None and compact_symbol(exchange, unified) == name else None


def _unit(row: Mapping[str, Any]) -> tuple[Decimal | None, str]:
    """The size and currency of a listed contract."""
    counts, linear, size = row["quantity_unit"], row["linear"], row["contract_size"]
    if counts in ("base", "quote"):
        return None, counts
    if counts == "contracts" and linear is not None and size is not None:
        return size, "base" if linear else "quote"
    return None, "unknown"


def _unit_of_unlisted(exchange: str, unified: str) -> tuple[None, str]:
    """Only a venue whose linear contracts all count the base currency says it of a market that was never listed."""
    pair, _, settlement = unified.partition(":")
    is_linear = pair.partition("/")[2] == settlement.partition("-")[0]
    return None, "base" if is_linear and facts_of(exchange).quantities.base_by_default else "unknown"
