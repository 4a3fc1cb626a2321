"""What the daemon does in the database besides storing rows: candles, retention, `symbols`, `sync_status`.

It has a connection of its own, so that it never delays a flush. A step that fails is tried again when it is next due.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from ingestd.clock import monotonic_s
from ingestd.config.models import Config
from ingestd.errors import IngestdError
from ingestd.log_limit import LogLimit
from ingestd.ops.metrics import Metrics
from ingestd.status import MarketInfo
from ingestd.storage import agreed_retention, packs, retention, rollups, symbols
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migrate import check_schema
from ingestd.storage.system_events import SystemEvents

log = structlog.get_logger()

_ROLLUPS_EVERY_S = 2.0
_ROLLUPS_AT_LEAST_EVERY_S = 30.0
_PURGE_EVERY_S = 3600.0
_MARKETS_AGAIN_S = 60.0  # after a failure
JOBS_EVERY_S = 60.0
SYNC_EVERY_S = 60.0
_SYNC_SHARE = 50  # the least pause after `sync_status`, as a multiple of how long it took
_REFRESHES_FAILED = 2  # failures in a row that make a problem: refreshes come every few seconds, other steps rarely


def pause_s(refresh_took_s: float) -> float:
    """How long to wait before the next refresh of candles: nine times as long as the last one took, within limits.
    A minute with new trades is computed again as a whole, so refreshes get longer with the rate of trades."""
    return min(max(_ROLLUPS_EVERY_S, 9 * refresh_took_s), _ROLLUPS_AT_LEAST_EVERY_S)


class Upkeep:
    """Refreshes candles and deletes old rows where the server does not do it itself; keeps `symbols` up to date."""

    def __init__(
        self,
        access: DatabaseAccess,
        config: Config,
        markets: Callable[[], Sequence[MarketInfo]],
        metrics: Metrics,
        events: SystemEvents | None = None,
    ) -> None:
        self._access = access
        self._config = config
        self._markets = markets
        self._events = events
        self._stored_markets: Sequence[MarketInfo] = ()
        self._database: Database | None = None
        self._engine: Engine | None = None
        self._metrics = metrics
        self._refresh_took_s = 0.0
        self._due_s: dict[str, float] = {}  # when a step that is not for every turn is due again
        self._turn = asyncio.Lock()
        self._failures: Counter[str] = Counter()  # in a row, by step
        self._log_limit = LogLimit()
        self._errors: dict[str, str] = {}  # of the last failure, by step

    async def run(self) -> None:
        """Run turns until cancelled."""
        while True:
            await self.turn()
            await asyncio.sleep(pause_s(self._refresh_took_s))

    async def turn(self) -> None:
        """Do everything that is due, once. A step that fails does not stop the others."""
        async with self._turn:
            for step in (
                self._refresh_candles,
                self._look_at_jobs,
                self._store_markets,
                self._purge,
                self._note_sync,
                self._store_events,
            ):
                name = "connect"
                try:
                    connected = await self._connected()
                    self._succeeded(name)
                    name = step.__name__.strip("_")
                    if await step(*connected):
                        self._succeeded(name)
                except Exception as error:  # noqa: BLE001 # capture goes on whatever upkeep meets; it is counted
                    self._failed(name, error)
                    self._disconnect()
                    if name == "connect":
                        return

    def problems(self) -> list[str]:
        """The steps that fail repeatedly, each as a sentence. A lost connection is reported by the sink."""
        return [
            f"The upkeep of the database fails at {step} ({failures} in a row): {self._errors[step]}"
            for step, failures in self._failures.items()
            if failures >= (_REFRESHES_FAILED if step == "refresh_candles" else 1) and step != "connect"
        ]

    def _failed(self, step: str, error: Exception) -> None:
        self._errors[step] = str(error)[:300]
        self._metrics.upkeep_failures.labels(step).inc()
        self._failures[step] += 1
        if self._log_limit.allows(f"{step}: {error}"):
            report = log.debug if step == "connect" and _bug(error) is None else log.warning  # the sink reports it
            report(
                "upkeep_failed",
                step=step,
                error=str(error),
                attempts=self._failures[step],
                exc_info=_bug(error),
                retry_in_s=round(pause_s(self._refresh_took_s), 1),
            )

    def _succeeded(self, step: str) -> None:
        if failures := self._failures.pop(step, 0):
            self._log_limit.clear()
            (log.debug if step == "connect" else log.info)("upkeep_works_again", step=step, after_attempts=failures)

    async def _refresh_candles(self, database: Database, engine: Engine) -> bool:
        started_s = monotonic_s()
        await rollups.refresh(database, engine)
        self._refresh_took_s = monotonic_s() - started_s
        return True

    async def _look_at_jobs(self, database: Database, engine: Engine) -> bool:
        """Raise IngestdError if the server's own jobs, which refresh and drop, fail. False: it was not due."""
        if not self._is_due("jobs", JOBS_EVERY_S):
            return False
        if (failing := await rollups.failing_job(database, engine)) is not None:
            raise IngestdError(failing)
        return True

    async def _purge(self, database: Database, engine: Engine) -> bool:
        """Delete old rows. False: it was not due, so the last result still counts."""
        if not self._is_due("purge", _PURGE_EVERY_S):
            return False
        await retention.purge(database, engine, await agreed_retention.kept(database, self._config))
        return True

    async def _store_markets(self, database: Database, _engine: Engine) -> bool:
        """Store the markets if they have changed. False: after a failure it is not due yet."""
        markets = self._markets()
        if markets == self._stored_markets:
            return True
        if not self._is_due("markets", _MARKETS_AGAIN_S):
            return False
        await symbols.store_lists(database, markets)
        self._stored_markets = markets
        del self._due_s["markets"]
        return True

    async def _note_sync(self, database: Database, _engine: Engine) -> bool:
        """Bring `sync_status` of the pack fks up to date. False: it was not due, or there is no such pack."""
        if "fks" not in packs.configured(self._config) or not self._is_due("sync", SYNC_EVERY_S):
            return False
        started_s = monotonic_s()
        await database.execute("SELECT fks.note_sync()")
        self._due_s["sync"] = max(self._due_s["sync"], monotonic_s() + _SYNC_SHARE * (monotonic_s() - started_s))
        return True

    async def _store_events(self, database: Database, _engine: Engine) -> bool:
        if self._events is not None:
            await self._events.store(database)
        return True

    def _is_due(self, what: str, every_s: float) -> bool:
        """Whether this step is due; then it is due again after `every_s`."""
        is_due = monotonic_s() >= self._due_s.get(what, 0.0)
        if is_due:
            self._due_s[what] = monotonic_s() + every_s
        return is_due

    async def close(self, *, within_s: float) -> None:
        """Run one last turn, if the database answers in time, so that candles include all stored trades. Disconnect."""
        if self._database is not None:
            try:
                async with asyncio.timeout(within_s):
                    await self.turn()
            except TimeoutError:
                log.warning("upkeep_unfinished", limit_s=within_s)
        self._disconnect()

    async def _connected(self) -> tuple[Database, Engine]:
        if self._database is None or self._engine is None or self._database.is_closed:
            self._database = await self._access.connect_bounded()
            self._engine = await check_schema(self._database)
        return self._database, self._engine

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.terminate()
            self._database = None


def _bug(error: Exception) -> Exception | None:
    """The error if its traceback belongs in the log; None: the message explains it."""
    return None if isinstance(error, (IngestdError, OSError, TimeoutError)) else error
