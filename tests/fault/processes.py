"""The processes of a fault run: a database that may be killed, the emitter, the worker and the daemons it forks."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import aiohttp

from ingestd.lab.sim.child import EmbeddedServerError
from ingestd.lab.sim.embedded import EmbeddedPostgres
from ingestd.storage.database import Database
from ingestd.storage.engine import EngineChoice
from ingestd.storage.migrate import migrate
from tests.fault import emitter, worker
from tests.support.fast_disk import fastest_folder
from tests.support.forked import forked_with_pipes
from tests.support.postgres import default_config, run_apart, timescaledb_binaries

DATABASE = "market"
# As in production where it matters: what is committed is written when it is said to be. Processes die here, not hosts.
_SETTINGS = {"fsync": "off", "autovacuum": "off", "max_connections": "30", "restart_after_crash": "on"}
_TIMESCALE = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": "0",
}


class KillableServer:
    """A PostgreSQL server whose processes may be killed and which comes back with its data, at another port."""

    def __init__(self, engine: str = "postgres", **settings: str) -> None:
        """With a migrated `DATABASE`."""
        self._folder = _temporary_folder()
        subprocess.run(["cp", "-a", _migrated_server(engine), self._folder / "server"], check=True)
        self.postgres = _postgres(engine, self._folder / "server", **settings)

    def __enter__(self) -> Self:
        self.postgres.start()
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.postgres.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        assert self.postgres.pid is not None
        return self.postgres.pid

    @property
    def port(self) -> int:
        return int(self.postgres.dsn().rpartition(":")[2].partition("/")[0])

    def dsn(self, database: str = "postgres", port: int | None = None) -> str:
        """`port`: by way of a proxy there."""
        return self.postgres.dsn(database).replace(f":{self.port}/", f":{port or self.port}/")

    def pids(self) -> list[int]:
        """The postmaster and all its children."""
        if self.postgres.pid is None:
            return []
        return [self.pid, *_children(self.pid)]

    def backends(self, database: str) -> list[int]:
        """The processes that serve connections to a database."""
        return [pid for pid in _children(self.pid) if f" {database} ".encode() in _title(pid)]

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """The whole server, at once: SIGKILL, or SIGQUIT for the immediate shutdown."""
        os.kill(self.pid, number)

    def restart(self) -> None:
        """After `kill`. Blocks until it accepts connections."""
        self.postgres.stop()
        for attempt in range(10):
            try:
                self.postgres.start()
            except EmbeddedServerError:  # a backend of the one before is not gone yet
                if attempt == 9:
                    raise
            else:
                return

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Every process stopped for the length of the block."""
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


@functools.cache
def _migrated_server(engine: str) -> Path:
    """The folder of a server that has `DATABASE` and does not run: to be copied."""
    folder = _temporary_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with _postgres(engine, folder / "server") as postgres:
        run_apart(_migrate(postgres, "timescaledb" if engine == "timescaledb" else "postgres"))
    return folder / "server"


async def _migrate(postgres: EmbeddedPostgres, engine: EngineChoice) -> None:
    admin = await Database.connect(postgres.dsn())
    await admin.execute(f"CREATE DATABASE {DATABASE}")
    await admin.close()
    db = await Database.connect(postgres.dsn(DATABASE))
    await migrate(db, default_config(), engine=engine)
    await db.close()


def _postgres(engine: str, folder: Path, **settings: str) -> EmbeddedPostgres:
    timescale = engine == "timescaledb"
    return EmbeddedPostgres(
        folder,
        binaries=timescaledb_binaries() if timescale else None,
        settings={**_SETTINGS, **(_TIMESCALE if timescale else {}), **settings},
    )


