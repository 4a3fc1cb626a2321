"""The configured symbols against the venue's markets: globs expand, unknown names are reported with the nearest."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingestd.records import Channel

_CONTRACT_CHANNELS = ("open_interest", "funding")


@dataclass(slots=True)
class Resolution:
    """`symbols` in the order of the configuration; `unknown`: why each other one cannot be had."""

    symbols: list[str] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)


def resolve(wanted: Sequence[str], markets: Mapping[str, Mapping[str, Any]]) -> Resolution:
    """Expand globs over active markets; a literal name needs only to exist (a halted market may open again)."""
    resolution = Resolution()
    found: dict[str, None] = {}
    active = [symbol for symbol, market in markets.items() if market.get("active") is not False]
    for name in wanted:
        if is_glob(name):
            matches = sorted(fnmatch.filter(active, name))
            if not matches:
                resolution.unknown[name] = "matches no active market"
            found.update(dict.fromkeys(matches))
        elif name in markets:
            found[name] = None
        else:
            resolution.unknown[name] = _why_unknown(name, markets)
    resolution.symbols = list(found)
    return resolution


def is_glob(name: str) -> bool:
    """Whether the name is a pattern such as `*/USDT`."""
    return any(character in name for character in "*?[")


def serves(channel: Channel, market: Mapping[str, Any]) -> bool:
    """Whether the channel means anything for the market: only contracts that never expire have a funding rate."""
    if channel == "funding":
        return bool(market.get("swap"))
    return channel not in _CONTRACT_CHANNELS or bool(market.get("contract"))


def _why_unknown(name: str, markets: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(markets), n=3, cutoff=0.6)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    return f"the venue has no such market{hint}"
