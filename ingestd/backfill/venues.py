"""The venues backfill asks: which feed a stream belongs to, one opened history each, and the pauses they asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.config.models import FeedConfig
from ingestd.errors import RateLimited
from ingestd.feeds.ccxt.history import CHANNELS, CcxtHistory
from ingestd.feeds.markets import symbols as symbol_names
from ingestd.retry import Backoff
from ingestd.storage import gap_filling
from ingestd.storage.database import Database

log = structlog.get_logger()

_PAUSE_S = 60.0  # where the venue names no time
_MORE_PAUSE_CAP_S = 600.0
_RELIST_S = 3600.0  # a new listing may match by then
_RELIST_SOON_S = 60.0  # where the list lacks what is configured


class Venue:
    """One feed's venue. `history` is opened at the first use; `symbols` are the feed's, as of the last reload."""

    def __init__(self, feed: FeedConfig, rate_share: float) -> None:
        self.feed = feed
        self.symbols = list(feed.symbols)
        self._listed_s = 0.0
        self._rate_share = rate_share
        self._history: CcxtHistory | None = None
        self._refusals = Backoff(base_s=1.0, cap_s=_MORE_PAUSE_CAP_S)
        self._failures = Backoff(base_s=1.0, cap_s=60.0)
        self._not_before_s = 0.0

    @property
    def exchange(self) -> str:
        return self.feed.exchange

    async def history(self, lacks: str | None = None) -> CcxtHistory:
        """`lacks`: a configured symbol that the list of markets seems to lack. Raises FeedError when the markets cannot
        be loaded."""
        if self._history is None:
            history = CcxtHistory(self.feed, rate_share=self._rate_share)
            try:
                await history.open()
            except BaseException:
                await history.close()
                raise
            self._history, self._listed_s = history, monotonic_s()
        elif monotonic_s() - self._listed_s > (_RELIST_S if lacks is None else _RELIST_SOON_S):
            await self._history.open()
            self._listed_s = monotonic_s()
        self._history.wanted = self.symbols
        return self._history

    async def close(self) -> None:
        history, self._history = self._history, None
        if history is not None:
            await history.close()

    async def is_paused(self, db: Database) -> bool:
        """Whether it failed just now, or asked to be left alone: in this process or another, also before a restart."""
        return monotonic_s() < self._not_before_s or await gap_filling.paused_until_us(db, self.exchange) > 0

    async def refused(self, db: Database, error: RateLimited) -> None:
        """Leave the venue alone as long as it asks for, and longer each time it asks again."""
        pause_s = self._refusals.next_s(error.retry_after_s or _PAUSE_S)
        log.warning("venue_pauses_backfill", exchange=self.exchange, pause_s=round(pause_s), error=str(error)[:200])
        await gap_filling.pause_venue(db, self.exchange, now_us() + int(pause_s * 1e6), str(error))

    def failed(self) -> None:
        """It does not answer, or not what was asked for."""
        self._not_before_s = monotonic_s() + self._failures.next_s()

    def answered(self) -> None:
        """It serves again."""
        self._refusals.settled()
        self._failures.settled()


class Venues:
    """One for each feed that has something with a past."""

    def __init__(self, feeds: Sequence[FeedConfig], rate_share: float, holds: Callable[[str, str], bool]) -> None:
        """`holds` says which (exchange, symbol) this process follows."""
        self.all = [Venue(feed, rate_share) for feed in feeds if set(feed.channels) & set(CHANNELS)]
        self._holds = holds

    def of(self, exchange: str, channel: str) -> list[Venue]:
        """The feeds that stream this channel of this exchange."""
        return [venue for venue in self.all if venue.exchange == exchange and channel in venue.feed.channels]

    async def following(self, exchange: str, channel: str, symbol: str) -> list[Venue]:
        """The feeds whose configuration names this stream, if it is this process's: of candles there may be several,
        each of another timeframe, and a gap of them does not say of which. Raises FeedError."""
        if not self._holds(exchange, symbol):
            return []
        found = []
        for venue in self.of(exchange, channel):
            history = await venue.history()
            if symbol not in history.symbols() and symbol_names.names(venue.symbols, symbol):
                history = await venue.history(lacks=symbol)
            if symbol in history.symbols():
                found.append(venue)
        return found

    async def close(self) -> None:
        for venue in self.all:
            await venue.close()
