"""The unit of a trade's quantity: the base currency, the quote currency, or a contract of a fixed amount of either.

Each exchange's file states the unit of its trades (`Quantities`). For contracts of any other venue it is `unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from ingestd.venues.all import facts_of
from ingestd.venues.exact import decimal_text
from ingestd.venues.facts import Currency


@dataclass(frozen=True, slots=True)
class Contract:
    """What a quantity of 1 means in a market's trades: `size` (None: 1) of `currency`.

    Both are None if the market is not a contract.
    """

    linear: bool | None = None
    size: str | None = None
    currency: Currency | None = None

    @property
    def quantity_unit(self) -> Literal["base", "quote", "contracts"] | None:
        """The unit as one word; None if unknown."""
        if self.currency == "unknown":
            return None
        return "contracts" if self.size is not None else self.currency or "base"


def contract_of(exchange: str, market: Mapping[str, Any]) -> Contract:
    """What a trade's quantity of 1 means in this market. `market`: ccxt's dict."""
    if not market.get("contract"):
        return Contract()
    linear, inverse = market.get("linear") is True, _is_inverse(market)
    counted = facts_of(exchange).quantities
    kind = "linear" if linear else "inverse"
    is_option = market.get("type") == "option" or market.get("option") is True
    if linear == inverse or (is_option and (inverse or not counted.of_options)):
        return Contract(linear if linear != inverse else None, None, "unknown")
    if counted.currency:
        return Contract(linear, None, counted.currency[kind])
    size = positive_size(exchange, market)
    if not counted.in_contracts or size is None or _counts_otherwise(exchange, market):
        return Contract(linear, None, "unknown")
    return Contract(linear, None if Decimal(size) == 1 else size, "base" if linear else "quote")


def positive_size(exchange: str, market: Mapping[str, Any]) -> str | None:
    """The market's contract size; None if it is not a contract or states no positive size."""
    if not market.get("contract"):
        return None
    info = market.get("info")
    if facts_of(exchange).quantities.quanto_multiplier and isinstance(info, Mapping):
        multiplier = info.get("quanto_multiplier")
        if multiplier is not None and _positive(multiplier) is None:  # ccxt reads a multiplier of 0 as 1
            return "1" if _is_inverse(market) else None
    return _positive(market.get("contractSize"))


def _is_inverse(market: Mapping[str, Any]) -> bool:
    """Whether the market is settled in its base. ccxt also calls quantos inverse: they settle in a third currency."""
    return market.get("inverse") is True and market.get("settle") in (None, market.get("base"))


def _counts_otherwise(exchange: str, market: Mapping[str, Any]) -> bool:
    """Whether a contract is not `contractSize` of its usual currency: OKX names the currency of `ctVal`, and has a
    multiplier.

    https://www.okx.com/docs-v5/en/#public-data-rest-api-get-instruments
    """
    info = market.get("info")
    if not facts_of(exchange).quantities.contract_value or not isinstance(info, Mapping):
        return False
    counted = info.get("ctValCcy") or None
    own = market.get("baseId" if market.get("linear") is True else "quoteId")
    is_multiplied = Decimal(_positive(info.get("ctMult") or "1") or "0") != 1
    return is_multiplied or (counted is not None and own is not None and counted != own)


def _positive(value: Any) -> str | None:
    text = decimal_text(value)
    try:
        number = Decimal(text or "")
    except InvalidOperation:
        return None
    return text if number.is_finite() and number > 0 else None


def unit_of(exchange: str, market: Mapping[str, Any]) -> str | None:
    """The `unit` of this market's trades (see `records.Trade`)."""
    contract = contract_of(exchange, market)
    if contract.currency is None:
        return None
    if contract.size is not None:
        return f"{contract.size} {contract.currency}"
    if contract.currency == "base" and contract.linear and facts_of(exchange).quantities.base_by_default:
        return None
    return contract.currency
