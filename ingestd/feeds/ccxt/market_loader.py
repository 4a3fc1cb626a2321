"""Loads and reloads the markets of a ccxt exchange object, and caches them on disk for the next start."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain
from typing import Any

import structlog

from ingestd.clock import now_us
from ingestd.errors import RateLimited
from ingestd.feeds.ccxt.ccxt_errors import translated
from ingestd.feeds.markets.cache import MarketCache
from ingestd.feeds.markets.listing import is_poor
from ingestd.feeds.stopping import Stop, failure_of
from ingestd.retry import Backoff
from ingestd.status import FeedStatus

log = structlog.get_logger()

RETRY_CAP_S = 60.0
_NAMED = 10  # most markets named in one log line


@dataclass
class MarketLoader:
    """Loads markets; `status.problem` says why that fails. `are_old`: the markets come from the cache of an earlier
    start."""

    exchange: Any
    status: FeedStatus
    cache: MarketCache | None
    stop: Stop
    are_old: bool = False
    _logged_malformed: frozenset[str] = frozenset()

    async def load(self) -> bool:
        """Load the markets from the cache, or from the exchange with retries; False if the stop came first."""
        if self.cache is not None and (kept := self.cache.read()) is not None:
            self.exchange.set_markets(kept)
            self.exchange.missing = dict(self.cache.missing)
            self.are_old = True
            return True
        backoff = Backoff(cap_s=RETRY_CAP_S)
        while not self.stop.is_set():
            task = await self.stop.run(self.exchange.load_markets(), name=f"{self.status.label} markets")
            if self.stop.is_set():
                break
            raised = failure_of(task)
            if raised is None:
                self.status.problem = None
                if backoff.attempts:
                    log.info("markets_loaded", feed=self.status.label, after_attempts=backoff.attempts)
                await self._keep_markets(())
                return True
            error = translated(raised)
            self.status.problem = f"its markets cannot be loaded: {error}"[:300]
            delay_s = backoff.next_s(error.pause_s if isinstance(error, RateLimited) else 0.0)
            if backoff.is_logged(error):
                retry = {"attempts": backoff.attempts, "retry_in_s": round(delay_s, 1)}
                log.warning("markets_not_loaded", feed=self.status.label, error=str(error)[:300], **retry)
            await self.stop.sleep(delay_s)
        return False

    async def load_again(self) -> bool:
        """Reload the markets once; False, and the old markets stay, if that fails."""
        known = frozenset(self.exchange.markets or ())
        task = await self.stop.run(self.exchange.load_markets(True), name=f"{self.status.label} markets")
        if (raised := failure_of(task)) is not None:
            log.warning("markets_not_reloaded", feed=self.status.label, error=str(translated(raised))[:300])
            return False
        await self._keep_markets(known)
        return True

    def _log_malformed(self) -> None:
        """Log malformed markets that were not logged before."""
        left_out: dict[str, str] = self.exchange.left_out
        self.status.markets_put_aside = len(left_out)
        new = [name for name in left_out if name not in self._logged_malformed]
        self._logged_malformed = frozenset(left_out)
        if new:
            named = {name: left_out[name] for name in new[:_NAMED]}
            log.warning("markets_put_aside", feed=self.status.label, markets=len(new), in_all=len(left_out), why=named)

    async def _keep_markets(self, known: Collection[str]) -> None:
        """Write the markets to the cache, in a thread: they take megabytes, and the disk may hang. Skips a list that
        lacks a followed market or many known ones: these may still be trading."""
        self._log_malformed()
        if is_poor(known, self.exchange.listed, self.exchange.followed):
            lacks = sorted({*known, *self.exchange.followed}.difference(self.exchange.listed))
            log.warning("markets_list_poor", feed=self.status.label, lacks=len(lacks), of=len(known), some=lacks[:3])
        elif self.cache is not None:
            listed = [*self.exchange.markets.values(), *chain.from_iterable(self.exchange.namesakes.values())]
            missing = tuple(self.exchange.missing.items())
            await self.stop.run(asyncio.to_thread(self.cache.write, listed, missing))

    def age_s(self) -> float:
        """Seconds since the exchange listed the markets, also for cached ones; 0 if unknown."""
        loaded_at = self.cache.loaded_at if self.cache is not None else 0
        return max(0, now_us() - loaded_at) / 1e6 if loaded_at else 0.0
