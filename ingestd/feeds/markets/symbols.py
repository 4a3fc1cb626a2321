"""Resolves configured names and patterns to the venue's symbols. Reports unknown names with the nearest match."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingestd.channels import ROW_OF
from ingestd.config.values import is_pattern
from ingestd.records import Channel
from ingestd.venues.symbol_names import nearest_markets

_FLAGS = {"contracts": ("contract", "swap", "future", "option"), "futures": ("swap", "future"), "perpetuals": ("swap",)}
_WILDCARD = re.compile(r"[*?\[\]]")
_DASHES_OF_OPTION = 2  # at least this many after the settlement currency
_NONE: Mapping[str, Sequence[Mapping[str, Any]]] = {}


@dataclass(slots=True)
class Resolution:
    """`symbols`: in the order of the configuration. `unknown`: the other names, each with the reason."""

    symbols: list[str]
    unknown: dict[str, str]


def namesakes(markets: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The markets that share a unified symbol with another market of the venue, by that symbol.

    The exchange library keeps only the last of them, under a name that is ambiguous.
    """
    by_symbol: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {}
    for market in markets:
        same = by_symbol.setdefault(str(market["symbol"]), {})
        same[str(market.get("id")), str(market.get("type"))] = market
    return {symbol: list(same.values()) for symbol, same in by_symbol.items() if len(same) > 1}


def resolve(
    wanted: Sequence[str],
    markets: Mapping[str, Mapping[str, Any]],
    shared: Mapping[str, Sequence[Mapping[str, Any]]] = _NONE,
    followed: Collection[str] = (),
) -> Resolution:
    """Resolve names and patterns to symbols.

    A pattern matches active markets and those already `followed`. A literal name needs only to exist: a halted market
    may open again. A name that several markets share (`shared`: see `namesakes`) is unknown: none of them is followed.
    """
    found: dict[str, None] = {}
    unknown: dict[str, str] = {}
    active = [symbol for symbol, market in markets.items() if market.get("active") is not False or symbol in followed]
    for name in wanted:
        if is_pattern(name):
            matches = sorted(fnmatch.filter(active, name))
            left_out = [symbol for symbol in fnmatch.filter(shared, name) if symbol not in markets]
            unknown.update((symbol, why_shared(shared[symbol])) for symbol in left_out)
            if not matches and not left_out:
                capitals = name.upper()
                hint = f": symbols are in capitals, as in {capitals}" if fnmatch.filter(active, capitals) else ""
                unknown[name] = f"matches no active market{hint}"
            found.update(dict.fromkeys(matches))
        elif name in markets:
            found[name] = None
        elif name in shared:
            unknown[name] = why_shared(shared[name])
        else:
            hint = nearest_markets(name, markets)
            unknown[name] = "the venue has no such market" + (f"; {hint}" if hint else "")
    return Resolution(list(found), unknown)


def names(wanted: Iterable[str], symbol: str) -> bool:
    """Whether a configured name or pattern matches this symbol."""
    return any(name == symbol or (is_pattern(name) and fnmatch.fnmatchcase(symbol, name)) for name in wanted)


def serves(channel: Channel, market: Mapping[str, Any]) -> bool:
    """Whether the market has the channel: only contracts that never expire have a funding rate."""
    having = ROW_OF[channel].markets
    return having == "all" or any(market.get(flag) for flag in _FLAGS[having])


def may_serve(channel: Channel, name: str) -> bool:
    """Whether a symbol or pattern may name a market that has the channel, judged by its text alone."""
    having, market_type = ROW_OF[channel].markets, type_by_name(name)
    return having == "all" or market_type is None or market_type in _FLAGS[having]


def why_shared(markets: Sequence[Mapping[str, Any]]) -> str:
    """Why a name of `namesakes` is not followed: a predicate to put after the name."""
    ids = " and ".join(sorted(str(market.get("id")) for market in markets))
    return f"is the unified name of {len(markets)} markets of the venue, {ids}: none of them is followed"


def kind_of(market: Mapping[str, Any]) -> str:
    """The kind of a market: `spot`, `linear`, `inverse` or `quanto` (perpetual or dated), `option`, else ccxt's type.

    `market`: ccxt's dict.
    """
    if market.get("option"):
        return "option"
    if market.get("spot"):
        return "spot"
    if market.get("contract"):
        return "linear" if market.get("linear") else "inverse" if market.get("inverse") else "quanto"
    return str(market.get("type"))


def kind_by_name(symbol: str) -> str:
    """The kind of a market, judged by its unified symbol alone."""
    pair, settled, settlement = symbol.partition(":")
    settle, _, dates = settlement.partition("-")
    if not settled:
        return "spot"
    if "-" in dates:
        return "option"
    base, _, quote = pair.partition("/")
    return "linear" if settle == quote else "inverse" if settle == base else "quanto"


def type_by_name(name: str) -> str | None:
    """`spot`, `swap`, `future` or `option`, judged by a unified symbol or the end of a pattern; None if it may be
    any."""
    end = _WILDCARD.split(name)[-1]
    _, settled, settlement = end.rpartition(":")
    if not settled:
        return "spot" if "/" in end else None
    return ("swap", "future")[settlement.count("-")] if settlement.count("-") < _DASHES_OF_OPTION else "option"
