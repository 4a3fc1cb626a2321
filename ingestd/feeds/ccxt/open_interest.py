"""What venues count their open interest in, by their documents, and what the exchange library misreads of it. Pure.

A venue that the table does not have says neither: the unit is unknown, never guessed. What stands in quotation marks is
the wording of the venue's documents; of the other rows the page where it should be found is named, unread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ingestd.feeds.markets.symbols import kind_by_name
from ingestd.records import OpenInterestUnit
from ingestd.venues.exact import decimal_text

Kind: TypeAlias = Literal["linear", "inverse", "option", "other"]

_KINDS: Mapping[str, Kind] = {"linear": "linear", "inverse": "inverse", "option": "option"}
_COIN_OF_HTX = "2"  # `amount_type` of its history: 1 contracts, 2 coins
_FIELDS_WITH_CONTRACTS = 4  # of a row of OKX' history; three have no contracts


@dataclass(frozen=True, slots=True)
class Counting:
    """What one venue counts in, by the kind of contract.

    `misplaced`: the library takes this count for a value. `valued`: it takes this value for a count, and makes another
    one of it. `no_value`: what it takes for a value in quote currency is none. `unread`: the field of a count that it
    does not read.
    """

    linear: OpenInterestUnit | None = None
    inverse: OpenInterestUnit | None = None
    option: OpenInterestUnit | None = None
    other: OpenInterestUnit | None = None
    misplaced: frozenset[Kind] = frozenset()
    valued: frozenset[Kind] = frozenset()
    no_value: frozenset[Kind] = frozenset()
    unread: str | None = None

    def unit(self, kind: Kind) -> OpenInterestUnit | None:
        """What contracts of this kind are counted in."""
        units: dict[Kind, OpenInterestUnit | None] = {
            "linear": self.linear,
            "inverse": self.inverse,
            "option": self.option,
            "other": self.other,
        }
        return units[kind]


def unit_of(exchange: str, symbol: str) -> OpenInterestUnit | None:
    """What this venue counts the open interest of this market in; None: nobody has said."""
    return _VENUES.get(exchange, _UNKNOWN).unit(kind_of(symbol))


def kind_of(symbol: str) -> Kind:
    """The kind of contract, by its unified name."""
    return _KINDS.get(kind_by_name(symbol), "other")


def counted(
    exchange: str, symbol: str, interest: Mapping[str, Any]
) -> tuple[str | None, str | None, OpenInterestUnit | None]:
    """How much is open, as the venue counts it; its value in the quote currency; what the venue counts in.

    `interest` is the library's. Where the venue counts in the quote currency there is only the value.
    """
    amount = decimal_text(interest.get("openInterestAmount"))
    value = decimal_text(interest.get("openInterestValue"))
    venue, kind = _VENUES.get(exchange, _UNKNOWN), kind_of(symbol)
    info = interest.get("info")
    if amount is None and venue.unread is not None and isinstance(info, Mapping):
        amount = decimal_text(info.get(venue.unread))
    if kind in venue.no_value:
        value = None
    if kind in venue.misplaced and amount is None:
        amount, value = value, None
    if kind in venue.valued:
        amount, value = None, amount
    if amount is None:
        return None, value, "quote" if venue is not _UNKNOWN else None
    return amount, value, _unit_of_sample(exchange, info) or venue.unit(kind)


def _unit_of_sample(exchange: str, info: Any) -> OpenInterestUnit | None:
    """Where a message says itself what it counts in."""
    if exchange in _HTX and isinstance(info, Mapping) and str(info.get("amount_type")) == _COIN_OF_HTX:
        return "base"
    if exchange in _OKX and isinstance(info, list) and len(info) < _FIELDS_WITH_CONTRACTS:
        return "base"
    return None


_BINANCE = ("binance", "binancecoinm", "binanceusdm")
_BYBIT = ("bybit", "bybiteu", "bybitid")
_GATE = ("gate", "gateeu", "gateio")
_HTX = ("htx", "huobi")
_KUCOIN = ("kucoin", "kucoinfutures")
_OKX = ("okx", "okxus", "myokx")
_ANY: frozenset[Kind] = frozenset({"linear", "inverse", "option", "other"})
_IN_CONTRACTS = Counting("contracts", "contracts", "contracts", "contracts")

_UNKNOWN = Counting()
_VENUES: Mapping[str, Counting] = {
    # USDⓈ-M in the base asset. COIN-M: "unit: cont", and its value "unit: base asset"
    # https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Open-Interest
    # https://developers.binance.com/docs/derivatives/coin-margined-futures/market-data/rest-api/Open-Interest-Statistics
    **dict.fromkeys(_BINANCE, Counting("base", "contracts", no_value=frozenset({"inverse"}))),
    # "The value is the sum of both sides. The unit of value, e.g., BTCUSD(inverse) is USD, BTCUSDT(linear) is BTC"
    # https://bybit-exchange.github.io/docs/v5/market/open-interest
    **dict.fromkeys(_BYBIT, Counting("base", "quote")),
    # "For perpetual and inverse futures the amount is in USD units. For options and linear futures it is the underlying
    # base currency coin." A linear perpetual is a linear future of Deribit's, which ccxt takes for an inverse one.
    # https://docs.deribit.com/api-reference/market-data/public-get_book_summary_by_instrument
    "deribit": Counting("base", "quote", "base", misplaced=frozenset({"linear"})),
    # oi: "Open interest in number of contracts"; https://www.okx.com/docs-v5/en/#public-data-rest-api-get-open-interest
    **dict.fromkeys(_OKX, _IN_CONTRACTS),
    # open_interest: "Total open interest size (contracts)"; https://www.gate.com/docs/developers/apiv4/en/#futures-statistics
    **dict.fromkeys(_GATE, _IN_CONTRACTS),
    # volume: "Position quantity(volume)", beside the currency's; "Sum of both buy and sell sides" where settled in USDT
    # https://huobiapi.github.io/docs/coin_margined_swap/v1/en/#query-information-on-open-interest
    **dict.fromkeys(_HTX, _IN_CONTRACTS),
    # in lots, which are contracts; https://www.kucoin.com/docs-new/rest/futures-trading/market-data/get-symbol
    **dict.fromkeys(_KUCOIN, _IN_CONTRACTS),
    # "total number of outstanding derivative contracts"; https://docs.bitfinex.com/reference/rest-public-derivatives-status
    "bitfinex": _IN_CONTRACTS,
    # in USDT; https://bingx-api.github.io/docs/#/en-us/swapV2/market-api.html
    "bingx": Counting("quote"),
    # size, in the base coin; https://www.bitget.com/api-doc/contract/market/Get-Open-Interest
    "bitget": Counting("base"),
    # in coins; https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint/perpetuals
    "hyperliquid": Counting("base", other="base"),
    # I: "Open interest in synthetic asset", i: "in USD"; https://api.docs.extended.exchange/#get-open-interest-history
    "extended": Counting("base", other="base"),
    # in base currency; https://docs.paradex.trade/api/prod/markets/get-markets-summary
    "paradex": Counting("base", other="base"),
    # in base; 1273.85 BTC in July 2025, which ccxt takes for 1273.85 USDC; https://docs.backpack.exchange/#tag/Markets
    "backpack": Counting("base", other="base", misplaced=_ANY),
    # Each states both, and value = count × price: https://docs.gemini.com/rest/derivatives#get-risk-stats
    # https://docs.nado.xyz/developer-resources/api/v2/contracts, and for XT
    # https://doc.xt.com/docs/futures/MarketData/get-the-open-position-of-a-trading-pair
    **dict.fromkeys(("gemini", "nado", "xt"), Counting("base", other="base")),
    # "Current open interest in USD", which ccxt multiplies by the price once more
    # https://docs.pacifica.fi/api-documentation/api/rest-api/markets/get-prices
    "pacifica": Counting("quote", other="quote", valued=_ANY),
    # Of contracts with scaled prices an integer, as are positions, which count contracts; of the others
    # `openInterestRv`, of which nothing is said. https://phemex-docs.github.io/#query-24-hours-ticker
    "phemex": Counting(inverse="contracts", unread="openInterest"),
    # 30.98 of BTC at 42,307: no value in USDT, as ccxt takes it; https://api.hitbtc.com/#futures-info
    **dict.fromkeys(("hitbtc", "bequant"), Counting(misplaced=_ANY)),
}
