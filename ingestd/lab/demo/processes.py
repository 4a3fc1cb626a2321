"""The processes that demo and benchmark watch: a database, a simulated venue and the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from ingestd.clock import monotonic_s
from ingestd.config import dsn as config_dsn
from ingestd.config.loading import parse
from ingestd.config.toml_text import to_toml
from ingestd.errors import IngestdError
from ingestd.lab.sim.child import free_port, last_lines
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate

Say = Callable[[str], None]

_READY_S = 60.0
START_S = 300.0  # a busy machine takes tens of seconds to load the libraries
_POLL_S = 0.1
_STOP_S = 30.0
_NO_PROGRESS_S = 20.0  # if nothing arrives for this long, nothing more will


class LabError(IngestdError):
    """A step of the demo or of a measurement failed, and the next one depends on it."""


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Database]:
    """A connection for queries of our own."""
    database = await Database.connect(dsn, application_name="ingestd lab", call_timeout_s=600)
    try:
        yield database
    finally:
        await database.close()


async def execute(dsn: str, sql: str) -> None:
    """Run one statement on a connection of its own."""
    async with connected(dsn) as database:
        await database.execute(sql)


@contextlib.asynccontextmanager
async def new_database(server_dsn: str, purpose: str, *, keep: bool = False) -> AsyncIterator[str]:
    """Create an empty database and yield its DSN; drop it at the end unless it is to be kept."""
    name = f"ingestd_{purpose}_{secrets.token_hex(4)}"
    await execute(server_dsn, f'CREATE DATABASE "{name}"')
    try:
        yield config_dsn.changed(server_dsn, dbname=name)
    finally:
        if not keep:
            await execute(server_dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


async def migrated(dsn: str, document: Mapping[str, Any]) -> None:
    """Create the tables of this version, as a daemon with this configuration needs them."""
    async with connected(dsn) as database:
        await migrate(database, parse(dict(document), {}))


async def settled(read: Callable[[], Awaitable[int]], quiet_s: float, enough: float = float("inf")) -> int:
    """Poll a counter until it is enough, or has not changed for `quiet_s`. Return its last value."""
    last, since_s = -1, monotonic_s()
    while True:
        found = await read()
        if found >= enough:
            return found
        if found != last:
            last, since_s = found, monotonic_s()
        elif monotonic_s() - since_s > quiet_s:
            return found
        await asyncio.sleep(_POLL_S)


@dataclass(frozen=True, slots=True)
class Venue:
    """A running simulator, as its ready line describes it."""

    url_map: dict[str, str]
    control: str
    exchange: str
    symbols: list[str]
    http: aiohttp.ClientSession

    async def start(self) -> None:
        """Start sending, if the simulator was started with `--hold`."""
        await self._post("start")

    async def stop(self) -> None:
        """Stop sending; returns when everything sent has left."""
        await self._post("stop")

    async def _post(self, action: str) -> None:
        async with self.http.post(f"{self.control}/_sim/{action}") as reply:
            reply.raise_for_status()

    async def ledger(self) -> dict[str, Any]:
        async with self.http.get(f"{self.control}/_sim/ledger") as reply:
            reply.raise_for_status()
            document: dict[str, Any] = await reply.json()
            return document

    async def sent(self, what: str) -> list[dict[str, Any]]:
        """Each of the `trades` or `ticks` sent."""
        timeout = aiohttp.ClientTimeout(total=600)
        async with self.http.get(f"{self.control}/_sim/ledger/{what}", timeout=timeout) as reply:
            reply.raise_for_status()
            return [json.loads(line) async for line in reply.content]

    async def until(self, holds: Callable[[dict[str, Any]], bool], within_s: float = _READY_S) -> dict[str, Any]:
        """Wait until the condition holds for the ledger, and return it. Raises LabError on a timeout."""
        deadline_s = monotonic_s() + within_s
        while not holds(ledger := await self.ledger()):
            if monotonic_s() > deadline_s:
                raise LabError(f"the simulator's ledger stayed at {ledger} for {within_s:g} s")
            await asyncio.sleep(_POLL_S)
        return ledger

    def feed(self, decoder: str, channels: Sequence[str] = ("trades",)) -> dict[str, Any]:
        """The `[[feeds]]` section that reads this venue."""
        return {
            "exchange": self.exchange,
            "decoder": decoder,
            "channels": list(channels),
            "symbols": self.symbols,
            "url_map": self.url_map,
        }


@contextlib.asynccontextmanager
async def venue(*arguments: object) -> AsyncIterator[Venue]:
    """Run `python -m ingestd.lab.sim` with these arguments."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingestd.lab.sim", *map(str, arguments), stdout=asyncio.subprocess.PIPE, limit=2**20
    )
    assert process.stdout is not None, "it was asked for"
    try:
        async with asyncio.timeout(_READY_S):
            line = await process.stdout.readline()
        if not line:
            raise LabError("the simulator ended before it served; its own message is above")
        async with aiohttp.ClientSession() as http:
            yield Venue(**json.loads(line), http=http)
    finally:
        await _end(process, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Daemon:
    """The real daemon in a separate process."""

    process: asyncio.subprocess.Process
    metrics_url: str
    log_file: Path
    http: aiohttp.ClientSession

    @property
    def pid(self) -> int:
        return self.process.pid

    async def _metrics(self) -> str | None:
        """The text of the metrics; None while the endpoint is not up. Raises LabError if the daemon has ended."""
        if self.process.returncode is not None:
            raise LabError(f"the daemon ended with {self.process.returncode} while it should have run")
        try:
            async with self.http.get(self.metrics_url) as reply:
                return await reply.text()
        except aiohttp.ClientError:
            return None

    async def stop(self) -> int:
        """Stop the daemon as systemd would, and return its exit code."""
        return await _end(self.process, signal.SIGTERM)

    async def counted(self, counter: str, by: str = "") -> dict[str, int]:
        """One of the daemon's counters by one of its labels; empty while its endpoint is not up.

        Gap records are not counted: a restarted daemon makes them too. Raises LabError if the daemon has ended.
        """
        found: dict[str, int] = {}
        for line in (await self._metrics() or "").splitlines():
            if line.startswith(counter + "{") and 'channel="gaps"' not in line:
                label = re.search(rf'[{{,]{by}="([^"]*)"', line)
                key = label.group(1) if label is not None else ""
                found[key] = found.get(key, 0) + int(float(line.rpartition(" ")[2]))
        return found

    async def until_started(self) -> None:
        """Wait until the daemon's endpoint answers. Raises LabError if it ends before, or takes minutes."""
        deadline_s = monotonic_s() + START_S
        while await self._metrics() is None:
            if monotonic_s() > deadline_s:
                raise LabError(f"the daemon has not started in {START_S:g} s")
            await asyncio.sleep(_POLL_S)

    async def received(self) -> int:
        return sum((await self.counted("ingestd_records_received_total")).values())

    async def stored(self, *sinks: str) -> int:
        """Records stored by the slowest of these sinks."""
        found = await self.counted("ingestd_records_stored_total", "sink")
        return min(found.get(sink, 0) for sink in sinks)

    async def until_stored(self, count: int, *sinks: str) -> None:
        """Wait until each sink has stored that many records (to 0.1 s). Raises LabError if the sinks stop before."""
        stored = await settled(lambda: self.stored(*sinks), _NO_PROGRESS_S, count)
        if stored < count:
            raise LabError(f"stored {stored}, not {count}")


@contextlib.asynccontextmanager
async def daemon(folder: Path, document: Mapping[str, Any], *options: str) -> AsyncIterator[Daemon]:
    """Run `ingestd run` with this configuration and its state in the folder; it is killed at the end if it still runs.

    The last lines of its log are added to a LabError.
    """
    listen = f"127.0.0.1:{free_port()}"
    config_file, log_file = folder / "ingestd.toml", folder / "daemon.log"
    instance = {"state_dir": str(folder / "state"), **document["instance"]}
    whole = {**document, "instance": instance, "log": {"format": "json"}, "http": {"listen": listen}}
    config_file.write_text(to_toml(whole), encoding="utf-8")
    command = [sys.executable, "-m", "ingestd", "run", "-c", str(config_file), *options]
    # Nothing of this process's environment may override the configuration or reach systemd.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("INGESTD_") and name != "NOTIFY_SOCKET"
    }
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=environment)
    try:
        async with aiohttp.ClientSession() as http:
            yield Daemon(process, f"http://{listen}/metrics", log_file, http)
    except LabError as error:
        words = last_lines(log_file)
        logged = f"the daemon's last words:\n{words}" if words else "the daemon has logged nothing"
        raise LabError(f"{error}\n{logged}") from error
    finally:
        await _end(process, signal.SIGKILL)


async def _end(process: asyncio.subprocess.Process, number: signal.Signals) -> int:
    """Send the signal, kill the process if it does not end in time, and return its exit code."""
    if process.returncode is None:
        process.send_signal(number)
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
    assert process.returncode is not None, "it has ended"
    return process.returncode
