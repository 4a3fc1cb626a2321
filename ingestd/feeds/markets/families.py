"""Which of a venue's lists of markets a request asks for, and which of them a feed needs. Pure.

Most venues list spot, linear, inverse and option markets separately, and one list may be out of reach alone: Binance's
futures answer 451 in some countries. A family is not required if no symbol of the feed is in it. Every request that the
venue's file does not name (`lists`) is required: the names of markets follow from its answer, or it asks for all
markets at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ingestd.config.overlap import is_pattern
from ingestd.feeds.markets.symbols import kind_by_name, type_by_name
from ingestd.venues import families
from ingestd.venues.all import facts_of
from ingestd.venues.families import Family


def family_of(exchange: str, api: Any, path: str, params: Any) -> Family | None:
    """The family that a request for markets asks for; None: it is required for any symbol.

    `exchange` is the one whose code asks, `api` the library's name of the venue's interface, or its parts.
    """
    interface = [api] if isinstance(api, str) else list(api)
    told = [f"{key}={value}" for key, value in params.items()] if isinstance(params, Mapping) else []
    asked = " ".join([*interface, path, *told])
    return next((family for words, family in facts_of(exchange).lists if words in asked), None)


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
