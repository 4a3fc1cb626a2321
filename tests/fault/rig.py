"""Everything one fault run needs, put together: database behind a proxy, emitter, worker, daemon, and the judging."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

from ingestd import failpoints
from ingestd.errors import ConnectionLost, DatabaseError
from ingestd.lab.sim.child import free_port
from ingestd.ops.account import with_zeros
from ingestd.storage.database import Database
from tests.fault import events
from tests.fault.oracle import Counts, Ledger, Row, Stored, Verdict, judge
from tests.fault.processes import (
    DATABASE,
    Daemon,
    EmitterProcess,
    KillableServer,
    Worker,
    running_emitter,
    running_worker,
)
from tests.fault.proxy import Proxy, proxying
from tests.support.daemon import write_config

_SETTLED_S = 0.3


class Rig:
    """One daemon after the other on one state directory."""

    def __init__(
        self, folder: Path, server: KillableServer, proxy: Proxy, emitter: EmitterProcess, worker: Worker
    ) -> None:
        self.folder = folder
        self.server = server
        self.proxy = proxy
        self.emitter = emitter
        self.worker = worker
        self.daemon: Daemon | None = None
        self.log = folder / "none.log"
        self.lives = 0
        self.config_file = folder / "ingestd.toml"
        self.url = ""
        self._orderly: list[Counts] = []

    def configure(self, **sections: Mapping[str, Any]) -> None:
        """Write the configuration: small files and short limits, so that what is rare in life is frequent here."""
        listen = f"127.0.0.1:{free_port()}"
        document: dict[str, Any] = {
            "instance": {"name": "fault", **sections.pop("instance", {})},
            "http": {"listen": listen},
            "intake": {"linger_ms": 10, **sections.pop("intake", {})},
            "journal": {"file_bytes": "64KiB", "memory_bytes": "64KiB", **sections.pop("journal", {})},
            "database": {
                "dsn": self.server.dsn(DATABASE, self.proxy.port),
                "flush_ms": 20,
                "flush_timeout_s": 2.0,
                "connect_timeout_s": 2.0,
                "lock_timeout_s": 1.0,
                **sections.pop("database", {}),
            },
            "retention": {"trades_days": 0, "market_ticks_days": 0},
            "feeds": [
                {
                    "exchange": "emitter",
                    "symbols": ["every"],
                    "channels": ["ticks", "trades"],
                    "url_map": {"emitter": f"127.0.0.1:{self.emitter.port}"},
                }
            ],
            **sections,
        }
        self.url = f"http://{listen}"
        self.config_file = write_config(self.folder, document)

    async def start(
        self,
        failpoint: str | None = None,
        *,
        broken: str | None = None,
        clock: list[list[float]] | None = None,
        **environ: str,
    ) -> Daemon:
        """The next life of the daemon. `clock`: see `worker.JumpingClock`."""
        self.lives += 1
        self.log = self.folder / f"life-{self.lives}.log"
        self.log.touch()
        if failpoint is not None:
            environ |= {failpoints.VARIABLE: failpoint, failpoints.TEST_FLAG: "1"}
        self.daemon = await self.worker.start(
            self.config_file, self.url, self.log, environ=environ, broken=broken, clock=clock
        )
        return self.daemon

    async def journaled(self, count: int, timeout_s: float = 60) -> None:
        """Until the daemon has answered so many events more. Raises when it ends instead."""
        goal = self.emitter.state.get("answered", 0) + count
        async with asyncio.timeout(timeout_s):
            while self.emitter.state.get("answered", 0) < goal:
                if self.daemon is not None and self.daemon.ended.done():
                    raise DaemonEnded(self.daemon.ended.result(), self.tail())
                await self.emitter.next_state()

    async def committed(self, timeout_s: float = 60) -> None:
        """Until the daemon has stored something more."""
        async with asyncio.timeout(timeout_s):
            db = await self.connect()
            since = await db.fetchval("SELECT clock_timestamp()")
            while True:
                try:
                    if await db.fetchval("SELECT EXISTS (SELECT FROM ingest_positions WHERE updated_at > $1)", since):
                        break
                except (ConnectionLost, DatabaseError):  # the server restarts
                    db.terminate()
                    db = await self.connect()
                await asyncio.sleep(0.01)
            await db.close()

    async def shown(self, metric: str, at_least: float, timeout_s: float = 60) -> float:
        """Until a metric has reached a value; the value."""
        assert self.daemon is not None
        async with asyncio.timeout(timeout_s):
            while (value := await self.daemon.metric(metric)) < at_least:
                await asyncio.sleep(0.05)
        return value

    async def stop(self, expect: int = 0) -> Counts:
        """An orderly end; its final counts are judged with the rest."""
        assert self.daemon is not None
        self.daemon.signal(SIGTERM)
        code = await self.daemon.end()
        assert code == expect, f"ended with {code}:\n{self.tail()}"
        counts = self._counts()
        self._orderly.append(counts)
        return counts

    async def settle(self, *, last: bool = True, stored: Callable[[], Stored] | None = None) -> Verdict:
        """The venue falls silent, everything is drained, and the tables are compared with the ledger.

        `stored` reads another place than the tables.
        """
        self.emitter.order(paused=True)
        if self.daemon is None or self.daemon.ended.done():
            await self.start()
        await self._quiet()
        await self.stop()
        # What was journaled after the feeds were closed has not been answered: the next life reads it back.
        await self.start()
        await self._quiet()
        counts = await self.stop()
        ledger = Ledger.read(await self.emitter.report())
        found = await self._tables() if stored is None else await asyncio.to_thread(stored)
        verdict = judge(ledger, found, self._orderly)
        left = sum(counts["in_journal"].values())
        if left:
            verdict = Verdict(**{**vars(verdict), "complaints": (*verdict.complaints, f"{left} left in the journal")})
        if not last:
            await self._forget()
            self.emitter.order(forget=True)
        self._orderly.clear()
        return verdict

    def tail(self, lines: int = 15) -> str:
        """The end of the daemon's log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    async def connect(self) -> Database:
        """Straight to the server, not by way of the proxy."""
        while True:
            try:
                return await Database.connect(self.server.dsn(DATABASE))
            except (ConnectionLost, DatabaseError):  # the server restarts; whoever waits has a limit
                await asyncio.sleep(0.01)

    async def _quiet(self) -> None:
        """Until a client is connected and answers nothing new."""
        assert self.daemon is not None
        async with asyncio.timeout(60):
            last, since_s = -1, 0.0
            while since_s < _SETTLED_S:
                state = await self.emitter.next_state()
                if self.daemon.ended.done():
                    raise DaemonEnded(self.daemon.ended.result(), self.tail())
                same = state["answered"] == last and state["clients"] == 1
                last, since_s = state["answered"], since_s + 0.05 if same else 0.0

    def _counts(self) -> Counts:
        for line in reversed(self.log.read_text(encoding="utf-8").splitlines()):
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "stopped":
                counts: Counts = with_zeros(event["counts"])
                return counts
        raise AssertionError(f"the daemon did not report its counts:\n{self.tail()}")

    async def _tables(self) -> Stored:
        db = await self.connect()
        try:
            micros = "(extract(epoch FROM time) * 1000000)::bigint"
            ticks = await db.fetch(
                f"SELECT bid_volume::bigint, xmin::text::bigint, symbol, {micros}, bid_price::text, NULL "
                "FROM market_ticks"
            )
            trades = await db.fetch(
                f"SELECT seq, xmin::text::bigint, symbol, {micros}, price::text, quantity::text FROM trades"
            )
            rejected = await db.fetch("SELECT record::text FROM rejected_records")
        finally:
            await db.close()
        return Stored(
            [Row(*row.values()) for row in ticks],
            [Row(*row.values()) for row in trades],
            [events.number_in(row["record"]) for row in rejected],
        )

    async def _forget(self) -> None:
        db = await self.connect()
        await db.script("TRUNCATE trades, market_ticks, rejected_records")
        await db.close()


class DaemonEnded(Exception):
    """The daemon is gone; `code` is how it ended (below zero: by which signal)."""

    def __init__(self, code: int, tail: str) -> None:
        super().__init__(f"the daemon ended with {code}:\n{tail}")
        self.code = code


@asynccontextmanager
async def fault_rig(
    folder: Path, *, rate: float = 2500, engine: str = "postgres", **settings: str
) -> AsyncIterator[Rig]:
    """Everything running but the daemon, with a migrated database."""
    async with running_worker() as worker, running_emitter(rate) as emitter:
        with KillableServer(engine, **settings) as server:
            await worker.is_ready()
            async with proxying(server.port) as proxy:
                rig = Rig(folder, server, proxy, emitter, worker)
                rig.configure()
                yield rig
                worker.kill_all()
