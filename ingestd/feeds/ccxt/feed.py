"""A feed for any exchange of ccxt.pro."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from ingestd.config.models import FeedConfig
from ingestd.errors import ConfigError, FeedError
from ingestd.feeds.base import Intake
from ingestd.feeds.ccxt import records
from ingestd.feeds.ccxt.session import CcxtSession, take_all
from ingestd.feeds.ccxt.symbol_choice import SymbolChoice
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.feeds.markets.cache import MarketCache
from ingestd.feeds.markets.listing import Choice
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import EarlierStreams
from ingestd.gaps.causes import DISCONNECT
from ingestd.records import Channel
from ingestd.retry import Backoff
from ingestd.status import FeedStatus, MarketInfo, StreamStatus

log = structlog.get_logger()

NOTHING_LISTED_S = 15.0
_POLLED = frozenset({"open_interest", "funding"})  # channels that some exchanges deliver over REST


class CcxtFeed:
    """A `Feed` that uses ccxt. Call `run` once and `close` once.

    `keep`: whether a symbol belongs to this shard. `cache`: stores the markets for the next start. `chosen`: called
    with every new choice of symbols. `takes`: whether this feed captures a stream. `refuses`: the reason not to follow
    a market, or None.
    """

    def __init__(
        self,
        config: FeedConfig,
        *,
        keep: Callable[[str], bool] | None = None,
        earlier: EarlierStreams | None = None,
        cache: MarketCache | None = None,
        chosen: Callable[[Choice], None] | None = None,
        takes: Callable[[Channel, Mapping[str, Any]], bool] = take_all,
        refuses: Callable[[Mapping[str, Any]], str | None] | None = None,
    ) -> None:
        self.config = config
        self._cache = cache
        self._chosen = chosen
        self._takes = takes
        self._earlier: EarlierStreams = {} if earlier is None else earlier
        self._choice = SymbolChoice(config, keep, refuses, self._earlier)
        self._stop = Stop()
        self._finished = Stop()
        self._reader: TapReader | None = None
        self._session: CcxtSession | None = None
        self._markets: list[MarketInfo] = []
        self._has_run = False

    async def run(self, intake: Intake) -> None:
        """Deliver until closed. Raises ConfigError, with paths relative to the feed, if none of the symbols exists."""
        self._reader = reader = TapReader(self.config, intake, self._earlier)
        recorder = reader.recorder
        backoff = Backoff(cap_s=60.0)
        try:
            while not self._stop.is_set():
                followed = self._choice.followed
                self._session = session = CcxtSession(self.config, reader, self._cache, self._takes, followed)
                try:
                    await self._run_session(session, reader)
                finally:
                    recorder.closing = True
                    await session.close()
                    recorder.closing = self._stop.is_set()
                if not self._stop.is_set():
                    streaming = [stream for stream in reader.ledger.all_streams() if stream.channel not in _POLLED]
                    recorder.interrupted(streaming, DISCONNECT, "the exchange object was replaced")
                    await self._stop.sleep(backoff.next_s())
        finally:
            reader.ledger.end()
            self._finished.set()

    async def close(self) -> None:
        self._stop.set()
        if self._reader is None:
            return
        self._reader.recorder.closing = True
        if self._session is not None:
            self._session.stop()
        await self._finished.wait()

    def status(self) -> FeedStatus:
        reader = self._reader
        if reader is None:
            return FeedStatus(label=self.config.label, problem="not started")
        streams: list[StreamStatus] = list(reader.ledger.all_streams())
        streams += [
            StreamStatus(channel, symbol, quarantined=reason)
            for symbol, reason in self._choice.unknown.items()
            for channel in self.config.channels
        ]
        return replace(
            reader.ledger.counts,
            connected=reader.connected,
            problem=self._problem(reader),
            market_lists_missing=len(self._choice.missing),
            symbols_refused=self._choice.refused,
            streams=streams,
            wanted=self._choice.wanted,
        )

    def markets(self) -> list[MarketInfo]:
        return self._markets

    @property
    def exchange(self) -> Any:
        """The ccxt exchange object; None until the feed runs."""
        return self._session.exchange if self._session is not None else None

    def set_symbols(self, symbols: Sequence[str]) -> None:
        self._choice.wanted = list(symbols)
        if self._session is not None:
            self._session.choose_again()

    async def order_book(self, symbol: str, levels: int | None) -> Mapping[str, Any]:
        """As `AuditedBooks.order_book`, queued with the feed's other requests."""
        session = self._session
        if session is None or not session.exchange.markets:
            raise FeedError("the markets are not loaded yet")
        return await session.order_book(symbol, levels)

    async def _run_session(self, session: CcxtSession, reader: TapReader) -> None:
        if not await session.markets.load():
            return
        exchange, choice = session.exchange, self._choice
        if choice.resolve(exchange).unknown and session.markets.are_old:
            await session.markets.load_again()
        markets = exchange.markets
        if not choice.resolve(exchange).symbols:
            is_first = not self._has_run and not self._stop.is_set()
            if markets and is_first and not choice.may_be_right(exchange):
                raise ConfigError(choice.mistakes())
            # Maintenance, or the last symbol was delisted: not a configuration mistake.
            choice.log_unknown(exchange)
            log.warning("no_symbol_listed", feed=self.config.label, markets=len(markets), retry_in_s=NOTHING_LISTED_S)
            await self._stop.sleep(NOTHING_LISTED_S)
            return
        self._has_run = True
        await session.run(lambda: self._choose(exchange, reader))

    def _choose(self, exchange: Any, reader: TapReader) -> Choice:
        """Choose the symbols to follow from the newest list of markets, and tell who needs to know."""
        self._markets = [records.market_info(self.config.exchange, market) for market in exchange.markets.values()]
        choice = self._choice.choose(exchange)
        reader.ledger.set_units(choice.markets, choice.symbols)
        if self._chosen is not None:
            self._chosen(choice)
        return choice

    def _problem(self, reader: TapReader) -> str | None:
        problem = reader.ledger.counts.problem or self._choice.problem()
        if problem is not None:
            return problem
        streaming = any(stream.channel not in _POLLED for stream in reader.ledger.all_streams())
        if streaming and not reader.connected:
            return "no socket is connected"
        problem = self._session.subscriptions.problem() if self._session is not None else None
        if problem is None and self._choice.pointless:
            return f"none of its symbols has {' or '.join(self._choice.pointless)}, so nothing is captured of that"
        return problem
