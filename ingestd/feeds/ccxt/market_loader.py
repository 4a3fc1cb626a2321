"""Loads and reloads the markets of a ccxt exchange object, and caches them on disk for the next start."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import chain
from typing import Any

import structlog

from ingestd.clock import now_us
from ingestd.errors import FeedError, RateLimited
from ingestd.feeds.ccxt.tap import translated
from ingestd.feeds.markets.cache import MarketCache
from ingestd.feeds.markets.listing import is_poor
from ingestd.feeds.stopping import Stop
from ingestd.retry import Backoff
from ingestd.status import FeedStatus

log = structlog.get_logger()

RETRY_CAP_S = 60.0
_NAMED = 10  # most markets named in one log line


class MarketLoader:
    """Loads markets; `status.problem` says why that fails. `are_old`: the markets come from the cache of an earlier
    start."""

    def __init__(self, exchange: Any, status: FeedStatus, cache: MarketCache | None, stop: Stop) -> None:
        self._exchange = exchange
        self._status = status
        self._label = status.label
        self._cache = cache
        self._stop = stop
        self.are_old = False
        self._logged_malformed: frozenset[str] = frozenset()

    async def load(self) -> bool:
        """Load the markets from the cache, or from the exchange with retries; False if the stop came first."""
        if self._cache is not None and (kept := self._cache.read()) is not None:
            self._exchange.set_markets(kept)
            self._exchange.missing = dict(self._cache.missing)
            self.are_old = True
            return True
        backoff = Backoff(cap_s=RETRY_CAP_S)
        while not self._stop.is_set():
            task = await self._stop.run(self._exchange.load_markets(), name=f"{self._label} markets")
            if self._stop.is_set():
                break
            raised = None if task.cancelled() else task.exception()
            if not task.cancelled() and raised is None:
                self._status.problem = None
                if backoff.attempts:
                    log.info("markets_loaded", feed=self._label, after_attempts=backoff.attempts)
                await self._keep_markets(())
                return True
            error = translated(raised) if raised is not None else FeedError("cancelled by the exchange library")
            self._status.problem = f"its markets cannot be loaded: {error}"[:300]
            at_least_s = error.pause_s if isinstance(error, RateLimited) else 0.0
            delay_s = backoff.next_s(at_least_s)
            if backoff.is_logged(error):
                log.warning(
                    "markets_not_loaded",
                    feed=self._label,
                    error=str(error)[:300],
                    attempts=backoff.attempts,
                    retry_in_s=round(delay_s, 1),
                )
            await self._stop.sleep(delay_s)
        return False

    async def load_again(self) -> bool:
        """Reload the markets once; False, and the old markets stay, if that fails."""
        known = frozenset(self._exchange.markets or ())
        task = await self._stop.run(self._exchange.load_markets(True), name=f"{self._label} markets")
        raised = FeedError("cancelled by the exchange library") if task.cancelled() else task.exception()
        if raised is not None:
            log.warning("markets_not_reloaded", feed=self._label, error=str(translated(raised))[:300])
            return False
        await self._keep_markets(known)
        return True

    def _log_malformed(self) -> None:
        """Log malformed markets that were not logged before."""
        aside: dict[str, str] = self._exchange.aside
        self._status.markets_put_aside = len(aside)
        new = [name for name in aside if name not in self._logged_malformed]
        self._logged_malformed = frozenset(aside)
        if new:
            named = {name: aside[name] for name in new[:_NAMED]}
            log.warning("markets_put_aside", feed=self._label, markets=len(new), in_all=len(aside), why=named)

    async def _keep_markets(self, known: Collection[str]) -> None:
        """Write the markets to the cache, in a thread: they take megabytes, and the disk may hang. Skips a list that
        lacks many known markets: those may still be trading."""
        self._log_malformed()
        if is_poor(known, self._exchange.listed, self._exchange.followed):
            lacks = sorted({*known, *self._exchange.followed}.difference(self._exchange.listed))
            log.warning("markets_list_poor", feed=self._label, lacks=len(lacks), of=len(known), some=lacks[:3])
        elif self._cache is not None:
            listed = [*self._exchange.markets.values(), *chain.from_iterable(self._exchange.namesakes.values())]
            missing = tuple(self._exchange.missing.items())
            await self._stop.run(asyncio.to_thread(self._cache.write, listed, missing))

    def age_s(self) -> float:
        """Seconds since the exchange listed the markets, also for cached ones; 0 if unknown."""
        loaded_at = self._cache.loaded_at if self._cache is not None else 0
        return max(0, now_us() - loaded_at) / 1e6 if loaded_at else 0.0
