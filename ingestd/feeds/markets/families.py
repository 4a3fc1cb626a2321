"""Families of markets that a venue lists separately: which one a request asks for, and which ones a feed needs. Pure.

Most venues list spot, linear, inverse and option markets separately, and a single list may be unreachable: Binance's
futures answer 451 in some countries. A feed does not need a family that holds none of its symbols. A request that
`families_by_request` of the venue's file does not name is required: it returns all markets, or something that their
names depend on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ingestd.config.values import is_pattern
from ingestd.feeds.markets.symbols import kind_by_name, type_by_name
from ingestd.venues import families
from ingestd.venues.all import facts_of
from ingestd.venues.families import Family


def family_of(exchange: str, api: Any, path: str, params: Any) -> Family | None:
    """The family that a request for markets asks for; None if every symbol needs the request.

    `exchange`: the exchange whose code sends the request. `api`: ccxt's name of the venue's interface, or its parts.
    """
    interface = [api] if isinstance(api, str) else list(api)
    parameters = [f"{key}={value}" for key, value in params.items()] if isinstance(params, Mapping) else []
    request = " ".join([*interface, path, *parameters])
    return next((family for text, family in facts_of(exchange).families_by_request if text in request), None)


def needed(wanted: Iterable[str], unknown: Collection[str], missing: Iterable[Family]) -> list[Family]:
    """The missing families that may hold a wanted market: one that a pattern matches, or one named in `unknown`."""
    names = [name for name in wanted if is_pattern(name) or name in unknown]
    return [family for family in missing if any(may_hold(family, name) for name in names)]


def may_hold(family: Family, name: str) -> bool:
    """Whether the family may hold the market with this name, or a market that this pattern matches."""
    kinds = _kinds(name)
    return bool(family.kinds) and (kinds is None or bool(kinds & family.kinds))


def _kinds(name: str) -> frozenset[str] | None:
    """The kinds of market that a name or pattern can mean; None: any."""
    if not is_pattern(name):
        return frozenset({kind_by_name(name)})
    sort = type_by_name(name)
    if sort == "spot":
        return families.SPOT.kinds
    if sort == "option":
        return families.OPTIONS.kinds
    if sort is None:
        return None
    pair, _, settlement = name.rpartition(":")
    quote, settle = pair.rpartition("/")[2], settlement.partition("-")[0]
    if not quote or is_pattern(quote) or is_pattern(settle):
        return families.CONTRACTS.kinds
    return families.LINEAR.kinds if quote == settle else families.INVERSE.kinds
