"""Repeats a write until it succeeds; manages the connection and the status of a durable sink.

`errors.reaction_to` decides what to do about each error; this file does it. The writer handles bad and duplicate rows
or messages itself, inside one attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import structlog

from ingestd import errors
from ingestd.clock import monotonic_s, wait_at_most
from ingestd.errors import Reaction
from ingestd.ops.metrics import Metrics
from ingestd.retry import Backoff
from ingestd.status import SinkStatus

log = structlog.get_logger()

RETRY_CAP_S = 1.5  # short, so that the first commit comes soon after the server is back
_PAUSE_CAP_S = 15.0
_NEED_A_PERSON = (Reaction.PAUSE, Reaction.REJECT_ROW, Reaction.REJECT_AMONG_OTHERS, Reaction.DEDUPLICATE)
_REFUSALS_UNTIL_STUCK = 3  # consecutive refusals
_LAST_RETRY_S = 0.2  # between attempts, while finishing
_LAST_CONNECT_S = 4.0  # to connect, while finishing


class Connection(Protocol):
    """A connection as the writer uses it."""

    @property
    def is_closed(self) -> bool: ...

    def terminate(self) -> None:
        """Cut the connection immediately."""


ConnectionT = TypeVar("ConnectionT", bound=Connection)


class PersistentWriter(Generic[ConnectionT]):
    """Repeats attempts on a connection of its own until they succeed.

    For the log, `waiting` returns the number of records not stored yet, and `doubtful` the number left by an earlier
    run, which may have stored them. `logs_outages`: whether this writer logs that its server is away; only one of the
    writers that share a server does. After `finish_asked` it gives up at the second consecutive failure; records not
    stored stay where they came from.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[ConnectionT]],
        metrics: Metrics,
        waiting: Callable[[], int],
        doubtful: Callable[[], int] = lambda: 0,
        *,
        logs_outages: bool = True,
    ) -> None:
        self.name = name
        self.status = SinkStatus(name, problem="it has not reached its server yet")
        self.finish_asked = asyncio.Event()
        self._connect = connect
        self._metrics = metrics
        self._waiting = waiting
        self._doubtful = doubtful
        self._logs_outages = logs_outages
        self._connection: ConnectionT | None = None
        self._failing_since_s = 0.0
        self._logged_outage = False
        self._retry = Backoff(base_s=0.1, cap_s=RETRY_CAP_S)
        self._pause = Backoff(base_s=1.0, cap_s=_PAUSE_CAP_S)

    async def until_done(
        self, attempt: Callable[[ConnectionT], Awaitable[None]], after_failure: Callable[[], None] = lambda: None
    ) -> bool:
        """Repeat `attempt` until it succeeds. False: the daemon is stopping, and two attempts in a row failed.

        `after_failure` is called after each failure, to forget what was known about the server.
        """
        while True:
            try:
                await attempt(await self._connected())
            except Exception as error:  # noqa: BLE001 # an unknown error is retried and alarmed: it must not end the capture
                delay_s = self._note(error)
                self.disconnect()
                after_failure()
                if self.finish_asked.is_set() and self.status.attempts_failed > 1:
                    if records := self._waiting():
                        log.warning("sink_leaves_records", sink=self.name, records=records)
                    return False
                if await wait_at_most(delay_s, self.finish_asked):
                    await asyncio.sleep(min(delay_s, _LAST_RETRY_S))
            else:
                self._recovered()
                return True

    def disconnect(self) -> None:
        """Cut the connection. After an error it may be in the middle of a COPY, which rules out an orderly close."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def reconnected(self) -> ConnectionT:
        """Replace the connection during an attempt."""
        self.disconnect()
        return await self._connected()

    def level_of(self, error: Exception, *, alarming: bool) -> str:
        """The log level of an error."""
        if alarming:
            return "error"
        return "warning" if self._logs_outages or not errors.is_away(error) else "debug"

    async def _connected(self) -> ConnectionT:
        if self._connection is None or self._connection.is_closed:
            limit_s = _LAST_CONNECT_S if self.finish_asked.is_set() else None
            try:
                async with asyncio.timeout(limit_s):
                    self._connection = await self._connect()
            except TimeoutError as error:
                raise errors.ConnectionLost(f"the server of {self.name} does not answer") from error
        return self._connection

    def _delay_s(self, error: Exception) -> float:
        reaction, failed_again = errors.reaction_to(error), self.status.attempts_failed > 1
        needs_a_person = reaction is Reaction.PAUSE or (reaction is Reaction.RECONNECT and failed_again)
        is_long = needs_a_person or isinstance(error, errors.SchemaError) or self.status.is_stuck
        return (self._pause if is_long else self._retry).next_s()

    def _note(self, error: Exception) -> float:
        """Count and log a failure. Return the seconds until the next attempt."""
        status = self.status
        status.up, status.problem = False, str(error) or type(error).__name__
        if not status.attempts_failed:
            self._failing_since_s = monotonic_s()
        status.attempts_failed += 1
        status.is_stuck = status.attempts_failed >= _REFUSALS_UNTIL_STUCK and errors.may_be_of_a_row(error)
        self._metrics.sink_up.labels(self.name).set(0)
        kind = kind_of(error)
        self._metrics.sink_errors.labels(self.name, kind).inc()
        # Errors of a row or a duplicate come here only if the writer could not isolate or merge it.
        alarming = not errors.is_known(error) or errors.reaction_to(error) in _NEED_A_PERSON or status.is_stuck
        if alarming:
            self._metrics.sink_alarms.labels(self.name).inc()
        delay_s = self._delay_s(error)
        if self._retry.is_logged(status.problem):
            level = self.level_of(error, alarming=alarming)
            self._logged_outage |= level != "debug"
            getattr(log, level)(
                "sink_write_failed",
                sink=self.name,
                error=status.problem,
                kind=kind,
                exc_info=None if errors.is_known(error) else error,
                attempts=status.attempts_failed,
                records_waiting=self._waiting(),
                **({"of_an_earlier_run_and_maybe_stored": doubtful} if (doubtful := self._doubtful()) else {}),
                retry_in_s=round(delay_s, 1),
            )
        return delay_s

    def _recovered(self) -> None:
        if self.status.attempts_failed:
            (log.info if self._logged_outage else log.debug)(
                "sink_writes_again",
                sink=self.name,
                after_s=round(monotonic_s() - self._failing_since_s, 1),
                after_attempts=self.status.attempts_failed,
                records_to_catch_up=self._waiting(),
            )
        self.status.up, self.status.problem, self.status.attempts_failed = True, None, 0
        self.status.is_stuck = self._logged_outage = False
        self._metrics.sink_up.labels(self.name).set(1)
        self._retry.settled()
        self._pause.settled()


def kind_of(error: Exception) -> str:
    """The label of an error in the metrics: the server's own name for the error, if there is one."""
    if isinstance(error, errors.DatabaseError):
        return error.sqlstate
    if isinstance(error, errors.InfluxError):
        return f"http_{error.status}"
    return error.name if isinstance(error, errors.KafkaError) else type(error).__name__
