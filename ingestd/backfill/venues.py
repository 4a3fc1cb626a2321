"""The venues that backfill asks: a history client for each feed, its streams, and the pauses it must keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from ingestd.channels import SERVED
from ingestd.clock import monotonic_s, now_us
from ingestd.config.models import FeedConfig
from ingestd.errors import RateLimited
from ingestd.feeds.ccxt.history import CcxtHistory
from ingestd.feeds.markets import symbols as symbol_names
from ingestd.retry import Backoff
from ingestd.storage import gap_filling
from ingestd.storage.database import Database

log = structlog.get_logger()

_PAUSE_S = 60.0  # if the venue names no time
_MORE_PAUSE_CAP_S = 600.0
_RELIST_S = 3600.0  # reload markets, as a new listing may match
_RELIST_SOON_S = 60.0  # reload markets while a configured symbol is missing


class Venue:
    """The venue of one feed. `history` is opened at first use; `symbols` are the feed's, as of the last reload."""

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
        """The client for the venue's past. `lacks`: a configured symbol missing in the list of markets. Raises
        FeedError when the markets cannot be loaded."""
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
        """Whether the venue failed in this process a moment ago, or has asked any process for a pause that lasts."""
        return monotonic_s() < self._not_before_s or await gap_filling.paused_until_us(db, self.exchange) > 0

    async def refused(self, db: Database, error: RateLimited) -> None:
        """Pause as long as the venue asks for, and longer each time it asks again."""
        pause_s = self._refusals.next_s(error.retry_after_s or _PAUSE_S)
        log.warning("venue_pauses_backfill", exchange=self.exchange, pause_s=round(pause_s), error=str(error)[:200])
        await gap_filling.pause_venue(db, self.exchange, now_us() + int(pause_s * 1e6), str(error))

    def failed(self) -> None:
        """Note a failed call, and delay the next one."""
        self._not_before_s = monotonic_s() + self._failures.next_s()

    def answered(self) -> None:
        """Note a successful call, which resets the delays."""
        self._refusals.settled()
        self._failures.settled()


class Venues:
    """The venues of all feeds with a channel that can be backfilled."""

    def __init__(self, feeds: Sequence[FeedConfig], rate_share: float, holds: Callable[[str, str], bool]) -> None:
        """`holds` says which (exchange, symbol) this process follows."""
        self.all = [Venue(feed, rate_share) for feed in feeds if set(feed.channels) & set(SERVED)]
        self._holds = holds

    def of(self, exchange: str, channel: str) -> list[Venue]:
        """The feeds that stream this channel of this exchange."""
        return [venue for venue in self.all if venue.exchange == exchange and channel in venue.feed.channels]

    async def following(self, exchange: str, channel: str, symbol: str) -> list[Venue]:
        """The venues of feeds whose configuration names this stream, if this process follows it. For candles there may
        be several, one for each timeframe, and a gap does not name its timeframe. Raises FeedError."""
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
