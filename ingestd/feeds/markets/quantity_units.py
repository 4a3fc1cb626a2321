"""The unit of a trade's quantity: the base currency, the quote currency, or a contract of a fixed amount of either.

ccxt's convention is that an amount counts contracts of `contractSize`: of the base currency where the contract is
linear, of the quote currency where it is inverse. `_READ` are the venues whose documents say so of the sizes in public
trades, `_BY_CONVENTION` those that ccxt says it of, and of which no page that contradicts was found; `_OTHERWISE` are
those whose trades count something else. For contracts of any other venue the unit is `unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias

from ingestd.venues.exact import decimal_text

Currency: TypeAlias = Literal["base", "quote", "unknown"]
Unit: TypeAlias = Literal["base", "quote", "contracts"]

_READ = frozenset(
    {
        # USDⓈ-M in the base asset, as recorded candles prove; COIN-M "cont", of 100 or 10 USD
        # https://developers.binance.com/docs/derivatives/coin-margined-futures/market-data/rest-api/Open-Interest-Statistics
        "binance",
        "binancecoinm",
        "binanceusdm",
        "blofin",  # "number of contracts", of contractValue: https://docs.blofin.com/index.html#ws-order-book-channel
        # "Open interest size (contracts)" and the like: https://github.com/gateio/gateapi-python/tree/master/docs
        "gate",
        "gateio",
        "htx",  # amount: "Quantity(Cont.)", of contract_size: https://huobiapi.github.io/docs/usdt_swap/v1/en/
        "huobi",
        "mexc",  # "volume of contracts", of contractSize: https://mexcdevelop.github.io/apidocs/contract_v1_en/
        # "For FUTURES/SWAP/OPTION, the unit is contract", of ctVal: https://www.okx.com/docs-v5/en/
        "myokx",
        "okx",
        "okxus",
    }
)
_BY_CONVENTION = frozenset(
    {
        "aster",
        "bingx",
        "bitfinex",
        "coinbaseinternational",
        "cryptocom",
        "hyperliquid",
        "krakenfutures",
        "kucoin",
        "kucoinfutures",
        "modetrade",
        "woo",
        "woofipro",
        "xt",
    }
)
_IN_CONTRACTS = _READ | _BY_CONVENTION
# The currency that a venue's trades count, linear and inverse, where it is not contracts of `contractSize`.
_OTHERWISE: Mapping[str, Mapping[str, Currency]] = {
    # https://docs.deribit.com/#trades-instrument_name-interval: "For perpetual and inverse futures the amount is in USD
    # units. For options and linear futures it is the underlying base currency coin."
    "deribit": {"linear": "base", "inverse": "quote"},
    # https://bybit-exchange.github.io/docs/v5/market/kline, volume: "USDT or USDC contract: unit is base coin (e.g.,
    # BTC). Inverse contract: unit is quote coin (e.g., USD)"; ccxt's contractSize is the least order.
    "bybit": {"linear": "base", "inverse": "quote"},
    # Its candles and tickers have the "trading volume of the coin", for coin-M too; of trades nothing was found
    # https://www.bitget.com/api-doc/contract/websocket/public/Tickers-Channel
    "bitget": {"linear": "base", "inverse": "base"},
}
_GATE = frozenset({"gate", "gateio"})
_OKX = frozenset({"okx", "okxus", "myokx"})
# Options of other venues count contracts whose multiplier ccxt does not always have (OKX's ctMult, Gate's multiplier).
_OPTIONS = frozenset({"binance", "bybit", "deribit"})

# Contracts of which the database knows without being told that a quantity counts the base currency: the trades of the
# busiest venues carry nothing more than those of spot. The same as ingestd_counted_base() in sql/migrations/0009.
SAID_BY_NOBODY = frozenset({"binance", "binanceusdm", "bybit"})


@dataclass(frozen=True, slots=True)
class Contract:
    """What a market's trades count: `size` (None: one) of `currency`; both None where it is no contract."""

    linear: bool | None = None
    size: str | None = None
    currency: Currency | None = None

    @property
    def quantity_unit(self) -> Unit | None:
        """The same in a word; None: not known."""
        if self.currency == "unknown":
            return None
        return "contracts" if self.size is not None else self.currency or "base"


def contract_of(exchange: str, market: Mapping[str, Any]) -> Contract:
    """What one of a trade's quantity is in this market (ccxt's dict of it)."""
    if not market.get("contract"):
        return Contract()
    linear, inverse = market.get("linear") is True, _is_inverse(market)
    kind = "linear" if linear else "inverse"
    is_option = market.get("type") == "option" or market.get("option") is True
    if linear == inverse or (is_option and (inverse or exchange not in _OPTIONS)):
        return Contract(linear if linear != inverse else None, None, "unknown")
    if exchange in _OTHERWISE:
        return Contract(linear, None, _OTHERWISE[exchange][kind])
    size = positive_size(exchange, market)
    if exchange not in _IN_CONTRACTS or size is None or _counts_otherwise(exchange, market):
        return Contract(linear, None, "unknown")
    return Contract(linear, None if Decimal(size) == 1 else size, "base" if linear else "quote")


def positive_size(exchange: str, market: Mapping[str, Any]) -> str | None:
    """A contract's size, of a market that has one."""
    if not market.get("contract"):
        return None
    size = _positive(market.get("contractSize"))
    info = market.get("info")
    multiplier = info.get("quanto_multiplier") if exchange in _GATE and isinstance(info, Mapping) else None
    if multiplier is not None and _positive(multiplier) is None:  # the library takes 0 for 1, of whatever contract
        return "1" if _is_inverse(market) else None
    return size


def _is_inverse(market: Mapping[str, Any]) -> bool:
    """Whether it is settled in its base: the library also calls so what is settled in a third currency, a quanto."""
    return market.get("inverse") is True and market.get("settle") in (None, market.get("base"))


def _counts_otherwise(exchange: str, market: Mapping[str, Any]) -> bool:
    """Whether a contract is not `contractSize` of its currency: OKX says of what `ctVal` is, and has a multiplier.

    https://www.okx.com/docs-v5/en/#public-data-rest-api-get-instruments
    """
    info = market.get("info")
    if exchange not in _OKX or not isinstance(info, Mapping):
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
    if contract.currency == "base" and contract.linear and exchange in SAID_BY_NOBODY:
        return None
    return contract.currency
