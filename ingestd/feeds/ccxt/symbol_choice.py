"""Chooses the symbols that a feed follows from each list of markets, and says which configured symbols it lacks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from ingestd.clock import now_us
from ingestd.config.models import FeedConfig
from ingestd.errors import Problem
from ingestd.feeds.markets import symbols as symbol_names
from ingestd.feeds.markets.families import may_hold, needed
from ingestd.feeds.markets.listing import Choice, has_expired
from ingestd.records import Channel, StreamId
from ingestd.venues.families import Family

log = structlog.get_logger()


@dataclass
class SymbolChoice:
    """The choice of one feed, which outlives its exchange objects.

    `keep`: whether a symbol belongs to this shard. `refuses`: the reason not to follow a market, or None. `earlier`:
    the streams of an earlier process that no feed follows yet.

    A followed symbol stays followed while the configuration names it, whatever a list of markets says (`listing`).
    """

    config: FeedConfig
    keep: Callable[[str], bool] | None
    refuses: Callable[[Mapping[str, Any]], str | None] | None
    earlier: Collection[StreamId]
    followed: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # symbols with their last known markets
    unknown: dict[str, str] = field(default_factory=dict)  # wanted, but no market is found: the reasons
    missing: dict[Family, str] = field(default_factory=dict)  # families that may hold a symbol but were not fetched
    refused: int = 0  # symbols beyond `max_symbols`
    pointless: list[Channel] = field(default_factory=list)  # configured channels that none of the symbols has
    _unknown_since: dict[str, int] = field(default_factory=dict)
    _logged_unknown: frozenset[str] = frozenset()
    _logged_missing: frozenset[Family] = frozenset()

    def __post_init__(self) -> None:
        self.wanted = list(self.config.symbols)  # names and patterns

    def choose(self, exchange: Any) -> Choice:
        """Choose from the listed symbols and those already followed."""
        markets = exchange.markets
        resolution = self.resolve(exchange)
        self.log_unknown(exchange)
        kept = self._bounded([s for s in resolution.symbols if self.keep is None or self.keep(s)])
        self.followed = {symbol: markets[symbol] for symbol in kept}
        self._log_pointless([markets[symbol] for symbol in resolution.symbols])
        lacking = exchange.lacking.intersection(kept)
        choice = Choice(
            kept,
            markets,
            closed={symbol for symbol in kept if markets[symbol].get("active") is False} - lacking,
            lacking=lacking,
            incomplete=bool(lacking or resolution.unknown or self.missing),
            missing_since={s: since for s in kept if (since := self._unknown_since.pop(s, None)) is not None},
        )
        self._unknown_since = {name: self._unknown_since.get(name, now_us()) for name in self.unknown}
        return choice

    def resolve(self, exchange: Any) -> symbol_names.Resolution:
        """Resolve the wanted names and patterns. Sets `unknown` and `missing`."""
        now = now_us()
        over = {s for s in exchange.lacking if has_expired(s, exchange.markets[s], now)}
        markets = {symbol: market for symbol, market in exchange.markets.items() if symbol not in over}
        followed = [symbol for symbol, market in self.followed.items() if not has_expired(symbol, market, now)]
        resolution = symbol_names.resolve(self.wanted, markets, exchange.namesakes, followed)
        if self.refuses is not None:
            refused = {symbol: why for symbol in resolution.symbols if (why := self.refuses(markets[symbol]))}
            resolution.symbols = [symbol for symbol in resolution.symbols if symbol not in refused]
            resolution.unknown.update(refused)
        lacking = needed(self.wanted, resolution.unknown, exchange.missing)
        self.missing = {family: exchange.missing[family] for family in lacking}
        for name in resolution.unknown:
            if name in exchange.left_out:
                why = f"the venue lists it in a form that cannot be used: {exchange.left_out[name]}"
                resolution.unknown[name] = why
            elif (family := next((family for family in lacking if may_hold(family, name)), None)) is not None:
                resolution.unknown[name] = _why_missing(family, self.missing[family])
        self.unknown = resolution.unknown
        return resolution

    def _bounded(self, symbols: list[str]) -> list[str]:
        """At most `max_symbols` of the symbols, in their order. Symbols that are configured by name come first, then
        those followed now or by an earlier process, then the others by name, so that each start chooses the same."""
        most = self.config.max_symbols
        refused, before = max(0, len(symbols) - most), self.refused
        self.refused = refused
        if not refused:
            return symbols
        named = set(self.wanted)
        held = {symbol for exchange, _, symbol in self.earlier if exchange == self.config.exchange}
        held.update(self.followed)
        ranked = sorted(symbols, key=lambda symbol: (symbol not in named, symbol not in held, symbol))
        if refused != before:
            counts = {"match": len(symbols), "max_symbols": most, "refused": refused}
            remedy = "narrow the patterns, raise max_symbols, or share them with --shard"
            such_as = ranked[most : most + 3]
            log.error("too_many_symbols", feed=self.config.label, **counts, such_as=such_as, remedy=remedy)
        taken = set(ranked[:most])
        return [symbol for symbol in symbols if symbol in taken]

    def may_be_right(self, exchange: Any) -> bool:
        """Whether the wanted symbols may exist although none is listed: a list that may hold one could not be fetched,
        the exchange lists one in a form that cannot be read, or an earlier process followed one."""
        if self.missing or any(name in exchange.left_out for name in self.unknown):
            return True
        captured = (symbol for name, _, symbol in self.earlier if name == self.config.exchange)
        return any(symbol_names.names(self.wanted, symbol) for symbol in captured)

    def mistakes(self) -> list[Problem]:
        """The problem of each unknown symbol, with its path in the feed's configuration."""
        return [
            Problem(f"symbols[{number}]", self.unknown[symbol], repr(symbol))
            for number, symbol in enumerate(self.wanted)
            if symbol in self.unknown
        ]

    def log_unknown(self, exchange: Any) -> None:
        """Log newly unknown symbols and newly missing lists of markets."""
        for symbol in self.unknown.keys() - self._logged_unknown:
            log.warning("unknown_symbol", feed=self.config.label, symbol=symbol, reason=self.unknown[symbol])
        self._logged_unknown = frozenset(self.unknown)
        for family in exchange.missing.keys() - self._logged_missing:
            is_needed, why = family in self.missing, exchange.missing[family]
            said = log.warning if is_needed else log.debug
            said("market_list_missing", feed=self.config.label, family=family.name, needed=is_needed, error=why)
        self._logged_missing = frozenset(exchange.missing)

    def _log_pointless(self, markets: Sequence[Mapping[str, Any]]) -> None:
        """Log configured channels that no symbol of the feed has, unless logged before."""
        before, channels = self.pointless, self.config.channels if markets else []
        self.pointless = [c for c in channels if not any(symbol_names.serves(c, market) for market in markets)]
        why = "only contracts have it, and funding only perpetual ones"
        remedy = "leave the channel out, or add such contracts to symbols"
        for channel in [channel for channel in self.pointless if channel not in before]:
            log.warning("channel_of_no_symbol", feed=self.config.label, channel=channel, because=why, remedy=remedy)

    def problem(self) -> str | None:
        """A sentence about markets that cannot be followed, for the status of the feed; None if there are none."""
        if self.missing:
            return "; ".join(_why_missing(family, why) for family, why in self.missing.items())
        if self.refused:
            said = f"{self.refused} markets that match are not followed: max_symbols is {self.config.max_symbols}"
            return f"{said}; raise it, or narrow the patterns"
        return None


def _why_missing(family: Family, why: str) -> str:
    return f"the venue's list of {family.name} markets cannot be had, and is asked for again: {why}"
