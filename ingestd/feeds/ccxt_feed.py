"""Any of ccxt.pro's exchanges as a feed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from ingestd.backoff import Backoff
from ingestd.clock import now_us
from ingestd.config import FeedConfig
from ingestd.errors import ConfigError, FeedError, Problem
from ingestd.feeds import ccxt_records
from ingestd.feeds import symbols as symbol_names
from ingestd.feeds.base import Earlier, FeedStatus, Intake, MarketInfo, StreamStatus
from ingestd.feeds.ccxt_recorder import Recorder
from ingestd.feeds.ccxt_session import CcxtSession
from ingestd.feeds.ccxt_tap import translated
from ingestd.feeds.listing import Choice, has_expired
from ingestd.feeds.market_cache import MarketCache
from ingestd.feeds.stopping import Stop
from ingestd.gap_causes import DISCONNECT
from ingestd.records import Channel, StreamId

log = structlog.get_logger()

_NOTHING_LISTED_S = 15.0


def _everything(_channel: Channel, _market: Mapping[str, Any]) -> bool:
    return True


class CcxtFeed:
    """`Feed` over ccxt. `run` once, `close` once; `keep` says which of the configured symbols are this shard's,
    `earlier` what an earlier process left of the streams (each is taken out as it is followed).

    `cache` keeps the markets for the next start; `chosen` is told which symbols are followed, each time that is
    decided. What is followed stays so while the configuration names it, whatever a list of markets says (`listing`).
    `takes` says which of their streams are this feed's; `refuses` why a market is to be put aside.
    """

    def __init__(
        self,
        config: FeedConfig,
        *,
        keep: Callable[[str], bool] | None = None,
        earlier: MutableMapping[StreamId, Earlier] | None = None,
        cache: MarketCache | None = None,
        chosen: Callable[[Choice], None] | None = None,
        takes: Callable[[Channel, Mapping[str, Any]], bool] = _everything,
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
        self._recorder: Recorder | None = None
        self._session: CcxtSession | None = None
        self._markets: list[MarketInfo] = []
        self._unknown: dict[str, str] = {}
        self._unknown_since: dict[str, int] = {}
        self._followed: dict[str, Mapping[str, Any]] = {}  # their last known markets
        self._symbols: list[str] = list(config.symbols)
        self._finished = Stop()
        self._has_run = False

    async def run(self, intake: Intake) -> None:
        """Deliver until closed. Raises ConfigError when none of the symbols exists."""
        self._recorder = recorder = Recorder(self.config, intake, self._earlier)
        backoff = Backoff(cap_s=60.0)
        try:
            while not self._stop.is_set():
                self._session = session = CcxtSession(self.config, recorder, self._cache, self._takes, self._followed)
                try:
                    await self._run_session(session)
                finally:
                    recorder.closing = True
                    await session.close()
                    recorder.closing = self._stop.is_set()
                if not self._stop.is_set():
                    streaming = [stream for stream in recorder.all_streams() if not _is_polled(stream)]
                    recorder.interrupted(streaming, DISCONNECT, "the exchange object was replaced")
                    await self._stop.sleep(backoff.next_s())
        finally:
            recorder.end()
            self._finished.set()

    async def close(self) -> None:
        """Stop and wait until nothing more is handed over."""
        self._stop.set()
        if self._recorder is None:
            return
        self._recorder.closing = True
        if self._session is not None:
            self._session.stop()
        await self._finished.wait()

    def status(self) -> FeedStatus:
        """Counts and streams as they are now."""
        recorder = self._recorder
        if recorder is None:
            return FeedStatus(label=self.config.label, problem="not started")
        streams: list[StreamStatus] = list(recorder.all_streams())
        streams += [
            StreamStatus(channel, symbol, quarantined=reason)
            for symbol, reason in self._unknown.items()
            for channel in self.config.channels
        ]
        return replace(
            recorder.counts,
            connected=recorder.connected,
            problem=self._problem(),
            streams=streams,
            wanted=self._symbols,
        )

    def markets(self) -> list[MarketInfo]:
        """Every market of the venue; empty until they are loaded."""
        return self._markets

    @property
    def exchange(self) -> Any:
        """The exchange library's object; None until the feed runs."""
        return self._session.exchange if self._session is not None else None

    @property
    def unknown(self) -> Mapping[str, str]:
        """Why each of these configured symbols cannot be had."""
        return self._unknown

    def set_symbols(self, symbols: Sequence[str]) -> None:
        """Follow these names or globs from now on (a reload); what stays is not interrupted."""
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
            if markets and not self._has_run and not self._has_captured() and not self._stop.is_set():
                path = f"feeds[{self.config.exchange}].symbols"
                raise ConfigError([Problem(path, reason, symbol) for symbol, reason in self._unknown.items()])
            # Maintenance, or the last symbol delisted: neither is a mistake of the configuration.
            log.warning("no_symbol_listed", feed=self.config.label, markets=len(markets), again_in_s=_NOTHING_LISTED_S)
            await self._stop.sleep(_NOTHING_LISTED_S)
            return
        self._has_run = True
        await session.run(self._choose)

    def _has_captured(self) -> bool:
        """Whether an earlier process followed something of what is configured: then it is no mistake."""
        return any(
            exchange == self.config.exchange and symbol_names.names(self._symbols, symbol)
            for exchange, _, symbol in self._earlier
        )

    def _choose(self) -> Choice:
        """The symbols to follow: of those the venue lists, and those that are followed already."""
        assert self._session is not None
        exchange = self._session.exchange
        markets = exchange.markets
        self._markets = [ccxt_records.market_info(self.config.exchange, market) for market in markets.values()]
        resolution = self._resolve()
        kept = [symbol for symbol in resolution.symbols if self._keep is None or self._keep(symbol)]
        self._followed = {symbol: markets[symbol] for symbol in kept}
        lacking = exchange.lacking.intersection(kept)
        choice = Choice(
            kept,
            markets,
            closed={symbol for symbol in kept if markets[symbol].get("active") is False} - lacking,
            lacking=lacking,
            incomplete=bool(lacking or resolution.unknown),
            missing_since={s: since for s in kept if (since := self._unknown_since.pop(s, None)) is not None},
        )
        self._unknown_since = {name: self._unknown_since.get(name, now_us()) for name in self._unknown}
        if self._recorder is not None:
            self._recorder.set_units(markets, kept)
        if self._chosen is not None:
            self._chosen(choice)
        return choice

    async def order_book(self, symbol: str, levels: int | None) -> Mapping[str, Any]:
        """The venue's own book over REST, in its turn among the feed's other requests. Raises FeedError."""
        session = self._session
        if session is None or not session.exchange.markets:
            raise FeedError("the exchange object is not there yet")
        try:
            book: Mapping[str, Any] = await session.exchange.fetch_order_book(symbol, levels)
        except Exception as error:  # the venue's code may raise anything; here it becomes one of ours
            raise translated(error) from error
        return book

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
        for symbol in resolution.unknown.keys() - self._unknown.keys():
            log.warning("unknown_symbol", feed=self.config.label, symbol=symbol, reason=resolution.unknown[symbol])
        self._unknown = resolution.unknown
        return resolution

    def _problem(self) -> str | None:
        recorder = self._recorder
        if recorder is None or recorder.counts.problem is not None:
            return recorder.counts.problem if recorder is not None else None
        streaming = any(not _is_polled(stream) for stream in recorder.all_streams())
        if streaming and not recorder.connected:
            return "no socket is connected"
        return self._session.problem() if self._session is not None else None


def _is_polled(stream: StreamStatus) -> bool:
    polled: tuple[Channel, ...] = ("open_interest", "funding")
    return stream.channel in polled
