"""Decides which of several daemons captures a shard: waits for the lease, renews it, and reports its loss.

A leader that cannot renew its lease because the database does not answer goes on capturing: then no other daemon can
take the lease either, except one that still reaches the database, and records captured by both are resolved when they
are stored (`leases.Terms`). Only a newer term, read from the database, ends a leader.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TypeVar

import structlog

from ingestd import files
from ingestd.clock import iso_text, monotonic_s
from ingestd.config.models import InstanceConfig
from ingestd.errors import ConfigError, IngestdError, LeaseLost, is_away
from ingestd.ops.metrics import Metrics
from ingestd.storage import leases
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.leases import Tenant, Term, Title

log = structlog.get_logger()

T = TypeVar("T")

_HOLDER = "lease-holder"  # file with a mark that tells this state directory from a copy on another host
# For the log: whether capture goes on while the database does not answer.
_NOTHING_YET = "none, until the database says who leads"
_WITHOUT_LEASE = "goes on without the lease: this one led when the database last said"
_GOES_ON = "goes on: nobody else can take the lease meanwhile"
_HELD = "lease-held"  # file that exists if this daemon was the leader when the database last answered


class Leadership:
    """One daemon's claim to capture `lease`.

    A leader renews four times in `ttl_s`. A standby takes over when the lease has been expired for half of `ttl_s`
    while the database answered, so that after an outage of the database the old leader comes first.
    """

    def __init__(self, access: DatabaseAccess, lease: str, config: InstanceConfig, metrics: Metrics) -> None:
        self.waits_for: str | None = "The lease has not been asked for yet."
        self.problem: str | None = None  # why the lease cannot be renewed
        self._access = access
        self._lease = lease
        self._state_dir = config.state_dir
        self._ttl_s = config.lease_ttl_s
        self._standby = config.standby
        metrics.lease_held.set_function(lambda: self._term is not None and self.problem is None)
        metrics.lease_epoch.set_function(lambda: self.epoch)
        self._term: Term | None = None
        self._database: Database | None = None
        self._over_since: tuple[int, float] | None = None  # the epoch found expired, and the monotonic time
        self._turn = asyncio.Lock()

    @cached_property
    def _tenant(self) -> Tenant:
        path = self._state_dir / _HOLDER
        try:
            mark = files.read(path).decode("ascii").strip()
        except (OSError, UnicodeDecodeError):
            mark = ""
        if not mark:
            mark = secrets.token_hex(4)
            files.replace(path, f"{mark}\n".encode())
        return Tenant(self._lease, f"{socket.gethostname()}:{self._state_dir.absolute()}#{mark}")

    @cached_property
    def title(self) -> Title:
        """The lease title that the sink needs. Marks the state directory, which this process must have locked."""
        return Title(self._tenant)

    @property
    def epoch(self) -> int:
        """The epoch of the term held; 0 if none is held."""
        return 0 if self._term is None else self._term.epoch

    async def gain(self) -> Term | None:
        """Wait until this daemon may capture. Return another daemon's term that it takes over, None if there was none.

        If the database does not answer, the daemon that was the leader when it last answered may capture.
        """
        begun_s = monotonic_s()
        while True:
            try:
                before = await self._asked(self._newest)
                if before is None or before[0].mine:
                    may_take = before is not None or not self._standby or monotonic_s() - begun_s > self._ttl_s
                else:
                    may_take = before[1] and self._is_over_for_long(before[0])
                if may_take and await self._take(None if before is None else before[0]):
                    return await self._taken_over(before)
                self._wait_for(before)
            except (IngestdError, OSError, TimeoutError) as error:
                goes_on = (self._state_dir / _HELD).exists() and not self._standby
                self._note(error, _WITHOUT_LEASE if goes_on else _NOTHING_YET, self._ttl_s / 12)
                if goes_on:
                    self.waits_for = None
                    return None
                self.waits_for = f"The database does not say who captures: {self.problem}"
            await asyncio.sleep(self._ttl_s / 12)

    async def hold(self) -> None:
        """Renew the lease until cancelled. Raises LeaseLost."""
        while True:
            await asyncio.sleep(self._ttl_s / 4)
            try:
                await self._keep()
            except LeaseLost:
                self._mark_held(held=False)
                self._term = None
                raise
            except (IngestdError, OSError, TimeoutError) as error:
                self._note(error, _GOES_ON, self._ttl_s / 4)

    async def release(self, within_s: float) -> None:
        """Give the lease back if the database answers in time, so that a standby need not wait."""
        term, self._term = self._term, None
        if term is not None:
            try:
                async with asyncio.timeout(within_s):
                    await self._asked(lambda database: leases.release(database, self._lease, term.epoch))
            except (IngestdError, OSError, TimeoutError) as error:
                log.warning("lease_not_released", lease=self._lease, error=str(error) or type(error).__name__)
        self._disconnect()

    async def _keep(self) -> None:
        term = self._term
        if term is None:  # capturing without a lease, because the database did not answer
            before = await self._asked(self._newest)
            if before is not None and not before[0].mine and not before[1]:
                raise LeaseLost(self._lost_to(before[0]))
            await self._take(None if before is None else before[0])
        elif not await self._asked(lambda database: leases.renew(database, self._lease, term.epoch, self._ttl_s)):
            before = await self._asked(self._newest)
            raise LeaseLost(self._lost_to(None if before is None else before[0]))
        if self.problem is not None and term is not None:
            log.info("lease_renewed_again", lease=self._lease, term=term.epoch)
        self.problem = None

    async def _take(self, before: Term | None) -> bool:
        term = await self._asked(lambda database: leases.take(database, self._tenant, before, self._ttl_s))
        if term is None:
            return False
        self._term = term
        self.title.forget()
        self._mark_held(held=True)
        self.waits_for = self.problem = None
        after = None if before is None else "itself" if before.mine else before.holder
        log.info("lease_taken", lease=self._lease, term=term.epoch, after=after)
        return True

    async def _taken_over(self, before: tuple[Term, bool] | None) -> Term | None:
        """Return the previous term if it was another daemon's, after ending that daemon's stalled database sessions."""
        if before is None or before[0].mine:
            return None
        try:
            await self._asked(lambda database: leases.disconnect_stalled(database, self._ttl_s))
        except (IngestdError, OSError, TimeoutError) as error:
            log.warning("stalled_writer_not_looked_for", error=str(error) or type(error).__name__)
        return before[0]

    def _is_over_for_long(self, term: Term) -> bool:
        if term.renewed_at == term.expires_at and not self._standby:
            return True  # given back
        now_s = monotonic_s()
        if self._over_since is None or self._over_since[0] != term.epoch:
            self._over_since = term.epoch, now_s
        return now_s - self._over_since[1] >= self._ttl_s / 2

    def _wait_for(self, before: tuple[Term, bool] | None) -> None:
        self.problem = None
        if before is None:
            self.waits_for = f"This is the standby of {self._lease}: the other one may begin first."
            return
        term, over = before
        if not over:
            self._over_since = None
            self._mark_held(held=False)  # in an outage from now on, this daemon is not the leader
        text = "ran out, it is about to be taken over" if over else "is renewed"
        if self.waits_for is None or term.holder not in self.waits_for:
            log.info("standing_by", lease=self._lease, term=term.epoch, holder=term.holder)
        self.waits_for = f"This is a standby: {term.holder} holds the lease {self._lease}, which {text}."

    def _lost_to(self, term: Term | None) -> str:
        if term is None:
            return f"the lease {self._lease} was deleted from ingest_leases"
        return (
            f"{term.holder} has captured {self._lease} since {iso_text(term.taken_at)} (term {term.epoch}): "
            "this one stops, and started again it stands by"
        )

    async def _newest(self, database: Database) -> tuple[Term, bool] | None:
        return await leases.newest(database, self._tenant)

    async def _asked(self, question: Callable[[Database], Awaitable[T]]) -> T:
        """Ask the database on a connection of our own. An answer that takes longer than a third of `ttl_s` is none."""
        async with self._turn:
            try:
                async with asyncio.timeout(max(0.5, self._ttl_s / 3)):
                    if self._database is None or self._database.is_closed:
                        self._database = await self._access.connect_bounded()
                    return await question(self._database)
            except BaseException:
                self._disconnect()
                raise

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.terminate()
            self._database = None

    def _note(self, error: Exception, capture: str, retry_in_s: float) -> None:
        if isinstance(error, ConfigError):
            raise error
        self._over_since = None  # count the time only while the database answers
        text = str(error) or type(error).__name__
        if self.problem is None:
            log.warning(
                "lease_not_renewed" if self._term is not None else "lease_not_taken",
                lease=self._lease,
                because="the database is away" if is_away(error) else text,
                capture=capture,
                retry_in_s=round(retry_in_s, 1),
            )
        self.problem = text

    def _mark_held(self, *, held: bool) -> None:
        path = self._state_dir / _HELD
        try:
            if held:
                os.close(files.open_own(path))
            else:
                path.unlink(missing_ok=True)
        except OSError as error:  # such as a full disk; the file only matters at a start without the database
            log.warning("lease_mark_not_written", path=str(path), error=str(error))
