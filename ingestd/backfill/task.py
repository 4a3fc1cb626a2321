"""The daemon's backfill: fills gaps in turns, newest first, and audits candles in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from ingestd.backfill.audit import Auditor
from ingestd.backfill.fill import Filler, Intake, together
from ingestd.backfill.venues import Venue, Venues
from ingestd.channels import SERVED
from ingestd.clock import from_datetime, iso_text, monotonic_s, now_us
from ingestd.config.models import Config, FeedConfig
from ingestd.errors import ChannelError, FeedError, IngestdError, NotYet, RateLimited, SymbolError, Unfillable, is_away
from ingestd.log_limit import LogLimit
from ingestd.ops.metrics import Metrics
from ingestd.retry import Backoff
from ingestd.storage import gap_filling
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.gap_filling import Gap
from ingestd.storage.migrate import check_schema
from ingestd.validation import TimeWindow, rejection_reason

log = structlog.get_logger()

_GAPS_PER_TURN = 100
_FAILED_TURNS_SHOWN = 3  # consecutive; one may be a short outage of the database
_REST_LATE_US = 300_000_000  # how far what a venue serves of the past may lag behind its stream
_POSTPONED_AT_MOST = 10_000
_REFRESH_S = 120.0  # time limit of one database call: refreshing an aggregate over a long window


class Backfill:
    """Fills the gaps of this daemon's streams. Failed attempts are repeated later; capture never waits for them."""

    def __init__(
        self,
        config: Config,
        access: DatabaseAccess,
        intake: Intake,
        time_window: Callable[[int], TimeWindow],
        metrics: Metrics,
        holds: Callable[[str, str], bool],
    ) -> None:
        self._config = config.backfill
        self._access = access
        self._intake = intake
        self._time_window = time_window
        self._metrics = metrics
        self._venues = Venues(config.feeds, config.backfill.rate_share, holds)
        self._auditor = Auditor(config.backfill, metrics, holds)
        self._database: Database | None = None
        self._postponed: dict[int, tuple[float, Backoff]] = {}  # by gap id: monotonic time of the next attempt, delays
        self._rows_before: dict[int, int] = {}  # by gap id: rows other than trades recovered by earlier attempts
        self._failed_turns = 0
        self._log_limit = LogLimit()
        self.problem: str | None = None  # why consecutive turns fail, as a sentence; None if they do not
        self._audit_due_s = monotonic_s() + config.backfill.audit_interval_s

    async def run(self) -> None:
        """Run turns until cancelled."""
        try:
            while True:
                await self.turn()
                await asyncio.sleep(self._config.interval_s)
        finally:
            self._disconnect()
            await self._venues.close()

    def set_symbols(self, feed: FeedConfig, symbols: Sequence[str]) -> None:
        """Set the names or globs that this feed follows, after a reload."""
        for venue in self._venues.all:
            if venue.feed is feed:
                venue.symbols = list(symbols)

    async def turn(self) -> None:
        """Fill gaps that are due, newest first, at most `_GAPS_PER_TURN`; then run the audit if it is due."""
        try:
            database = await self._connected()
            for _ in range(_GAPS_PER_TURN):
                gap = await self._newest_due(database)
                if gap is None:
                    break
                await self._attempt(database, gap)
            if self._config.audit_interval_s and monotonic_s() >= self._audit_due_s:
                self._audit_due_s = monotonic_s() + self._config.audit_interval_s
                await self._audit(database)
        except Exception as error:  # noqa: BLE001 # capture goes on whatever backfill meets; it is counted
            known = isinstance(error, (IngestdError, OSError, TimeoutError))
            self._metrics.backfill_failures.labels("", type(error).__name__).inc()
            self._failed_turns += 1
            # The sink reports that the database is away, so backfill does not.
            if is_away(error):
                self.problem = None
            elif self._failed_turns >= _FAILED_TURNS_SHOWN:
                self.problem = f"Backfill and audit fail, {self._failed_turns} turns in a row: {error}"[:400]
            if self._log_limit.allows(str(error)):
                report = log.debug if is_away(error) else log.warning
                report(
                    "backfill_failed",
                    error=str(error)[:300],
                    exc_info=None if known else error,
                    retry_in_s=self._config.interval_s,
                )
            self._disconnect()
        else:
            if self._failed_turns:
                self._log_limit.clear()
            self._failed_turns = 0
            self.problem = None

    async def _newest_due(self, database: Database) -> Gap | None:
        now = monotonic_s()
        waiting = [gap_id for gap_id, (not_before_s, _) in self._postponed.items() if not_before_s > now]
        exchanges = {venue.exchange for venue in self._venues.all if not await venue.is_paused(database)}
        gaps = await gap_filling.due_gaps(database, exchanges, SERVED, but=waiting, limit=1)
        return gaps[0] if gaps else None

    async def _attempt(self, database: Database, gap: Gap) -> None:
        following: list[Venue] = []
        try:
            following = await self._venues.following(gap.exchange, gap.channel, gap.symbol)
            if not following:
                self._postpone(gap, "no feed here follows this stream: another daemon may fill it", at_least_s=600.0)
                return
            filler = Filler(database, self._intake, self._accepts)
            filled = together(
                [await filler.fill(gap, await venue.history(), venue.feed.candle_timeframe) for venue in following]
            )
        except (Unfillable, ChannelError, SymbolError) as error:
            await self._settle(database, gap, "unfillable", 0, f"unfillable: {error}")
        except RateLimited as error:
            self._metrics.backfill_failures.labels(gap.exchange, "rate_limited").inc()
            await (following or self._venues.of(gap.exchange, gap.channel))[0].refused(database, error)
        except NotYet as error:
            self._postpone(gap, str(error))
        except FeedError as error:
            self._metrics.backfill_failures.labels(gap.exchange, type(error).__name__).inc()
            for venue in self._venues.of(gap.exchange, gap.channel):
                venue.failed()
            self._postpone(gap, str(error))
        else:
            for venue in following:
                venue.answered()
            age_us = now_us() - from_datetime(gap.ended_at)
            rows = filled.rows if gap.channel == "trades" else filled.rows + self._rows_before.pop(gap.id, 0)
            if filled.missing and filled.may_come and age_us < _REST_LATE_US:
                self._postpone(gap, filled.verdict)
                self._rows_before[gap.id] = rows
                return
            self._metrics.backfill_rows.labels(gap.exchange, gap.channel).inc(rows)
            status = "unfillable" if filled.missing else "filled"
            await self._settle(database, gap, status, rows, filled.verdict)

    async def _settle(self, database: Database, gap: Gap, status: str, rows: int, verdict: str) -> None:
        await gap_filling.settle(database, gap, status, rows, verdict)
        self._postponed.pop(gap.id, None)
        self._metrics.backfill_gaps.labels(gap.channel, status).inc()
        log.info(
            f"gap_{status}",
            exchange=gap.exchange,
            symbol=gap.symbol,
            channel=gap.channel,
            gap=gap.id,
            begins=iso_text(from_datetime(gap.started_at)),
            ends=iso_text(from_datetime(gap.ended_at)),
            rows=rows,
            verdict=verdict[:300],
        )

    def _postpone(self, gap: Gap, reason: str, *, at_least_s: float = 0.0) -> None:
        if len(self._postponed) >= _POSTPONED_AT_MOST:
            self._postponed.clear()  # costs only delays: all of them are due at once
            self._rows_before.clear()
        _, backoff = self._postponed.get(gap.id, (0.0, Backoff(base_s=1.0, cap_s=300.0)))
        delay_s = backoff.next_s(at_least_s + 0.5)
        self._postponed[gap.id] = (monotonic_s() + delay_s, backoff)
        if self._log_limit.allows(f"{gap.id} {reason}"):
            log.info(
                "gap_postponed", gap=gap.id, exchange=gap.exchange, symbol=gap.symbol, reason=reason[:300],
                attempts=backoff.attempts,
            )  # fmt: skip

    async def _audit(self, database: Database) -> None:
        for venue in self._venues.all:
            if "trades" not in venue.feed.channels or await venue.is_paused(database):
                continue
            try:
                await self._auditor.turn(database, await venue.history())
            except RateLimited as error:
                await venue.refused(database, error)
            except (Unfillable, ChannelError, SymbolError) as error:
                log.debug("no_candles_to_audit", exchange=venue.exchange, error=str(error)[:300])
            except FeedError as error:
                venue.failed()
                self._metrics.backfill_failures.labels(venue.exchange, type(error).__name__).inc()
                log.info("audit_failed", exchange=venue.exchange, error=str(error)[:300])

    def _accepts(self, record: object) -> bool:
        return rejection_reason(record, self._time_window(now_us())) is None  # type: ignore[arg-type] # any market record

    async def _connected(self) -> Database:
        if self._database is None or self._database.is_closed:
            self._database = await self._access.connect(call_timeout_s=_REFRESH_S)
            await check_schema(self._database)
        return self._database

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.terminate()
            self._database = None
