"""Writes points over one connection of its own until each is stored, or is put aside in `influx.refused`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from ingestd.clock import wait_at_most
from ingestd.errors import ConnectionLost, InfluxError
from ingestd.ops.metrics import Metrics
from ingestd.sinks.influx.delivery import Delivery
from ingestd.sinks.influx.points import Flush
from ingestd.sinks.influx.refused import RefusedFile
from ingestd.sinks.influx.server import InfluxServer, settled
from ingestd.sinks.retry import PersistentWriter
from ingestd.status import SinkStatus

_LAST_DELIVERY_S = 3.0  # time to write at shutdown; what is not written stays where it came from
_LONGEST_ASKED_S = 60.0  # of the waits that a server may ask for


class PointWriter:
    """The connection, its status, and what becomes of refused points. After `finish_asked` it soon gives up."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[InfluxServer]],
        state_dir: Path,
        metrics: Metrics,
        waiting: Callable[[], int],
        *,
        logs_outages: bool = True,
    ) -> None:
        """The arguments are those of `PersistentWriter`."""
        self._refused = RefusedFile(state_dir)
        self._taken: set[str] = set()  # measurements of which the server has stored a point
        self._writer = PersistentWriter(name, connect, metrics, waiting, logs_outages=logs_outages)
        self.finish_asked = self._writer.finish_asked

    def status(self) -> SinkStatus:
        """The state of the connection; while it works, whether points were refused lately."""
        status = self._writer.status
        if status.up:
            status.problem = self._refused.problem
        return status

    async def greet(self) -> bool:
        """Only connect, so that the status is known before the first point. False: the daemon stops."""
        return await self._writer.until_done(_greet)

    async def store(
        self, read: Callable[[], Awaitable[Flush]], sent: Callable[[], Awaitable[None]] | None = None
    ) -> Flush | None:
        """Store what `read` returns, then call `sent`; repeat what fails. Returns the flush, whose refusals are then
        those of the server too. None: the daemon stops, and the points are not known to be stored."""
        flush: Flush | None = None
        delivery: Delivery | None = None
        is_kept = False

        async def attempt(server: InfluxServer) -> None:
            nonlocal flush, delivery, is_kept
            if flush is None or delivery is None:
                flush = await read()
                delivery = Delivery(flush, self._taken)
            await delivery.write(server)
            if delivery.refusals and not is_kept:
                await asyncio.to_thread(self._refused.keep, delivery.refusals)
            is_kept = True
            if sent is not None:
                await sent()

        async def in_time(server: InfluxServer) -> None:
            try:
                await self._until_stopped(attempt(server))
            except InfluxError as error:
                await wait_at_most(min(error.retry_after_s, _LONGEST_ASKED_S), self.finish_asked)
                raise

        if not await self._writer.until_done(in_time):
            return None
        assert flush is not None, "an attempt has succeeded"
        assert delivery is not None, "as above"
        flush.refusals = delivery.refusals
        self._refused.tell(flush.refusals)
        return flush

    async def close(self) -> None:
        """Cut the connection, and wait until it is closed."""
        self._writer.disconnect()
        await settled()

    async def _until_stopped(self, work: Awaitable[None]) -> None:
        """Do the work; if the daemon stops, for a few seconds more at most."""
        working = asyncio.ensure_future(work)
        stop = asyncio.create_task(self.finish_asked.wait())
        try:
            await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await asyncio.wait({working}, timeout=_LAST_DELIVERY_S)
            if not working.done():
                raise ConnectionLost(f"the points were not taken within {_LAST_DELIVERY_S:g} s of the stop")
            working.result()
        finally:
            stop.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait({working})


async def _greet(_: InfluxServer) -> None:
    pass
