"""Which of a venue's lists of markets a request asks for, and which of them a feed needs. Pure.

Most venues list spot, linear, inverse and option markets separately, and one list may be out of reach alone: Binance's
futures answer 451 in some countries. A family is not required if no symbol of the feed is in it. Every request that is
not in the table is required: the names of markets follow from its answer, or it asks for all markets at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingestd.config.overlap import is_pattern
from ingestd.feeds.markets.symbols import kind_by_name, type_by_name


@dataclass(frozen=True, slots=True)
class Family:
    """Markets that a venue lists together; `kinds` are those of `symbols.kind_of`.

    Without kinds it is what a venue tells besides its markets (margin, fees), which no record needs.
    """

    name: str
    kinds: frozenset[str]


_SPOT = Family("spot", frozenset({"spot"}))
_LINEAR = Family("linear", frozenset({"linear"}))
_INVERSE = Family("inverse", frozenset({"inverse", "quanto"}))
_OPTIONS = Family("option", frozenset({"option"}))
_SWAPS = Family("perpetual", frozenset({"linear", "inverse", "quanto"}))
_DATED = Family("dated", frozenset({"linear", "inverse", "quanto"}))
_CONTRACTS = Family("contract", frozenset({"linear", "inverse", "quanto"}))
_BESIDE = Family("margin and fees", frozenset())
_SINGLE = Family("details of single markets", frozenset({"spot", "linear", "inverse", "quanto"}))

# By the exchange whose code the library runs: a text in the request (its interface, path and parameters), and the
# family that such a request asks for. The first text that is found counts.
_ASKED: Mapping[str, Sequence[tuple[str, Family]]] = {
    "aster": (("sapiPublic", _SPOT), ("fapiPublic", _LINEAR)),
    "binance": (
        ("fapiPublic", _LINEAR),
        ("dapiPublic", _INVERSE),
        ("eapiPublic", _OPTIONS),
        ("sapi", _BESIDE),
        ("public exchangeInfo", _SPOT),
    ),
    "bingx": (("cswap", _INVERSE), ("swap", _LINEAR), ("spot", _SPOT)),
    "bitget": (
        ("margin/currencies", _BESIDE),
        ("COIN-FUTURES", _INVERSE),
        ("-FUTURES", _LINEAR),
        ("SPOT", _SPOT),
        ("spot/public/symbols", _SPOT),
        ("MARGIN", _BESIDE),
    ),
    "bithumb": (("ticker/ALL", _SPOT),),
    "bitrue": (("spot", _SPOT), ("fapi", _LINEAR), ("dapi", _INVERSE)),
    "bybit": (("=spot", _SPOT), ("=linear", _LINEAR), ("=inverse", _INVERSE), ("=option", _OPTIONS)),
    "deepcoin": (("=SPOT", _SPOT), ("=SWAP", _SWAPS)),
    "derive": (("=erc20", _SPOT), ("=perp", _SWAPS), ("=option", _OPTIONS)),
    "gate": (
        ("margin", _BESIDE),
        ("spot", _SPOT),
        ("futures {settle}/contracts settle=usdt", _LINEAR),
        ("futures {settle}/contracts", _INVERSE),
        ("delivery", _DATED),
        ("options", _OPTIONS),
    ),
    "gemini": (("symbols/details", _SINGLE),),
    "htx": (
        ("linear-swap-api", _LINEAR),
        ("swap-api", _INVERSE),
        ("contract_contract_info", _DATED),
        ("common/symbols", _SPOT),
    ),
    "hyperliquid": (("=spotMeta", _SPOT), ("=metaAndAssetCtxs", _LINEAR), ("=perpDexs", _LINEAR)),
    "kucoin": (
        ("futuresPublic", _CONTRACTS),
        ("=FUTURES", _CONTRACTS),
        ("=SPOT", _SPOT),
        ("private", _BESIDE),
        ("market/allTickers", _BESIDE),
        ("public symbols", _SPOT),
    ),
    "lbank": (("contract", _CONTRACTS), ("spot", _SPOT)),
    "mexc": (("contract", _CONTRACTS), ("spot", _SPOT)),
    "okx": (("=SPOT", _SPOT), ("=FUTURES", _DATED), ("=SWAP", _SWAPS), ("=OPTION", _OPTIONS)),
    "poloniex": (("swapPublic", _SWAPS), ("public markets", _SPOT)),
    "weex": (("contract", _CONTRACTS), ("public", _SPOT)),
    "xt": (("spot", _SPOT), ("linear", _LINEAR), ("inverse", _INVERSE)),
}


def family_of(exchange: str, api: Any, path: str, params: Any) -> Family | None:
    """The family that a request for markets asks for; None: it is required for any symbol.

    `exchange` is the one whose code asks, `api` the library's name of the venue's interface, or its parts.
    """
    interface = [api] if isinstance(api, str) else list(api)
    told = [f"{key}={value}" for key, value in params.items()] if isinstance(params, Mapping) else []
    asked = " ".join([*interface, path, *told])
    return next((family for words, family in _ASKED.get(exchange, ()) if words in asked), None)


def needed(wanted: Iterable[str], unknown: Collection[str], missing: Iterable[Family]) -> list[Family]:
    """The missing families that a pattern may match markets of, or that a name in `unknown` may be in."""
    names = [name for name in wanted if is_pattern(name) or name in unknown]
    kinds = [_kinds(name) for name in names]
    return [family for family in missing if family.kinds and any(k is None or k & family.kinds for k in kinds)]


def may_hold(family: Family, name: str) -> bool:
    """Whether the market of that name, or one that the pattern matches, may be of the family."""
    kinds = _kinds(name)
    return bool(family.kinds) and (kinds is None or bool(kinds & family.kinds))


def _kinds(name: str) -> frozenset[str] | None:
    """The kinds of market that a name or pattern can mean; None: any."""
    if not is_pattern(name):
        return frozenset({kind_by_name(name)})
    sort = type_by_name(name)
    if sort == "spot":
        return _SPOT.kinds
    if sort == "option":
        return _OPTIONS.kinds
    if sort is None:
        return None
    pair, _, settlement = name.rpartition(":")
    quote, settle = pair.rpartition("/")[2], settlement.partition("-")[0]
    if not quote or is_pattern(quote) or is_pattern(settle):
        return _CONTRACTS.kinds
    return _LINEAR.kinds if quote == settle else _INVERSE.kinds