def _temporary_folder() -> Path:
    """One that the account which runs the server can reach."""
    folder = Path(tempfile.mkdtemp(prefix="ingestd-fault-", dir=fastest_folder()))
    folder.chmod(0o755)
    return folder


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _title(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    return b""


def rss_bytes(pid: int) -> int:
    """What a process holds in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class EmitterProcess:
    """`tests.fault.emitter`, asked and told over its pipes."""

    def __init__(self, told: asyncio.StreamReader, orders: asyncio.WriteTransport) -> None:
        self._told_by = told
        self._orders = orders
        self.port = 0
        self.state: dict[str, Any] = {}
        self._report: asyncio.Future[dict[str, Any]] | None = None
        self._told = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def follow(self) -> None:
        self.port = json.loads(await self._told_by.readline())["port"]
        self.task = asyncio.create_task(self._follow(self._told_by))

    def order(self, **wanted: object) -> None:
        self._orders.write(json.dumps(wanted).encode() + b"\n")

    async def report(self) -> dict[str, Any]:
        """The whole ledger of this round."""
        self._report = asyncio.get_running_loop().create_future()
        self.order(report=True)
        return await asyncio.wait_for(self._report, 60)

    async def next_state(self, timeout_s: float = 60) -> dict[str, Any]:
        self._told.clear()
        await asyncio.wait_for(self._told.wait(), timeout_s)
        return self.state

    async def _follow(self, out: asyncio.StreamReader) -> None:
        while line := await out.readline():
            message = json.loads(line)
            if "journaled" in message:
                if self._report is not None and not self._report.done():
                    self._report.set_result(message)
            else:
                self.state = message
                self._told.set()


@asynccontextmanager
async def running_emitter(rate: float) -> AsyncIterator[EmitterProcess]:
    """An emitter of so many events a second."""
    async with forked_with_pipes(partial(emitter.main, rate)) as (told, orders):
        process = EmitterProcess(told, orders)
        await process.follow()
        try:
            yield process
        finally:
            assert process.task is not None
            process.task.cancel()


class Daemon:
    """One forked daemon."""

    def __init__(self, pid: int, url: str) -> None:
        self.pid = pid
        self.url = url
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def signal(self, number: signal.Signals) -> None:
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def end(self, timeout_s: float = 60) -> int:
        """The exit code, once it has ended."""
        return await asyncio.wait_for(asyncio.shield(self.ended), timeout_s)

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of its endpoint; (0, "") while nothing listens."""
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url + path) as reply:
                return reply.status, await reply.text()
        except aiohttp.ClientError:
            return 0, ""

    async def metric(self, name: str) -> float:
        """A metric's sum over its labels; 0 where it is not shown."""
        _, text = await self.get("/metrics")
        lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


class Worker:
    """`tests.fault.worker`: forks daemons within milliseconds."""

    def __init__(self, told: asyncio.StreamReader, orders: asyncio.WriteTransport) -> None:
        self._told = told
        self._orders = orders
        self._started: asyncio.Future[int] | None = None
        self._daemons: dict[int, Daemon] = {}
        self.task: asyncio.Task[None] | None = None

    async def is_ready(self) -> None:
        assert json.loads(await self._told.readline()) == {"ready": True}
        self.task = asyncio.create_task(self._follow(self._told))

    async def start(self, config_file: Path, url: str, log: Path, **order: object) -> Daemon:
        """Fork one. `environ`: what it finds in its environment besides ours; `broken`: see `breakage`."""
        self._started = asyncio.get_running_loop().create_future()
        line = {"config": str(config_file), "log": str(log), **order}
        self._orders.write(json.dumps(line).encode() + b"\n")
        daemon = Daemon(await asyncio.wait_for(self._started, 60), url)
        self._daemons[daemon.pid] = daemon
        return daemon

    def kill_all(self) -> None:
        for daemon in self._daemons.values():
            daemon.signal(signal.SIGKILL)

    async def _follow(self, out: asyncio.StreamReader) -> None:
        while line := await out.readline():
            message = json.loads(line)
            if "started" in message and self._started is not None:
                self._started.set_result(message["started"])
            elif "ended" in message:
                await asyncio.sleep(0)  # who waits for the beginning comes first
                if (daemon := self._daemons.pop(message["ended"], None)) is not None:
                    daemon.ended.set_result(message["code"])


@asynccontextmanager
async def running_worker() -> AsyncIterator[Worker]:
    """A worker, not yet ready; what it forked is killed at the end."""
    async with forked_with_pipes(worker.main) as (told, orders):
        forks = Worker(told, orders)
        try:
            yield forks
        finally:
            forks.kill_all()
            if forks.task is not None:
                forks.task.cancel()
