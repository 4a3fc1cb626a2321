"""A feed for any exchange of ccxt.pro."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from ingestd.clock import now_us
from ingestd.config.models import FeedConfig
from ingestd.errors import ConfigError, FeedError, Problem
from ingestd.feeds.base import Intake
from ingestd.feeds.ccxt import records
from ingestd.feeds.ccxt.session import CcxtSession
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.feeds.markets import symbols as symbol_names
from ingestd.feeds.markets.cache import MarketCache
from ingestd.feeds.markets.families import may_hold, needed
from ingestd.feeds.markets.listing import Choice, has_expired
from ingestd.feeds.stopping import Stop
from ingestd.gaps.causes import DISCONNECT
from ingestd.records import Channel, StreamId
from ingestd.retry import Backoff
from ingestd.status import Earlier, FeedStatus, MarketInfo, StreamStatus
from ingestd.venues.families import Family

log = structlog.get_logger()

NOTHING_LISTED_S = 15.0


def _take_all(_channel: Channel, _market: Mapping[str, Any]) -> bool:
    return True


class CcxtFeed:
    """A `Feed` that uses ccxt. Call `run` once and `close` once.

    `keep`: whether a symbol belongs to this shard. `earlier`: stream states left by an earlier process; following a
    stream removes its entry. `cache`: stores the markets for the next start. `chosen`: called with every new choice of
    symbols. `takes`: whether this feed captures a stream. `refuses`: the reason not to follow a market, or None.

    A followed symbol stays followed while the configuration names it, whatever a list of markets says (`listing`).

    22 attributes: half of them hold the choice of symbols, which outlives the sessions and is shown in the status.
    """

    def __init__(
        self,
        config: FeedConfig,
        *,
        keep: Callable[[str], bool] | None = None,
        earlier: MutableMapping[StreamId, Earlier] | None = None,
        cache: MarketCache | None = None,
        chosen: Callable[[Choice], None] | None = None,
        takes: Callable[[Channel, Mapping[str, Any]], bool] = _take_all,
        refuses: Callable[[Mapping[str, Any]], str | None] | None = None,
    ) -> None:
        self.config = config
        self._cache = cache
        self._chosen = chosen
        self._takes = takes
        self._refuses = refuses
        self._earlier: MutableMapping[StreamId, Earlier] = {} if earlier is None else earlier
        self._keep = keep
        self._stop = Stop()
        self._reader: TapReader | None = None
        self._session: CcxtSession | None = None
        self._markets: list[MarketInfo] = []
        self._unknown: dict[str, str] = {}
        self._unknown_since: dict[str, int] = {}
        self._logged_unknown: frozenset[str] = frozenset()
        self._followed: dict[str, Mapping[str, Any]] = {}  # symbols with their last known markets
        self._symbols: list[str] = list(config.symbols)
        self._missing: dict[Family, str] = {}  # families of markets that may hold a symbol but could not be fetched
        self._logged_missing: frozenset[Family] = frozenset()
        self._refused = 0  # symbols beyond `max_symbols`
        self._pointless: list[Channel] = []  # configured channels that none of the symbols has
        self._finished = Stop()
        self._has_run = False

    async def run(self, intake: Intake) -> None:
        """Deliver until closed. Raises ConfigError, with paths relative to the feed, if none of the symbols exists."""
        self._reader = reader = TapReader(self.config, intake, self._earlier)
        recorder = reader.recorder
        backoff = Backoff(cap_s=60.0)
        try:
            while not self._stop.is_set():
                self._session = session = CcxtSession(self.config, reader, self._cache, self._takes, self._followed)
                try:
                    await self._run_session(session)
                finally:
                    recorder.closing = True
                    await session.close()
                    recorder.closing = self._stop.is_set()
                if not self._stop.is_set():
                    streaming = [stream for stream in reader.ledger.all_streams() if not _is_polled(stream)]
                    recorder.interrupted(streaming, DISCONNECT, "the exchange object was replaced")
                    await self._stop.sleep(backoff.next_s())
        finally:
            reader.ledger.end()
            self._finished.set()

    async def close(self) -> None:
        """Stop, and return once no more records are handed over."""
        self._stop.set()
        if self._reader is None:
            return
        self._reader.recorder.closing = True
        if self._session is not None:
            self._session.stop()
        await self._finished.wait()

    def status(self) -> FeedStatus:
        """The current counters and streams."""
        reader = self._reader
        if reader is None:
            return FeedStatus(label=self.config.label, problem="not started")
        streams: list[StreamStatus] = list(reader.ledger.all_streams())
        streams += [
            StreamStatus(channel, symbol, quarantined=reason)
            for symbol, reason in self._unknown.items()
            for channel in self.config.channels
        ]
        return replace(
            reader.ledger.counts,
            connected=reader.connected,
            problem=self._problem(),
            market_lists_missing=len(self._missing),
            symbols_refused=self._refused,
            streams=streams,
            wanted=self._symbols,
        )

    def markets(self) -> list[MarketInfo]:
        """All markets of the exchange; empty until they are loaded."""
        return self._markets

    @property
    def exchange(self) -> Any:
        """The ccxt exchange object; None until the feed runs."""
        return self._session.exchange if self._session is not None else None

    def set_symbols(self, symbols: Sequence[str]) -> None:
        """Follow these symbols or patterns from now on (a reload). Streams of remaining symbols are not interrupted."""
        self._symbols = list(symbols)
        if self._session is not None:
            self._session.choose_again()

    async def _run_session(self, session: CcxtSession) -> None:
        if not await session.markets.load():
            return
        if self._resolve().unknown and session.markets.are_old:
            await session.markets.load_again()
        markets = session.exchange.markets
        if not self._resolve().symbols:
            if markets and self._is_a_mistake(session.exchange):
                raise ConfigError(self._mistakes())
            # Maintenance, or the last symbol was delisted: not a configuration mistake.
            self._log_unknown()
            log.warning("no_symbol_listed", feed=self.config.label, markets=len(markets), retry_in_s=NOTHING_LISTED_S)
            await self._stop.sleep(NOTHING_LISTED_S)
            return
        self._has_run = True
        await session.run(self._choose)

    def _mistakes(self) -> list[Problem]:
        """The problem of each unknown symbol, with its path in the feed's configuration."""
        return [
            Problem(f"symbols[{number}]", self._unknown[symbol], repr(symbol))
            for number, symbol in enumerate(self._symbols)
            if symbol in self._unknown
        ]

    def _is_a_mistake(self, exchange: Any) -> bool:
        """Whether it is a configuration mistake that no symbol is listed. It is none while a list that may hold them
        could not be fetched, or while the exchange lists them in a form that cannot be read."""
        if self._has_run or self._stop.is_set() or self._missing or self._has_captured():
            return False
        return not any(name in exchange.aside for name in self._unknown)

    def _has_captured(self) -> bool:
        """Whether an earlier process followed one of the configured symbols, so that the configuration is right."""
        return any(
            exchange == self.config.exchange and symbol_names.names(self._symbols, symbol)
            for exchange, _, symbol in self._earlier
        )

    def _choose(self) -> Choice:
        """Choose the symbols to follow out of the listed ones and those followed already."""
        assert self._session is not None
        exchange = self._session.exchange
        markets = exchange.markets
        self._markets = [records.market_info(self.config.exchange, market) for market in markets.values()]
        resolution = self._resolve()
        self._log_unknown()
        kept = self._bounded([s for s in resolution.symbols if self._keep is None or self._keep(s)])
        self._followed = {symbol: markets[symbol] for symbol in kept}
        self._log_pointless([markets[symbol] for symbol in resolution.symbols])
        lacking = exchange.lacking.intersection(kept)
        choice = Choice(
            kept,
            markets,
            closed={symbol for symbol in kept if markets[symbol].get("active") is False} - lacking,
            lacking=lacking,
            incomplete=bool(lacking or resolution.unknown or self._missing),
            missing_since={s: since for s in kept if (since := self._unknown_since.pop(s, None)) is not None},
        )
        self._unknown_since = {name: self._unknown_since.get(name, now_us()) for name in self._unknown}
        if self._reader is not None:
            self._reader.ledger.set_units(markets, kept)
        if self._chosen is not None:
            self._chosen(choice)
        return choice

    def _bounded(self, symbols: list[str]) -> list[str]:
        """At most `max_symbols` of the symbols, in their order. Symbols that are configured by name come first, then
        those followed now or by an earlier process, then the others by name, so that each start chooses the same."""
        most = self.config.max_symbols
        refused, before = max(0, len(symbols) - most), self._refused
        self._refused = refused
        if not refused:
            return symbols
        named = set(self._symbols)
        earlier = {symbol for exchange, _, symbol in self._earlier if exchange == self.config.exchange}
        held = earlier.union(self._followed)
        ranked = sorted(symbols, key=lambda symbol: (symbol not in named, symbol not in held, symbol))
        if refused != before:
            log.error(
                "too_many_symbols",
                feed=self.config.label,
                match=len(symbols),
                max_symbols=most,
                refused=refused,
                such_as=ranked[most : most + 3],
                remedy="narrow the patterns, raise max_symbols, or share them with --shard",
            )
        taken = set(ranked[:most])
        return [symbol for symbol in symbols if symbol in taken]

    async def order_book(self, symbol: str, levels: int | None) -> Mapping[str, Any]:
        """Fetch the exchange's book over REST, queued with the feed's other requests. Raises FeedError."""
        session = self._session
        if session is None or not session.exchange.markets:
            raise FeedError("the markets are not loaded yet")
        return await session.order_book(symbol, levels)

    def _resolve(self) -> symbol_names.Resolution:
        assert self._session is not None
        exchange, now = self._session.exchange, now_us()
        over = {s for s in exchange.lacking if has_expired(s, exchange.markets[s], now)}
        markets = {symbol: market for symbol, market in exchange.markets.items() if symbol not in over}
        followed = [symbol for symbol, market in self._followed.items() if not has_expired(symbol, market, now)]
        resolution = symbol_names.resolve(self._symbols, markets, exchange.namesakes, followed)
        if self._refuses is not None:
            refused = {symbol: why for symbol in resolution.symbols if (why := self._refuses(markets[symbol]))}
            resolution.symbols = [symbol for symbol in resolution.symbols if symbol not in refused]
            resolution.unknown.update(refused)
        resolution.unknown.update(self._excuses(resolution.unknown))
        self._unknown = resolution.unknown
        return resolution

    def _excuses(self, unknown: Collection[str]) -> dict[str, str]:
        """The reasons why some unknown symbols may exist after all. Sets `_missing`."""
        assert self._session is not None
        exchange = self._session.exchange
        lacking = needed(self._symbols, unknown, exchange.missing)
        self._missing = {family: exchange.missing[family] for family in lacking}
        excuses: dict[str, str] = {}
        for name in unknown:
            if name in exchange.aside:
                excuses[name] = f"the venue lists it in a form that cannot be used: {exchange.aside[name]}"
                continue
            family = next((family for family in lacking if may_hold(family, name)), None)
            if family is not None:
                excuses[name] = _why_missing(family, self._missing[family])
        return excuses

    def _log_unknown(self) -> None:
        """Log newly unknown symbols and newly missing lists of markets."""
        assert self._session is not None
        for symbol in self._unknown.keys() - self._logged_unknown:
            log.warning("unknown_symbol", feed=self.config.label, symbol=symbol, reason=self._unknown[symbol])
        self._logged_unknown = frozenset(self._unknown)
        missing = self._session.exchange.missing
        for family in missing.keys() - self._logged_missing:
            said = log.warning if family in self._missing else log.debug
            said(
                "market_list_missing",
                feed=self.config.label,
                family=family.name,
                needed=family in self._missing,
                error=missing[family],
            )
        self._logged_missing = frozenset(missing)

    def _log_pointless(self, markets: Sequence[Mapping[str, Any]]) -> None:
        """Log configured channels that no symbol of the feed has, unless logged before."""
        before, channels = self._pointless, self.config.channels if markets else []
        self._pointless = [c for c in channels if not any(symbol_names.serves(c, market) for market in markets)]
        for channel in self._pointless:
            if channel not in before:
                log.warning(
                    "channel_of_no_symbol",
                    feed=self.config.label,
                    channel=channel,
                    because="only contracts have it, and funding only perpetual ones",
                    remedy="leave the channel out, or add such contracts to symbols",
                )

    def _problem(self) -> str | None:
        reader = self._reader
        if reader is None or reader.ledger.counts.problem is not None:
            return reader.ledger.counts.problem if reader is not None else None
        if self._missing:
            return "; ".join(_why_missing(family, why) for family, why in self._missing.items())
        if self._refused:
            said = f"{self._refused} markets that match are not followed: max_symbols is {self.config.max_symbols}"
            return f"{said}; raise it, or narrow the patterns"
        streaming = any(not _is_polled(stream) for stream in reader.ledger.all_streams())
        if streaming and not reader.connected:
            return "no socket is connected"
        problem = self._session.subscriptions.problem() if self._session is not None else None
        if problem is None and self._pointless:
            return f"none of its symbols has {' or '.join(self._pointless)}, so nothing is captured of that"
        return problem


def _why_missing(family: Family, why: str) -> str:
    return f"the venue's list of {family.name} markets cannot be had, and is asked for again: {why}"


def _is_polled(stream: StreamStatus) -> bool:
    polled: tuple[Channel, ...] = ("open_interest", "funding")
    return stream.channel in polled
