"""A feed that decodes an exchange's messages natively, and uses ccxt for what the decoder does not support."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Intake
from ingestd.feeds.ccxt.feed import CcxtFeed
from ingestd.feeds.ccxt.newest import Newest
from ingestd.feeds.markets.cache import MarketCache
from ingestd.feeds.markets.listing import Choice
from ingestd.feeds.markets.symbols import kind_of
from ingestd.feeds.native.message_reader import MessageReader
from ingestd.feeds.native.session import NativeSession
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import EarlierStreams
from ingestd.records import Channel
from ingestd.status import FeedStatus, MarketInfo, StreamStatus
from ingestd.venues.venue import Venue


class NativeFeed:
    """A `Feed` with native sockets. Call `run` once and `close` once.

    An inner ccxt feed loads the markets, chooses the symbols, captures the other channels and kinds of market, and
    fetches books over REST. It is a single object, so that all requests share the exchange's budget. `state_dir`:
    where to store the markets for the next start, None for nowhere. `keep`: whether a symbol belongs to this shard.
    """

    def __init__(
        self,
        config: FeedConfig,
        venue: Venue,
        *,
        state_dir: Path | None = None,
        keep: Callable[[str], bool] | None = None,
        earlier: EarlierStreams | None = None,
    ) -> None:
        self.config = config
        self._venue = venue
        self._earlier = earlier = {} if earlier is None else earlier
        self._stop = Stop()
        self.reader: MessageReader | None = None
        self._session: NativeSession | None = None
        self._finished = Stop()
        self._inner = CcxtFeed(
            config,
            keep=keep,
            takes=self._is_left_to_ccxt,
            refuses=self._why_refused if config.decoder == "native" else None,
            earlier=earlier,
            cache=MarketCache(state_dir, config) if state_dir is not None else None,
            chosen=self._chosen,
        )

    async def run(self, intake: Intake) -> None:
        """Deliver until closed. Raises ConfigError if none of the symbols exists."""
        self.reader = reader = MessageReader(self.config, self._venue, intake, self._earlier)
        newest = Newest(self.config, lambda: self._inner.exchange)
        self._session = session = NativeSession(self.config, self._venue, reader, self._inner.order_book, newest)
        streaming = asyncio.create_task(session.run(self._stop), name=f"{self.config.label} sockets")
        resting = asyncio.create_task(self._inner.run(intake), name=f"{self.config.label} rest")
        try:
            await asyncio.wait({streaming, resting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reader.recorder.closing = True
            self._stop.set()
            await self._inner.close()
            await asyncio.wait({streaming, resting})
            reader.ledger.end()
            self._finished.set()
        for task in (resting, streaming):
            task.result()

    async def close(self) -> None:
        self._stop.set()
        if self.reader is not None:
            self.reader.recorder.closing = True
            await self._finished.wait()

    def status(self) -> FeedStatus:
        inner, reader, session = self._inner.status(), self.reader, self._session
        if reader is None or session is None:
            return inner
        own = list(reader.ledger.all_streams())
        streams: list[StreamStatus] = [*own, *inner.streams]
        problem = inner.problem or ("no socket is connected" if own and not session.connected else None)
        connected, counts = session.connected or inner.connected, _sum(reader.ledger.counts, inner)
        return replace(counts, connected=connected, problem=problem, streams=streams, wanted=inner.wanted)

    def markets(self) -> Sequence[MarketInfo]:
        return self._inner.markets()

    def set_symbols(self, symbols: Sequence[str]) -> None:
        self._inner.set_symbols(symbols)

    def _is_left_to_ccxt(self, channel: Channel, market: Mapping[str, Any]) -> bool:
        return channel not in self._venue.channels or kind_of(market) not in self._venue.markets

    def _why_refused(self, market: Mapping[str, Any]) -> str | None:
        if (kind := kind_of(market)) in self._venue.markets:
            return None
        return f'there is no native decoder for {kind} markets of {self.config.exchange}: decoder = "auto" takes ccxt'

    def _chosen(self, choice: Choice) -> None:
        if self._session is not None and self.reader is not None:
            self.reader.ledger.set_units(choice.markets, choice.symbols)
            self._session.follow(choice)


def _sum(one: FeedStatus, other: FeedStatus) -> FeedStatus:
    """The first status with the sums of all counts."""
    counts = [field.name for field in fields(FeedStatus) if isinstance(getattr(one, field.name), (int, Counter))]
    sums: dict[str, Any] = {name: getattr(one, name) + getattr(other, name) for name in counts}
    return replace(one, **sums)
